"""One visitor of the workbench in a browser: a `xin tui` of its own, spoken to over pipes as textual-serve does."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

QUIT_SECONDS = 3.0
TERMINATE_SECONDS = 2.0
MOST_PACKET_BYTES = 64 * 2**20
_PRELUDE = b"__GANGLION__\n"  # what Textual's web driver says first
_PRELUDE_LINES = 20


def workbench(endpoint: str) -> list[str]:
    """The command that shows the workbench of the node at `endpoint`."""
    return [sys.executable, "-P", "-m", "xin", "tui", "-e", endpoint]


class Visit(AppService):
    """Its process's output goes to `write_bytes` and `write_str`; its stderr to the node's. `stop` always ends it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        write_bytes: Callable[[bytes], Awaitable[None]],
        write_str: Callable[[str], Awaitable[None]],
        close: Callable[[], Awaitable[Any]],
        downloads: DownloadManager,
    ) -> None:
        super().__init__(
            shlex.join(command), write_bytes=write_bytes, write_str=write_str, close=close, download_manager=downloads
        )
        self._command = command

    async def stop(self) -> None:
        """Ask it to quit, then terminate, then kill it. Idempotent; returns when the process is gone."""
        process, task = self._process, self._task
        if process is None or task is None:
            return
        await self._download_manager.cancel_app_downloads(self.app_service_id)
        if process.returncode is None:
            await self.send_meta({"type": "quit"})
            self.stdin.close()
            await _end(process)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def run(self) -> None:
        """Pass packets on until the process ends, then close the visitor's connection."""
        assert self._process is not None and self._process.stdout is not None
        stdout = self._process.stdout
        try:
            if await _says_that_it_is_textual(stdout):
                while True:
                    await self._take_packet(stdout)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            with suppress(ConnectionError):
                await self.remote_close()

    async def _take_packet(self, stdout: asyncio.StreamReader) -> None:
        head = await stdout.readexactly(5)
        size = int.from_bytes(head[1:], "big")
        if size > MOST_PACKET_BYTES:
            raise ConnectionResetError(f"a packet of {size} bytes")
        payload = await stdout.readexactly(size)
        match head[:1]:
            case b"D":
                await self.on_data(payload)
            case b"M":
                await self.on_meta(payload)
            case b"P":
                await self.on_packed(payload)

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        environment = {
            **os.environ,
            "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver",
            "TEXTUAL_COLOR_SYSTEM": "truecolor",
            "TEXTUAL_FPS": "30",
            "TERM_PROGRAM": "textual",
            "COLUMNS": str(width),
            "ROWS": str(height),
        }
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True
        )
        self._stdin = self._process.stdin
        return self._process


async def _says_that_it_is_textual(stdout: asyncio.StreamReader) -> bool:
    for _ in range(_PRELUDE_LINES):
        line = await stdout.readline()
        if line == _PRELUDE or not line:
            return bool(line)
    return False


async def _end(process: Process) -> None:
    for seconds, number in ((QUIT_SECONDS, signal.SIGTERM), (TERMINATE_SECONDS, signal.SIGKILL)):
        try:
            await asyncio.wait_for(process.wait(), seconds)
            return
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
    await process.wait()

"""The child process of a worker and its pipes: frames from stdout, lines from stderr, one word when it is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast

import msgspec

from xin.worker.frames import Frame, Up, decode_up, encode, frame_length

LINGER_SECONDS = 0.3  # a grandchild may hold the pipes of a worker that is gone
SILENT_SECONDS = 2.0  # how long a worker may live on without its stdout
_HEAD = 4
_LENGTH = struct.Struct("<I")


class WorkerProcess(asyncio.SubprocessProtocol):
    """One `python -m xin.worker`. The callbacks run on the event loop; `on_exit` comes once, after the last frame."""

    def __init__(
        self, on_frame: Callable[[Up], None], on_line: Callable[[str], None], on_exit: Callable[[int], None]
    ) -> None:
        self.pid = 0
        self.gone = False
        self._on_frame = on_frame
        self._on_line = on_line
        self._on_exit = on_exit
        self._frames = bytearray()
        self._wanted = _HEAD
        self._line = b""
        self._transport: asyncio.SubprocessTransport

    @classmethod
    async def spawn(
        cls,
        threads: int,
        *,
        on_frame: Callable[[Up], None],
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
        environ: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        """A session of its own: Ctrl-C in the node's terminal does not reach it. `-P`: never import from the cwd.

        `environ`: on top of the node's own.
        """
        command = (sys.executable, "-P", "-m", "xin.worker")
        env = {**_environment(threads), **(environ or {})}
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: cls(on_frame, on_line, on_exit),
            *command,
            env=env,
            start_new_session=True,
        )
        protocol.pid = transport.get_pid()
        return protocol

    def send(self, frame: Frame) -> None:
        """Frames to a worker that is gone are dropped: its end is told by on_exit."""
        pipe = cast(asyncio.WriteTransport | None, self._transport.get_pipe_transport(0))
        if pipe is not None and not self.gone and not pipe.is_closing():
            pipe.write(encode(frame))

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """The worker and whatever it started."""
        self._signal(signal.SIGKILL)

    # -- asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            try:
                self._take_frames(data)
            except (ValueError, msgspec.MsgspecError) as exc:
                self._on_line(f"error: the worker sent a broken frame: {exc}")
                self.kill()
        elif fd == 2:
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                self._on_line(line.decode(errors="replace").rstrip())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1 and not self.gone:
            asyncio.get_running_loop().call_later(SILENT_SECONDS, self.kill)

    def process_exited(self) -> None:
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._finish)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    # -- private

    def _take_frames(self, data: bytes) -> None:
        """Decode every whole frame; the hot path is whole frames in one read, which are not copied."""
        if self._frames:
            self._frames += data
            if len(self._frames) < self._wanted:
                return
            data, self._frames = bytes(self._frames), bytearray()
        view, at, end = memoryview(data), 0, len(data)
        self._wanted = _HEAD
        while end - at >= _HEAD:
            size = _LENGTH.unpack_from(view, at)[0]
            if end - at - _HEAD < size:
                self._wanted = _HEAD + frame_length(data[at : at + _HEAD])
                break
            self._on_frame(decode_up(view[at + _HEAD : at + _HEAD + size]))
            at += _HEAD + size
        if at < end:
            self._frames += view[at:]

    def _signal(self, number: signal.Signals) -> None:
        if self._transport.get_returncode() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _finish(self) -> None:
        if self.gone:
            return
        self.gone = True
        if self._line:
            self._on_line(self._line.decode(errors="replace").rstrip())
        code = self._transport.get_returncode()
        self._transport.close()
        self._on_exit(-int(signal.SIGKILL) if code is None else code)


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "XIN_THREADS": str(threads)}

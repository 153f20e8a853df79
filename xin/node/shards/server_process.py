"""The child in which ggml's RPC server runs, and why it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress

import msgspec

from xin.backends.llama_cpp.rpc_words import ServerWord
from xin.errors import LoadFailed

START_SECONDS = 60.0  # a busy machine takes long for what takes 1 s alone
KEPT_LINES = 20
# A server waits for the network between two steps: threads that spin meanwhile only take a core from others.
ENVIRONMENT = {"GGML_NO_BACKTRACE": "1", "GOMP_SPINCOUNT": "300"}


CHATTER = ("Accepted client connection", "Client connection closed")


class ServerProcess:
    """`start` it; `close` always ends it. `cause`: what it ended by, told after "bee …"; empty while it runs."""

    word: ServerWord

    def __init__(self, process: Process) -> None:
        self.cause = ""
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._reading = asyncio.create_task(self._read_lines())

    @classmethod
    async def start(cls, threads: int) -> ServerProcess:
        """Returns once it listens. Raises LoadFailed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "xin.backends.llama_cpp.rpc_server", str(threads)),
            stdin=PIPE,  # never written to: its end is the node's end
            stdout=PIPE,
            stderr=PIPE,
            env={**ENVIRONMENT, **os.environ},
            start_new_session=True,
        )
        server = cls(process)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
                server.word = msgspec.json.decode(line, type=ServerWord)
        except (TimeoutError, msgspec.MsgspecError) as exc:
            server.kill("did not begin to listen")
            raise LoadFailed(f"the RPC server {await server.ended()}", "see the log of that node") from exc
        except BaseException:
            await server.close()
            raise
        return server

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> str:
        """Wait for it; why, as `cause`."""
        code = await self._process.wait()
        await asyncio.wait({self._reading}, timeout=1)
        if not self.cause:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            last = f": {self._lines[-1]}" if self._lines else ""
            self.cause = f"lost it: its RPC server {how}{last}"
        return self.cause

    def kill(self, cause: str = "let it go") -> None:
        self.cause = self.cause or cause
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Returns when it is gone. Idempotent."""
        if self._process.returncode is None:
            self.kill()
        await self.ended()
        self._reading.cancel()

    async def _read_lines(self) -> None:
        assert self._process.stderr is not None
        with suppress(ValueError):  # a line without end
            while line := await self._process.stderr.readline():
                text = line.decode(errors="replace").strip()
                if text and not text.startswith(CHATTER):
                    self._lines.append(text[:300])

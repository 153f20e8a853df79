"""The child in which ggml's RPC server runs, and why it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress

import msgspec

from xin.backends.llama_cpp.rpc_words import ServerWord
from xin.errors import LoadFailed
from xin.node.shards.tunnel import Connection

START_SECONDS = 60.0  # a busy machine takes long for what takes 1 s alone
KEPT_LINES = 20
# A server waits for the network between two steps: threads that spin meanwhile only take a core from others.
ENVIRONMENT = {"GGML_NO_BACKTRACE": "1", "GOMP_SPINCOUNT": "300"}


CHATTER = ("Accepted client connection", "Client connection closed")


class ServerProcess:
    """`start` it; `close` always ends it. `cause`: what it ended by, told after "bee …"; empty while it runs."""

    word: ServerWord

    def __init__(self, process: Process, clients: socket.socket) -> None:
        self.cause = ""
        self._process = process
        self._clients = clients
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._reading = asyncio.create_task(self._read_lines())

    @classmethod
    async def start(cls, threads: int) -> ServerProcess:
        """Returns once it listens. Raises LoadFailed."""
        own, its = socket.socketpair()
        own.setblocking(False)
        try:
            with its:
                server = cls(await _spawn(threads, its.fileno()), own)
        except BaseException as exc:
            own.close()
            if isinstance(exc, OSError):
                raise LoadFailed(f"cannot start an RPC server: {exc.strerror}", "free memory or processes") from exc
            raise
        try:
            async with asyncio.timeout(START_SECONDS):
                server.word = msgspec.json.decode(await server._first_line(), type=ServerWord)
        except (TimeoutError, msgspec.MsgspecError) as exc:
            await server.close()
            last = f": {server._lines[-1]}" if server._lines else ""
            raise LoadFailed(f"the RPC server did not begin to listen{last}", "see the log of that node") from exc
        except BaseException:
            await server.close()
            raise
        return server

    async def connect(self) -> Connection:
        """As a client of the server. Raises OSError when it is gone."""
        own, its = socket.socketpair()
        try:
            with its:
                socket.send_fds(self._clients, [b"+"], [its.fileno()])
            _, end = await asyncio.get_running_loop().create_unix_connection(Connection, sock=own)
            return end
        except BaseException:
            own.close()
            raise

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
        if self._process.returncode is not None:
            return
        self.cause = self.cause or cause
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Returns when it is gone. Idempotent."""
        self.kill()
        await self.ended()
        self._reading.cancel()
        self._clients.close()

    async def _first_line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def _read_lines(self) -> None:
        assert self._process.stderr is not None
        with suppress(ValueError):  # a line without end
            while line := await self._process.stderr.readline():
                text = line.decode(errors="replace").strip()
                if text and not text.startswith(CHATTER):
                    self._lines.append(text[:300])


async def _spawn(threads: int, clients: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "xin.backends.llama_cpp.rpc_server", str(threads), str(clients)),
        stdin=PIPE,  # never written to: its end is the node's end
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=(clients,),
        env={**ENVIRONMENT, **os.environ},
        start_new_session=True,
    )

"""Bytes between a connection on loopback and an upgraded HTTP connection to another node, over its mutual TLS.

Each token of a divided model is some small messages to and fro, each of which is worth its own microseconds: what one
end receives goes to the other's transport in the same callback, with no frame around it and no task in between.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any, cast

from aiohttp import web

MOST_UNSENT = 1 << 20  # bytes that may wait for one end before the other is not read any further
LOOK_SECONDS = 0.002
ANSWER_SECONDS = 10.0
_MOST_HEAD = 1 << 14
_SWITCHED = b"HTTP/1.1 101 "
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


class End:
    """One end of a tunnel: `take` what it receives, `give` it what the other one received."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.take: Callable[[bytes], None] = self._keep
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept = bytearray()

    def give(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    @property
    def unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def lead_to(self, take: Callable[[bytes], None]) -> None:
        """From now on; what came before goes there first."""
        self.take = take
        if self._kept:
            kept, self._kept = bytes(self._kept), bytearray()
            take(kept)

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def close(self) -> None:
        """What was given is still sent."""
        if self.transport is not None:
            self.transport.close()
        self.end()

    def _keep(self, data: bytes) -> None:
        self._kept += data


class Connection(End, asyncio.Protocol):
    """An end that is a connection of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        given = transport.get_extra_info("socket")
        if given is not None and given.family != socket.AF_UNIX:
            given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()


class Upgraded(End):
    """An end that is a request which asked for an upgrade. Its handler returns what `finish` gives."""

    def __init__(self, request: web.Request) -> None:
        super().__init__()
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("who asked has left")
        self.transport = transport
        lines = [_SWITCHED + b"Switching Protocols", *(f"{name}: {value}".encode() for name, value in _UPGRADE.items())]
        transport.write(b"\r\n".join([*lines, b"", b""]))
        request.protocol.set_parser(self)  # type: ignore[arg-type]

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp's, as of a parser of what follows an upgrade."""
        self.take(bytes(data))
        return self.over.done(), b""

    def feed_eof(self) -> None:
        self.end()

    def finish(self) -> web.Response:
        """The connection is over: nothing of this is sent, since `close` came before it."""
        return web.Response()


def asks_for_upgrade(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "tcp"


async def dial(
    host: str, port: int, path: str, headers: dict[str, str], tls: tuple[SSLContext, str] | None
) -> Connection:
    """An upgraded connection to another node; `tls`: how, and the name on its certificate. Raises OSError."""
    loop = asyncio.get_running_loop()
    context, name = tls if tls is not None else (None, None)
    async with asyncio.timeout(ANSWER_SECONDS):
        _, end = await loop.create_connection(Connection, host, port, ssl=context, server_hostname=name)
        try:
            await _upgraded(end, host, path, headers)
        except BaseException:
            end.close()
            raise
    return end


async def _upgraded(end: Connection, host: str, path: str, headers: dict[str, str]) -> None:
    head, whole = bytearray(), asyncio.Event()

    def take(data: bytes) -> None:
        head.extend(data)
        if b"\r\n\r\n" in head or len(head) > _MOST_HEAD:
            whole.set()
            end.take = end._keep

    end.take = take
    name = f"[{host}]" if ":" in host else host
    fields = {"Host": name, **_UPGRADE, **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{field}: {value}" for field, value in fields.items()), "", ""]
    end.give("\r\n".join(lines).encode())
    waiting = asyncio.ensure_future(whole.wait())
    ways: set[asyncio.Future[Any]] = {waiting, end.over}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    answer, _, early = bytes(head).partition(b"\r\n\r\n")
    if not answer.startswith(_SWITCHED):
        told = answer.split(b"\r\n", 1)[0].decode("latin-1")[:100]
        raise ConnectionRefusedError(f"the other node does not lead on: {told or 'it hung up'}")
    if early:
        end._kept[:0] = early


async def carry(one: End, other: End) -> None:
    """Both ways, until one end is closed; then both are."""
    loop = asyncio.get_running_loop()

    def way(source: End, sink: End) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            sink.give(data)
            if sink.unsent > MOST_UNSENT and source.transport is not None:
                source.transport.pause_reading()
                loop.call_later(LOOK_SECONDS, look)

        def look() -> None:
            if source.over.done() or sink.over.done() or source.transport is None:
                return
            if sink.unsent > MOST_UNSENT // 2:
                loop.call_later(LOOK_SECONDS, look)
            else:
                source.transport.resume_reading()

        return take

    try:
        one.lead_to(way(one, other))
        other.lead_to(way(other, one))
        await asyncio.wait({one.over, other.over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in (one, other):
            with suppress(OSError, RuntimeError):
                end.close()


def is_own(transport: asyncio.BaseTransport) -> bool:
    """Has this user opened the other end of a connection on loopback? Linux tells; elsewhere everybody is taken.

    Blocking. What is behind a tunnel does what it is told, without asking who tells it.
    """
    client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    try:
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return True
    wanted = [_as_listed(*client[:2]), _as_listed(*server[:2])]
    own = [str(os.geteuid())]
    return any(line.split()[1:3] == wanted and line.split()[7:8] == own for line in lines)


def _as_listed(host: str, port: int) -> str:
    """As in /proc/net/tcp: the address in the byte order of the machine, in hexadecimal."""
    address = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    return f"{address:08X}:{port:04X}"

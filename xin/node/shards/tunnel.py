"""Bytes between a TCP connection on loopback and a WebSocket to another node, over its mutual TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp import WSMsgType, web

READ_BYTES = 1 << 18
CLOSE_SECONDS = 2.0
Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse
_FAILURES = (OSError, aiohttp.ClientError, RuntimeError)  # RuntimeError: aiohttp's, of a socket that is closing


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Socket) -> None:
    """Both ways, until one end is closed; then both are."""
    ways = [asyncio.create_task(_out(reader, to)), asyncio.create_task(_back(to, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        with suppress(*_FAILURES):
            await to.close()


async def _out(reader: asyncio.StreamReader, to: Socket) -> None:
    with suppress(*_FAILURES):
        while data := await reader.read(READ_BYTES):
            await to.send_bytes(data)


async def _back(to: Socket, writer: asyncio.StreamWriter) -> None:
    with suppress(*_FAILURES):
        while (message := await to.receive()).type is WSMsgType.BINARY:
            writer.write(message.data)
            await writer.drain()


def is_own(writer: asyncio.StreamWriter) -> bool:
    """Has this user opened the other end of a connection on loopback? Linux tells; elsewhere everybody is taken.

    Blocking. What is behind a tunnel does what it is told, without asking who tells it.
    """
    client, server = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
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

"""The way to another node's server: whose connections are let in, and what comes through it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from xin.node.shards.tunnel import Connection, Upgraded, asks_for_upgrade, carry, dial, is_own

NOBODY = 65534


async def test_this_users_own_connection_is_let_in():
    assert await opened_by(None)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="to be another user needs root on Linux")
async def test_another_users_is_not():
    assert not await opened_by(NOBODY)


async def opened_by(user: int | None) -> bool:
    found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result(await asyncio.to_thread(is_own, writer.transport))
        writer.close()

    server = await asyncio.start_server(look, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = f"exec 3<>/dev/tcp/127.0.0.1/{port}; read -u 3 || true"
    process = await asyncio.create_subprocess_exec("/bin/bash", "-c", line, user=user, cwd="/")
    async with asyncio.timeout(10):
        answer = await found
        await process.wait()
    server.close()
    return answer


@pytest.fixture
async def port(unused_tcp_port: int) -> AsyncIterator[int]:
    """A server of HTTP that leads, at /way, to one that sends back what it gets."""

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if data == b"hang up":
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    mirror = await asyncio.start_server(back, "127.0.0.1", 0)
    where = mirror.sockets[0].getsockname()[1]

    async def way(request: web.Request) -> web.StreamResponse:
        assert asks_for_upgrade(request)
        _, server = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", where)
        asked = Upgraded(request)
        await carry(server, asked)
        return asked.finish()

    app = web.Application()
    app.router.add_get("/way", way)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield unused_tcp_port
    await runner.cleanup()
    mirror.close()


class Heard:
    def __init__(self, end: Connection) -> None:
        self.end = end
        self.data = bytearray()
        self.news = asyncio.Event()
        end.lead_to(self.take)

    def take(self, data: bytes) -> None:
        self.data += data
        self.news.set()

    async def until(self, size: int) -> bytes:
        async with asyncio.timeout(20):
            while len(self.data) < size:
                self.news.clear()
                await self.news.wait()
        return bytes(self.data)


async def test_bytes_come_through_whole_and_in_order(port: int):
    heard = Heard(await dial("127.0.0.1", port, "/way", {"x-test": "1"}, None))
    for number in range(200):
        heard.end.give(b"%04d" % number)
        await heard.until(4 * (number + 1))
    assert heard.data == b"".join(b"%04d" % number for number in range(200))
    heard.data.clear()
    large = os.urandom(12 << 20)
    for at in range(0, len(large), 1 << 18):
        heard.end.give(large[at : at + (1 << 18)])
    assert await heard.until(len(large)) == large
    heard.end.close()


async def test_who_hangs_up_ends_both(port: int):
    end = await dial("127.0.0.1", port, "/way", {}, None)
    end.give(b"hang up")
    async with asyncio.timeout(10):
        await end.over


async def test_what_leads_nowhere_is_no_connection(port: int, unused_tcp_port_factory: Callable[[], int]):
    with pytest.raises(ConnectionRefusedError, match="404"):
        await dial("127.0.0.1", port, "/nowhere", {}, None)
    with pytest.raises(OSError):
        await dial("127.0.0.1", unused_tcp_port_factory(), "/way", {}, None)

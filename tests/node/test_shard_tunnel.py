"""The door on loopback that leads to another node's server: whose connections are let in."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from xin.node.shards.tunnel import is_own

NOBODY = 65534


async def test_this_users_own_connection_is_let_in():
    assert await opened_by(None)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="to be another user needs root on Linux")
async def test_another_users_is_not():
    assert not await opened_by(NOBODY)


async def opened_by(user: int | None) -> bool:
    found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result(await asyncio.to_thread(is_own, writer))
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

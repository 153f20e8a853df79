"""Announcing and finding over real multicast DNS on the loopback interface."""

import asyncio
import secrets
import sys
from contextlib import AsyncExitStack

import psutil
import pytest

from xin.discovery import Advertiser, FoundNode, Mdns, NodeBrowser, parse

LOOPBACK = ["127.0.0.1"]
GOOD = {b"id": b"0123456789abcdef", b"name": b"box", b"version": b"0.1.0", b"lan": b"closed"}


def node(name="box", **fields):
    return FoundNode(id=secrets.token_hex(8), name=name, version="0.1.0", port=9996, **fields)


class Seen:
    """What a browser told, with a way to wait for it; nodes of other test runs are left out."""

    def __init__(self, *expected):
        self.ids = {one.id for one in expected}
        self.found, self.lost = {}, []
        self._changed = asyncio.Event()

    def on_found(self, found):
        if found.id in self.ids:
            self.found[found.id] = found
            self._changed.set()

    def on_lost(self, lost):
        if lost.id in self.ids:
            self.lost.append(lost.id)
            self._changed.set()

    async def until(self, condition, seconds=15):
        async with asyncio.timeout(seconds):
            while not condition():
                await self._changed.wait()
                self._changed.clear()


async def test_nodes_of_one_name_are_both_found_and_their_goodbye_is_heard():
    first, second = node("box.lan"), node("box.lan")
    seen = Seen(first, second)
    async with Mdns(LOOPBACK) as listening, NodeBrowser(listening, seen.on_found, seen.on_lost) as browser:
        async with Mdns(LOOPBACK) as here, Advertiser(here, first), AsyncExitStack() as stack:
            there = await stack.enter_async_context(Mdns(LOOPBACK))
            await stack.enter_async_context(Advertiser(there, second))
            await seen.until(lambda: len(seen.found) == 2)
            told = seen.found[first.id]
            assert (told.name, told.version, told.port, told.lan_open) == ("box.lan", "0.1.0", 9996, False)
            assert told.addresses == ("127.0.0.1",)
            assert {first.id, second.id} <= {one.id for one in browser.nodes()}
            await stack.aclose()
            await seen.until(lambda: seen.lost == [second.id])
        await seen.until(lambda: set(seen.lost) == {first.id, second.id})


async def test_a_browser_that_starts_later_finds_a_node_that_stands():
    standing = node(name="名前 " + "x" * 40)
    seen = Seen(standing)
    async with (
        Mdns(LOOPBACK) as mdns,
        Advertiser(mdns, standing),
        Mdns(LOOPBACK) as late,
        NodeBrowser(late, seen.on_found, seen.on_lost),
    ):
        await seen.until(lambda: seen.found)
    assert seen.found[standing.id].name == standing.name


@pytest.mark.parametrize(
    "wrong",
    [
        {b"id": b"../../etc/passwd"},
        {b"id": b"0123456789ABCDEF"},
        {b"id": None},
        {b"name": b""},
        {b"name": b"\x1b[31mred"},
        {b"name": b"x" * 65},
        {b"name": b"\xff\xfe"},
        {b"name": "\u202egpj.exe".encode()},
        {b"version": b"1 && rm"},
        {b"version": b""},
        {b"lan": b"ajar"},
    ],
)
def test_what_no_node_would_write_is_no_node(wrong):
    assert parse(GOOD, 9996, ["10.0.0.1"]) is not None
    assert parse({**GOOD, **wrong}, 9996, ["10.0.0.1"]) is None


def test_ports_and_addresses_are_bounded():
    assert parse(GOOD, 0, []) is None
    assert parse(GOOD, None, []) is None
    assert len(parse(GOOD, 9996, [f"10.0.0.{i}" for i in range(99)]).addresses) == 8


async def test_zeroconf_is_imported_only_when_opened():
    code = "import sys, xin.discovery; sys.exit('zeroconf' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


def mdns_sockets() -> int:
    """How many this process has open."""
    return sum(one.laddr.port == 5353 for one in psutil.Process().net_connections("udp") if one.laddr)


@pytest.mark.parametrize("started", [False, True])
async def test_a_search_that_is_cancelled_while_it_closes_leaves_no_socket_open(started: bool):
    opened: asyncio.Queue = asyncio.Queue()

    async def search():
        async with Mdns(LOOPBACK) as mdns:
            await opened.put(mdns.zeroconf)
            await asyncio.sleep(60)

    before = mdns_sockets()
    task = asyncio.create_task(search())
    zeroconf = (await opened.get()).zeroconf
    if started:
        await zeroconf.async_wait_for_start()
    assert mdns_sockets() > before
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)  # a transport closes its socket in the loop's next turn
    assert mdns_sockets() == before, zeroconf

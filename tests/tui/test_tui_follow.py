"""Following real nodes: silence, death and return are seen in time, and another node is talked to when one goes."""

import asyncio
import signal
import socket
from contextlib import asynccontextmanager

import pytest
from live_node import LiveNode
from waiting import until

from xin import local_nodes
from xin.client import AsyncClient
from xin.config import ClientConfig
from xin.errors import XinError
from xin.tui import follow, start
from xin.tui.connection import Connection
from xin.tui.follow import Fleet
from xin.tui.store import Store, Target


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def node(tmp_path):
    """Makes nodes of one user on one host."""

    def make(name, port=0):
        made = LiveNode(tmp_path / name, name=name, port=port, private=False)
        made.environ["XIN_REGISTRY"] = str(tmp_path / "registry")
        return made

    return make


@asynccontextmanager
async def following(endpoint, search=None):
    store, clients = Store(), {}

    def client(url):
        return clients.setdefault(url, AsyncClient(url))

    task = asyncio.create_task(Fleet(store, client, search).run(endpoint))
    try:
        yield store
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for one in clients.values():
            await one.close()


@asynccontextmanager
async def running(made):
    """Begun while the loop goes on."""
    await asyncio.to_thread(made.__enter__)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.__exit__)


def view(store, name):
    return next((one for one in store.nodes.values() if one.name == name), None)


async def test_what_a_node_does_is_in_the_store(node):
    with node("atlas") as atlas:
        async with following(atlas.url) as store:
            await until(lambda: store.link.state == "live")
            assert store.home.name == "atlas"
            assert store.home.devices
            uid = await asyncio.to_thread(atlas.launch, "echo", model_uid="one")
            target = Target(store.home.id, uid)
            await until(lambda: target in store.targets())
            await until(lambda: len(store.home.rates.get(uid, ())) >= 2)
            assert store.home.workers[uid].pid
            assert store.totals().models == 1
            async with AsyncClient(atlas.url) as client:
                await client.chat(uid, "hello there")
            await until(lambda: store.home.ttfts.get(uid))
            await asyncio.to_thread(atlas.http.delete, f"/v1/models/{uid}")
            await until(lambda: not store.home.instances)


async def test_a_killed_node_is_gone_at_once_and_back_by_itself(node):
    port = free_port()
    with node("atlas", port) as atlas:
        atlas.launch("echo", model_uid="one")
        async with following(atlas.url) as store:
            await until(lambda: store.link.state == "live")
            home = store.home
            atlas.process.kill()
            assert await until(lambda: home.status == "gone") < 2
            await until(lambda: store.link.state == "lost")
            assert "no node answers" in store.link.cause
            assert list(home.instances) == ["one"]
            async with running(node("atlas", port)):
                assert await until(lambda: store.link.state == "live") < 3
                assert store.home.id == home.id and store.home.status == "alive"


async def test_nodes_of_this_host_are_followed_and_take_over(node):
    with node("atlas") as atlas, node("beta") as beta:
        beta.launch("echo", model_uid="two")
        async with following(atlas.url) as store:
            await until(lambda: view(store, "beta") and view(store, "beta").endpoint == beta.url)
            second = view(store, "beta")
            await until(lambda: Target(second.id, "two") in store.targets())
            await until(lambda: second.workers, what="samples of a node that is not talked to")
            assert await until(lambda: second.jobs, what="its jobs") < 5
            atlas.process.kill()
            assert await until(lambda: store.home is second) < 3
            assert store.link.state == "live"
            assert store.link.endpoint == beta.url
            assert view(store, "atlas").status == "gone"
            beta.launch("echo", model_uid="three")
            await until(lambda: Target(second.id, "three") in store.targets())


async def test_a_node_that_hangs_is_slow_then_gone_then_back(node, monkeypatch):
    monkeypatch.setattr(follow, "SLOW_SECONDS", 1.5)
    monkeypatch.setattr(follow, "GONE_SECONDS", 3.0)
    with node("atlas") as atlas:
        async with following(atlas.url) as store:
            await until(lambda: store.link.state == "live")
            atlas.process.send_signal(signal.SIGSTOP)
            try:
                await until(lambda: store.home.status == "slow")
                await until(lambda: store.home.status == "gone")
                assert "silent" in store.link.cause
            finally:
                atlas.process.send_signal(signal.SIGCONT)
            await until(lambda: store.home.status == "alive" and store.link.state == "live")


async def test_while_none_answers_another_one_is_looked_for(node):
    endpoint = f"http://127.0.0.1:{free_port()}"
    found = []

    async def search():
        return found

    async with following(endpoint, search) as store:
        await until(lambda: store.link.state == "lost")
        async with running(node("late")) as late:
            found.append(late.url)
            await until(lambda: store.link.state == "live" and store.home.name == "late")


async def test_whoever_takes_the_port_of_a_node_is_not_believed(node, monkeypatch, tmp_path):
    monkeypatch.setenv("XIN_REGISTRY", str(tmp_path / "registry"))
    with node("atlas") as atlas:
        (entry,) = local_nodes.read_all()
        entry.nonce = "0" * 32
        monkeypatch.setattr(local_nodes, "read_all", lambda: [entry])
        async with following(atlas.url) as store:
            await until(lambda: store.link.state == "lost")
            assert "is not the node that its file names" in store.link.cause
            assert await start.local_endpoints() == []


async def test_the_node_is_found_by_its_file(node, monkeypatch, tmp_path):
    monkeypatch.setenv("XIN_REGISTRY", str(tmp_path / "registry"))
    nowhere = ClientConfig(endpoint=f"http://127.0.0.1:{free_port()}")
    assert await start.find(nowhere) is None
    with node("atlas") as atlas:
        assert await start.find(nowhere) == atlas.url
        assert await start.find(ClientConfig(endpoint=atlas.url)) == atlas.url


async def test_without_a_node_one_is_started_here(node, monkeypatch):
    port = free_port()
    monkeypatch.setenv("XIN_ENDPOINT", f"http://127.0.0.1:{port}")
    store, nodes = Store(), []

    def starter(endpoint, wanted):
        assert (endpoint, wanted) == (f"http://127.0.0.1:{port}", port)
        nodes.append(node("fresh", port).__enter__())

    connection = Connection(store, starter)
    task = asyncio.create_task(connection.run(None))
    try:
        await until(lambda: store.link.state == "live", 20)
        assert store.home.name == "fresh"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()
        for one in nodes:
            one.__exit__()


@pytest.mark.parametrize("readonly", [False, True])
async def test_a_node_that_cannot_be_started_is_told_with_its_words(monkeypatch, readonly):
    monkeypatch.setenv("XIN_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    store = Store()

    def starter(endpoint, port):
        raise XinError("port 1 is taken", "choose another")

    connection = Connection(store, starter)
    task = asyncio.create_task(connection.run(None, may_start=not readonly))
    try:
        await until(lambda: store.link.state == "lost")
        expected = "no xin node answers" if readonly else "port 1 is taken (choose another)"
        assert expected in store.link.cause
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()

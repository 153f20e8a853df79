"""Nodes of one user on one host: seen, followed, lost, and seen again, over their real registry, HTTP and mDNS."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from small_node import SmallNode

from xin.config import NodeConfig
from xin.errors import UsageError
from xin.node import local_registry
from xin.node.peers import loopback_endpoint

LOOPBACK = ["127.0.0.1"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XIN_REGISTRY", str(tmp_path / "nodes"))
    monkeypatch.setenv("XIN_HOME", str(tmp_path / "home"))
    return tmp_path


def small(name, **config):
    """A node without mDNS on real interfaces."""
    return SmallNode(NodeConfig(port=0, name=name, **config), LOOPBACK)


@asynccontextmanager
async def child(home, name, port=0, **variables):
    """A small node in a process of its own, with an XIN_HOME of its own; killed in the end."""
    environ = {**os.environ, "XIN_HOME": str(home / name), **variables}
    script = Path(__file__).with_name("small_node.py")
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, script, str(port), name, env=environ, **pipes)
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(condition, seconds=10.0):
    """How long it took until `condition` held."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def local(node):
    """Its peers but for what mDNS finds: other runs of these tests may be about."""
    return [peer for peer in node.peers.cluster() if peer.relation != "found"]


def status(node, name):
    return next((peer.status for peer in node.peers.cluster() if peer.name == name), None)


async def test_two_nodes_follow_each_other_and_say_farewell():
    async with small("a") as a:
        with a.hub.subscribe() as told:
            async with small("b") as b:
                b.set_instance("m", "loading")
                await until(lambda: status(a, "b") == "alive" and status(b, "a") == "alive")
                (peer,) = local(a)
                assert (peer.relation, peer.endpoint, peer.id) == ("local", b.identity.endpoint, b.identity.id)
                await until(lambda: [one.model_uid for one in local(a)[0].instances] == ["m"])
                b.set_instance("m", "ready")
                await until(lambda: local(a)[0].instances[0].state == "ready")
            await until(lambda: local(a) == [])
        events = told.drain()
    kinds = [event.type for event in events if b.identity.id in (event.peer_id, event.peer and event.peer.id)]
    assert (kinds[0], kinds[-1]) == ("peer", "peer_removed")
    assert local_registry.read_all() == []


async def test_a_killed_node_is_gone_with_its_age_and_comes_back(home):
    async with small("watcher") as watcher:
        async with child(home, "victim") as (process, told):
            assert await until(lambda: status(watcher, "victim") == "alive") < 3
            port = told["port"]
            process.kill()
            assert await until(lambda: status(watcher, "victim") == "gone") < 5
            (peer,) = local(watcher)
            assert time.time() - 6 < peer.seen_at < time.time()
        # The same home and port: its kept id makes it the same node.
        (home / "victim/state").mkdir(parents=True, exist_ok=True)
        (home / f"victim/state/node-{port}.id").write_text(told["id"])
        async with child(home, "victim", port) as (_, again):
            assert again == told
            assert await until(lambda: status(watcher, "victim") == "alive") < 3
            assert len(local(watcher)) == 1


async def test_a_frozen_node_is_gone_only_when_it_does_not_answer_and_returns(home, monkeypatch):
    monkeypatch.setattr("xin.node.follower.SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("xin.node.follower.CONNECT_SECONDS", 0.5)
    async with small("watcher") as watcher, child(home, "frozen") as (process, _):
        await until(lambda: status(watcher, "frozen") == "alive")
        process.send_signal(signal.SIGSTOP)
        await until(lambda: status(watcher, "frozen") == "slow")
        await until(lambda: status(watcher, "frozen") == "gone")
        process.send_signal(signal.SIGCONT)
        await until(lambda: status(watcher, "frozen") == "alive")


async def test_samples_are_asked_of_peers_only_for_clients():
    async with small("a") as a, small("b") as b:
        b.set_instance("m", "ready")
        await until(lambda: status(a, "b") == "alive" and status(b, "a") == "alive")
        assert (b.asked, b.hub.sample_watchers) == (["peer=1"], 0)
        with a.hub.subscribe(samples=True) as watching:
            await until(lambda: b.hub.sample_watchers == 1)
            assert b.asked[-1] == "peer=1&samples=1"
            # b asks nothing of a: its only watcher is a peer.
            assert (b.hub.client_watchers, a.hub.sample_watchers) == (0, 1)
            await until(lambda: status(a, "b") == "alive")
            b.publish_samples()
            async with asyncio.timeout(5):
                event = await anext(event async for event in watching if event.type == "samples")
            assert (event.peer_id, event.devices[0].utilization) == (b.identity.id, 50.0)
            assert local(a)[0].instances[0].worker.rss_bytes == 77
        await until(lambda: b.hub.sample_watchers == 0)
        await until(lambda: status(a, "b") == "alive")


async def test_who_cannot_prove_the_nonce_is_not_followed():
    async with small("a") as a, small("liar") as liar:
        liar.identity.nonce = "stolen port"
        entry = next(one for one in local_registry.read_all() if one.id == liar.identity.id)
        assert entry.nonce != liar.identity.nonce
        await asyncio.sleep(1.5)
        assert (local(a), liar.asked) == ([], [])


async def test_private_nodes_are_seen_only_by_those_who_name_them():
    async with small("hidden", private=True) as hidden, small("a") as a:
        await asyncio.sleep(1.2)
        assert (local(a), hidden.peers.cluster(), len(local_registry.read_all())) == ([], [], 1)
        async with small("b", private=True, peers=[hidden.identity.endpoint + "/"]) as b:
            await until(lambda: status(b, "hidden") == "alive")
            assert status(b, "a") is None


async def test_a_node_that_names_itself_is_not_its_own_peer():
    async with small("a", peers=["127.0.0.1:1"]) as a:
        a.peers._static.append(a.identity.endpoint)
        a.peers._reconcile([])
        await until(lambda: a.asked)
        assert local(a) == []


async def test_nodes_of_another_registry_are_found_by_mdns_but_not_followed(home):
    async with small("a") as a, child(home, "stranger", XIN_REGISTRY=str(home / "another user")) as (process, told):
        await until(lambda: status(a, "stranger") == "alive", 20)
        peer = next(one for one in a.peers.cluster() if one.id == told["id"])
        assert (peer.relation, peer.node, peer.instances, peer.lan_port) == ("found", None, [], None)
        process.stdin.write(b"stop\n")
        await until(lambda: status(a, "stranger") is None, 20)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:9997",
        "https://127.0.0.1:9997",
        "http://127.0.0.1",
        "http://[::1",
        "http://127.0.0.1:9997/v1",
        "http://user@127.0.0.1:9997",
        "http://127.0.0.1.evil.net:1",
    ],
)
def test_only_loopback_may_be_named(url):
    with pytest.raises(UsageError, match="is no address of a node"):
        loopback_endpoint(url)


def test_endpoints_have_one_spelling():
    assert loopback_endpoint("localhost:9998") == loopback_endpoint("http://127.0.0.1:9998/") == "http://127.0.0.1:9998"
    assert loopback_endpoint("http://[::1]:9998") == "http://[::1]:9998"

"""Real `xin node` processes that see one another: on one host with homes of their own, and on two hosts."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

XIN = [sys.executable, "-m", "xin"]


@asynccontextmanager
async def real_node(home, name, port=0, prefix=(), **variables):
    """A node with an XIN_HOME of its own; killed in the end if it still runs."""
    environ = {
        **os.environ,
        "XIN_HOME": str(home / name),
        "XIN_REGISTRY": str(home / "registry"),
        "XIN_NODE_NAME": name,
        **variables,
    }
    command = [*prefix, *XIN, "node", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.PIPE)
    try:
        ready = (await process.stdout.readline()).decode()
        assert " ready on http" in ready
        yield process, ready.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def peer(client, endpoint, name, status, seconds=10.0):
    """Wait until the node at `endpoint` tells of a peer in that status (None: tells of none); and how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            nodes = (await client.get(f"{endpoint}/api/cluster")).json()["nodes"]
            found = next((one for one in nodes[1:] if one["name"] == name), None)
            if (found and found["status"]) == status:
                return found, time.monotonic() - began
            await asyncio.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_nodes_of_two_homes_are_one_cluster_through_death_and_return(tmp_path):
    port = free_port()
    async with httpx.AsyncClient() as client, real_node(tmp_path, "alpha") as (_, alpha):
        async with real_node(tmp_path, "beta", port) as (process, beta):
            found, took = await peer(client, alpha, "beta", "alive")
            assert took < 8
            assert (found["relation"], found["endpoint"], found["node"]["pid"]) == ("local", beta, process.pid)
            await peer(client, beta, "alpha", "alive")
            body = {"model_name": "echo", "model_uid": "parrot"}
            (await client.post(f"{beta}/v1/models", json=body, timeout=60)).raise_for_status()
            found, _ = await peer(client, alpha, "beta", "alive")
            assert [(one["model_uid"], one["state"]) for one in found["instances"]] == [("parrot", "ready")]
            process.kill()
            found, took = await peer(client, alpha, "beta", "gone")
            assert took < 10
            assert (found["instances"], 0 <= time.time() - found["seen_at"] < 10) == ([], True)
        async with real_node(tmp_path, "beta", port) as (process, _):
            again, took = await peer(client, alpha, "beta", "alive")
            assert took < 8
            assert (again["id"], again["node"]["pid"]) == (found["id"], process.pid)
            process.terminate()
            await peer(client, alpha, "beta", None)
            assert await process.wait() == 0


async def test_the_event_stream_of_one_node_tells_of_the_other(tmp_path):
    async with (
        real_node(tmp_path, "alpha") as (_, alpha),
        httpx.AsyncClient() as client,
        client.stream("GET", f"{alpha}/api/events?samples=1") as stream,
    ):
        events = (json.loads(line[6:]) async for line in stream.aiter_lines() if line.startswith("data: "))
        snapshot = await anext(events)
        assert (snapshot["type"], snapshot["node"]["name"]) == ("snapshot", "alpha")
        async with asyncio.timeout(20), real_node(tmp_path, "beta"):
            told = await anext(e async for e in events if e["type"] == "peer" and e["peer"]["name"] == "beta")
            assert told["peer"]["status"] == "alive"
            samples = (event async for event in events if event["type"] == "samples")
            own = await anext(event async for event in samples if "peer_id" not in event)
            assert own["devices"][-1]["id"] == "cpu"
            other = await anext(event async for event in samples if "peer_id" in event)
            assert other["peer_id"] == told["peer"]["id"]


@contextmanager
def two_hosts():
    """Two network namespaces on one link; skips where they cannot be made."""
    names = [f"xin{os.getpid()}{side}" for side in "ab"]
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root and ip")
    script = [
        *(["netns", "add", name] for name in names),
        ["link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1]],
    ]
    for number, name in enumerate(names, 1):
        script += [
            ["-n", name, "addr", "add", f"10.9.8.{number}/24", "dev", "eth0"],
            ["-n", name, "link", "set", "eth0", "up"],
            ["-n", name, "link", "set", "lo", "up"],
        ]
    try:
        for step in script:
            if subprocess.run(["ip", *step], check=False).returncode:
                pytest.skip("network namespaces cannot be made here")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def cluster_inside(prefix, endpoint):
    """/api/cluster as told on the loopback of that host."""
    code = f"import urllib.request as u; print(u.urlopen('{endpoint}/api/cluster').read().decode())"
    done = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["nodes"][1:]


def listening(prefix):
    """The addresses of that host at which something listens for connections."""
    done = subprocess.run([*prefix, "ss", "-Hltn"], capture_output=True, text=True, check=True)
    return {line.split()[3].rpartition(":")[0] for line in done.stdout.splitlines()}


@pytest.mark.slow
async def test_two_hosts_find_each_other_and_open_nothing(tmp_path):
    with two_hosts() as (here, there):
        apart = {"XIN_REGISTRY": str(tmp_path / "registry of another host")}
        async with real_node(tmp_path, "alpha", prefix=here) as (_, alpha):
            async with real_node(tmp_path, "beta", prefix=there, **apart) as (process, _):
                found = await found_inside(here, alpha, 1)
                told = [found[0][key] for key in ("name", "relation", "addresses", "node", "lan_port")]
                assert told == ["beta", "found", ["10.9.8.2"], None, None]
                assert listening(there) == {"127.0.0.1"}
                process.terminate()
                assert await found_inside(here, alpha, 0) == []
            async with real_node(tmp_path, "hidden", prefix=there, XIN_NODE_PRIVATE="true", **apart):
                await asyncio.sleep(4)
                assert cluster_inside(here, alpha) == []


async def found_inside(prefix, endpoint, count, seconds=20.0):
    async with asyncio.timeout(seconds):
        while True:
            nodes = await asyncio.to_thread(cluster_inside, prefix, endpoint)
            if len(nodes) == count:
                return nodes
            await asyncio.sleep(0.3)

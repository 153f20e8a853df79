"""A model divided over nodes by ggml's RPC, through their mutual TLS: equal text, who is refused, what a loss does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from clustering import Host, hosts, until

from xin.installer.status import llama_build
from xin.node.plan import Place
from xin.node.plan_need import Need
from xin.node.shards.gathering import Gathering
from xin.protocol.node import Device, EngineInfo, NodeInfo, Peer

GIB = 2**30
CHAT = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "Tell me of whales."}], "temperature": 0}
HELPERS = "/api/members/helpers"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    with hosts(tmp_path_factory.mktemp("shards"), "ant", "bee", threads=1) as (ant, bee):
        bee.join(ant)
        until(lambda: alive(ant, "bee") and alive(bee, "ant"))
        yield [ant, bee]


def alive(host: Host, name: str) -> bool:
    peer = host.peer(name)
    return peer is not None and peer.status == "alive"


def launch(host: Host, weights: Path, uid: str, **fields: Any) -> str:
    return host.launch("smollm2", model_uid=uid, model_path=str(weights), context_length=512, **fields)


def test_a_divided_model_says_what_it_says_whole(pair: list[Host], smollm2: Path) -> None:
    ant, bee = pair
    launch(ant, smollm2, "whole", node="ant")
    expected = words(ant, "whole")
    ant.http.delete("/v1/models/whole")
    launch(ant, smollm2, "divided", shard=["ant", "bee"])
    assert words(ant, "divided") == words(bee, "divided") == expected
    instance = instance_of(ant, "divided")
    assert [part["node"] for part in instance["shards"]] == ["ant", "bee"]
    assert sum(part["layers"] for part in instance["shards"]) == 30
    assert any(note.startswith("divided: ") for note in instance["notes"])
    [server] = servers(bee)
    assert 0.5 < psutil.Process(server).memory_info().rss / instance["shards"][1]["need_bytes"] < 1
    ant.http.delete("/v1/models/divided")
    until(lambda: not servers(bee))


def test_a_lost_server_fails_the_model_and_its_streams_by_name(pair: list[Host], smollm2: Path) -> None:
    ant, bee = pair
    launch(ant, smollm2, "divided", shard=["bee", "ant"])
    worker = instance_of(ant, "divided")["worker"]["pid"]
    [server] = servers(bee)
    with ant.http.stream("POST", CHAT, json={**ASKED, "model": "divided", "stream": True, "max_tokens": 400}) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data: {"))
        next(lines)
        os.kill(server, signal.SIGKILL)
        last = json.loads([*lines][-1][6:])
    assert (
        "bee, which holds a part of divided, lost it: its RPC server was ended by SIGKILL" in last["error"]["message"]
    )
    until(lambda: instance_of(ant, "divided")["state"] == "failed")
    failed = instance_of(ant, "divided")
    assert "bee, which holds a part of divided" in failed["cause"] and "xin nodes" in failed["hint"]
    assert failed["worker"]["pid"] is None and not psutil.pid_exists(worker)
    assert not servers(bee)
    launch(ant, smollm2, "divided", shard=["bee", "ant"])
    ant.http.delete("/v1/models/divided")


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"shard": ["ant", "cow"]}, "shard", "there is no paired node cow"),
        ({"shard": ["ant"]}, "shard", "two different nodes"),
        ({"shard": ["bee", "bee"]}, "shard", "two different nodes"),
        ({"shard": "ant,bee"}, "shard", "array"),
        ({"shard": ["ant", "bee"], "n_gpu_layers": 3}, "n_gpu_layers", "by free memory"),
        ({"shard": ["ant", "bee"], "node": "cow"}, "node", "there is no paired node cow"),
        ({"shard": ["ant", "bee"], "model_path": None, "model_name": "echo"}, "shard", "echo cannot divide"),
    ],
)
def test_what_cannot_be_divided_is_refused_by_name(
    pair: list[Host], smollm2: Path, fields: dict[str, Any], param: str, message: str
) -> None:
    order = {"model_name": "smollm2", "model_path": str(smollm2), **fields}
    answer = pair[0].http.post("/v1/models", json=order)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert message in error["message"]
    assert error["hint"] or param == "shard"


def test_the_command_takes_names_with_commas(pair: list[Host]) -> None:
    ant = pair[0]
    command = [sys.executable, "-m", "xin", "launch", "smollm2", "--shard", "ant, cow", "-e", ant.url]
    done = subprocess.run(command, env=ant.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "there is no paired node cow" in done.stderr and "there is: ant, bee" in done.stderr


def test_only_members_of_the_same_build_open_helpers(pair: list[Host]) -> None:
    ant, bee = pair
    build = llama_cpp(bee)["build"]
    order = {"build": build, "model_uid": "mine"}
    assert bee.http.post(HELPERS, json=order).status_code == 403
    assert bee.http.get(f"{HELPERS}/{'0' * 32}/stream").status_code == 403
    there = f"/api/nodes/{bee.http.get('/api/node').json()['id']}{HELPERS}"
    assert ant.http.get(f"{there}/{'0' * 32}/watch").status_code == 404
    other = ant.http.post(there, json={**order, "build": "0.1, ggml 0.0.1, RPC 1.0.0"})
    assert other.status_code == 400
    assert f"bee has {build}, not 0.1, ggml 0.0.1, RPC 1.0.0" in other.json()["error"]["message"]


def test_builds_that_lack_rpc_or_differ_are_told_by_name(pair: list[Host], smollm2: Path, tmp_path: Path) -> None:
    """On a node whose llama.cpp is made up: what tells a build is the names of its libraries."""
    ant = pair[0]
    library = tmp_path / "site" / "llama_cpp" / "lib"
    library.mkdir(parents=True)
    for name in ("__init__.py", "lib/libggml-base.so.0.1.2", "lib/libggml-cpu.so"):
        (library.parent / name).touch()
    cat = Host(tmp_path, "cat")
    cat.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), cat.environ.get("PYTHONPATH", "")])
    with cat:
        cat.join(ant)
        until(lambda: alive(ant, "cat"))
        assert not llama_cpp(cat)["rpc"]
        order = {"model_name": "smollm2", "model_path": str(smollm2), "shard": ["ant", "cat"]}
        lacking = ant.http.post("/v1/models", json=order)
        assert lacking.status_code == 501
        assert "cat has a llama.cpp that was built without RPC" in lacking.json()["error"]["message"]
        assert lacking.json()["error"]["hint"] == "on cat: xin engines install llama.cpp --build"
        (library / "libggml-rpc.so").touch()
        other = ant.http.post("/v1/models", json=order)
        assert other.status_code == 400
        assert "cat has 0.3.36, ggml 0.1.2, RPC unknown, not" in other.json()["error"]["message"]
        with cat.client as client:
            client.leave_cluster()


@pytest.mark.slow
def test_a_helper_that_nobody_watches_ends(pair: list[Host]) -> None:
    ant, bee = pair
    there = f"/api/nodes/{bee.http.get('/api/node').json()['id']}{HELPERS}"
    opened = ant.http.post(there, json={"build": llama_cpp(bee)["build"], "model_uid": "mine"})
    assert opened.status_code == 200 and opened.json()["free_bytes"] > 0
    assert len(servers(bee)) == 1
    until(lambda: not servers(bee), 20)


@pytest.mark.slow
def test_a_killed_node_fails_the_model_and_a_killed_worker_node_frees_the_helper(tmp_path: Path, smollm2: Path) -> None:
    with hosts(tmp_path, "ant", "bee", "cat", threads=1) as (ant, bee, cat):
        for other in (bee, cat):
            other.join(ant)
        until(lambda: alive(ant, "bee") and alive(ant, "cat") and alive(bee, "cat"))
        launch(ant, smollm2, "three", shard=["ant", "bee", "cat"])
        assert len(instance_of(ant, "three")["shards"]) == 3
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ant.http.post, CHAT, json={**ASKED, "model": "three", "max_tokens": 400}, timeout=60)
            until(lambda: instance_of(ant, "three")["stats"]["running"])
            [orphan] = servers(bee)
            bee.process.send_signal(signal.SIGKILL)
            assert "bee, which holds a part of three, was lost" in answer.result().json()["error"]["message"]
        until(lambda: instance_of(ant, "three")["state"] == "failed")
        until(lambda: not psutil.pid_exists(orphan) and not servers(cat))
        launch(ant, smollm2, "two", shard=["ant", "cat"])
        [server] = servers(cat)
        ant.process.send_signal(signal.SIGKILL)
        until(lambda: not psutil.pid_exists(server))


@pytest.mark.slow
def test_a_divided_model_comes_back_with_its_node(tmp_path: Path, smollm2: Path) -> None:
    with hosts(tmp_path, "bee", threads=1) as (bee,):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        ant = Host(tmp_path, "ant", threads=1, port=port)  # a node is known by its port
        with ant:
            bee.join(ant)
            until(lambda: alive(ant, "bee"))
            launch(ant, smollm2, "divided", shard=["ant", "bee"])
            expected = words(ant, "divided")
        until(lambda: not servers(bee))
        with ant:
            until(lambda: instance_of(ant, "divided")["state"] == "ready", 30)
            assert words(ant, "divided") == expected


def words(host: Host, model: str) -> str:
    answer = host.http.post(CHAT, json={"model": model, "max_tokens": 16, **ASKED})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def instance_of(host: Host, uid: str) -> dict[str, Any]:
    return next(one for one in host.http.get("/api/instances").json() if one["model_uid"] == uid)


def llama_cpp(host: Host) -> dict[str, Any]:
    engines = host.http.get("/api/node").json()["engines"]
    return next(one["details"] for one in engines if one["name"] == "llama.cpp")


def servers(host: Host) -> list[int]:
    """RPC servers among its children."""
    found = []
    for child in psutil.Process(host.process.pid).children():
        try:
            if "xin.backends.llama_cpp.rpc_server" in child.cmdline():
                found.append(child.pid)
        except psutil.Error:  # it has just ended
            continue
    return found


async def test_what_none_holds_alone_is_offered_to_several() -> None:
    """By what members told of their memory; those that are gone, of another build or of this user's are left out."""

    class Known:
        def trusted(self) -> list[Peer]:
            return [
                peer("bee", 1 * GIB),
                peer("cat", 2 * GIB),
                peer("dog", 9 * GIB, status="gone"),
                peer("elk", 9 * GIB, build="0.1, ggml 0.0.1, RPC 1.0.0"),
                peer("fox", 9 * GIB, relation="local"),
            ]

    async def place() -> Place:
        return Place("ant", [device(2 * GIB)])

    gathering = Gathering(("id-ant", "ant"), Known(), None, place)  # type: ignore[arg-type]
    layers = [100 * 2**20] * 30
    assert await gathering.offer(Need(weights=sum(layers), layers=layers)) == "--shard ant,cat"
    assert await gathering.offer(Need(weights=sum(layers), layers=layers, kv=GIB)) == "--shard ant,cat,bee"
    assert await gathering.offer(Need(weights=sum(layers), layers=layers, kv=9 * GIB)) == ""


def peer(name: str, free: int, *, build: str = "", status: str = "alive", relation: str = "peer") -> Peer:
    details = {"rpc": True, "build": build or llama_build()}
    node = NodeInfo(id=name, name=name, version="", endpoint="", pid=1, started_at=0, devices=[device(free)])
    node.engines = [EngineInfo("llama.cpp", ["gguf"], True, details=details)]
    return Peer(id=name, name=name, relation=relation, status=status, node=node)


def device(free: int) -> Device:
    return Device(id="cpu", kind="cpu", name="CPU", total_bytes=64 * GIB, free_bytes=free)

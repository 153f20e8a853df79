"""Any node answers for the cluster: what runs on another is passed on byte for byte, and its loss is told."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from clustering import Host, hosts, sees, until

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """bee runs a model; ant runs none."""
    with hosts(tmp_path_factory.mktemp("pair"), "ant", "bee") as (ant, bee):
        bee.join(ant)
        bee.launch("echo", model_uid="parrot", node="bee", tokens_per_second=100)
        until(lambda: "parrot" in models(ant))
        yield [ant, bee]


def models(host: Host) -> dict[str, Any]:
    return {one["id"]: one for one in host.http.get("/v1/models").json()["data"]}


def body(words: str = "one two three", **fields: Any) -> dict[str, Any]:
    return {"model": "parrot", "messages": [{"role": "user", "content": words}], **fields}


def test_models_of_the_cluster_are_listed_by_every_node(pair: list[Host]) -> None:
    ant, bee = pair
    assert models(ant)["parrot"]["address"].startswith("https://127.0.0.1:")
    assert ant.http.get("/v1/models/parrot").json()["id"] == "parrot"
    assert ant.http.get("/api/instances").json() == []
    assert "parrot" in models(bee)


def test_an_answer_is_passed_on_byte_for_byte(pair: list[Host]) -> None:
    ant, bee = pair
    for route, asked in [
        (CHAT, body(seed=1)),
        ("/v1/completions", {"model": "parrot", "prompt": "héllo — 世界"}),
        ("/v1/tokenize", {"model": "parrot", "prompt": "a b"}),
    ]:
        there, here = (host.http.post(route, json=asked) for host in (ant, bee))
        assert there.status_code == 200, there.text
        assert same(there.json()) == same(here.json())
        assert (there.headers["xin-node"], here.headers["xin-node"]) == ("bee", "bee")
        assert there.headers["content-type"] == here.headers["content-type"]


def test_refusals_are_the_other_nodes(pair: list[Host]) -> None:
    for asked in (body(temperature=99), body(nonsense=1), {"model": "parrot"}):
        there, here = (host.http.post(CHAT, json=asked) for host in pair)
        assert (there.status_code, there.json()) == (here.status_code, here.json())
        assert there.status_code == 400
    assert pair[0].http.post(CHAT, json={**body(), "model": "narwhal"}).status_code == 404


def test_a_stream_comes_as_it_is_made_under_one_id(pair: list[Host]) -> None:
    ant, _ = pair
    came, last = [], ""
    with ant.http.stream(
        "POST", CHAT, json=body("word " * 40, stream=True), headers={"x-request-id": "mine-1"}
    ) as answer:
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["xin-node"] == "bee"
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                came.append((time.monotonic(), json.loads(line[6:])))
            last = line or last
    assert last == "data: [DONE]"
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for _, chunk in came if chunk["choices"])
    assert text.split() == ["word"] * 40
    assert came[-1][0] - came[0][0] > 0.1, "it was not held back"


def test_who_hangs_up_stops_it_there(pair: list[Host]) -> None:
    ant, bee = pair
    with ant.http.stream("POST", CHAT, json=body("word " * 400, stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        until(lambda: running(bee) == 1)
    until(lambda: running(bee) == 0, 3)


def running(host: Host) -> int:
    return sum(one["stats"]["running"] for one in host.http.get("/api/instances").json())


def test_a_request_goes_one_hop_and_no_further(pair: list[Host]) -> None:
    assert pair[0].http.post(CHAT, json=body(), headers={"xin-hops": "1"}).status_code == 404


def test_every_route_of_a_paired_node_can_be_asked_through_this_one(pair: list[Host]) -> None:
    ant, bee = pair
    bee_id = bee.http.get("/api/node").json()["id"]
    base = f"/api/nodes/{bee_id}"
    assert ant.http.get(f"{base}/api/node").json()["name"] == "bee"
    assert ant.http.get(f"{base}/api/logs/parrot?tail=1").status_code == 200
    assert ant.http.post(f"{base}/v1/models", json={"model_name": "echo", "model_uid": "second"}).status_code == 200
    assert "second" in models(bee)
    assert ant.http.delete(f"{base}/v1/models/second").status_code == 200
    assert "second" not in models(bee)
    assert ant.http.post(f"{base}/api/stop").status_code == 403
    assert ant.http.get(f"/api/nodes/{'0' * 16}/health").status_code == 404


def test_before_its_first_token_another_replica_answers_and_after_it_the_loss_is_told(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee", "cat") as (ant, bee, cat):
        bee.join(ant)
        cat.join(ant)
        bee.launch("echo", model_uid="parrot", node="bee", ttft_ms=1500)
        cat.launch("echo", model_uid="parrot", node="cat", tokens_per_second=20)
        until(sees(ant, "bee", "cat"))
        until(lambda: runs_at(ant, "bee") and runs_at(ant, "cat"))
        busy = {"model": "parrot", "messages": [{"role": "user", "content": "w " * 400}], "stream": True}
        with ant.http.stream("POST", CHAT, json=busy) as first:
            lines = first.iter_lines()
            served = first.headers["xin-node"]
            assert served in ("bee", "cat")
            killed = bee if served == "bee" else cat
            next(lines)
            killed.process.send_signal(signal.SIGKILL)
            rest = [line for line in lines if line.startswith("data: ")]
        told = json.loads(rest[-1][6:])["error"]
        assert (told["code"], killed.name in told["message"]) == ("unreachable", True)
        left = cat if killed is bee else bee
        again = ant.http.post(CHAT, json=body("still here"))
        assert (again.json()["choices"][0]["message"]["content"], again.headers["xin-node"]) == (
            "still here",
            left.name,
        )


@pytest.mark.slow
def test_a_node_lost_before_its_first_token_is_replaced_unseen(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee", "cat") as (ant, bee, cat):
        bee.join(ant)
        cat.join(ant)
        for host in (bee, cat):
            host.launch("echo", model_uid="parrot", node=host.name, ttft_ms=1500)
        until(lambda: runs_at(ant, "bee") and runs_at(ant, "cat"))
        with httpx.Client(base_url=ant.url, timeout=30) as client, _asked(client) as answer:
            until(lambda: running(bee) + running(cat) == 1)
            (bee if running(bee) else cat).process.send_signal(signal.SIGKILL)
            assert answer.result().json()["choices"][0]["message"]["content"] == "one two three"


def runs_at(host: Host, name: str) -> bool:
    peer = host.peer(name)
    return peer is not None and any(one.state == "ready" for one in peer.instances)


@contextmanager
def _asked(client: httpx.Client) -> Iterator[Future[httpx.Response]]:
    """A request under way."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(client.post, CHAT, json=body())


def same(value: Any) -> Any:
    """Without what differs from request to request."""
    return {key: item for key, item in value.items() if key not in ("id", "created")}

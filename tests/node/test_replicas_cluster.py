"""Replicas over the nodes of a cluster: spread by one launch, scaled live, routed from any node."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from clustering import Host, hosts, sees, until
from node_process import XIN

from xin.errors import BadRequest, Conflict, ModelNotFound
from xin.node.placement import Offer
from xin.node.replicas_routing import LATE_SECONDS
from xin.node.replicas_spread import HERE, shares
from xin.protocol.node import LaunchRequest, Peer, PlanCell, PlanRow

CHAT = "/v1/chat/completions"
GIB = 2**30


def offer(name: str, free: float = 16, need: float = 2, **cell: Any) -> Offer:
    peer = Peer(id=name, name=name, relation="peer", status="alive") if name != HERE else None
    row = PlanRow(quantization="Q4", model_format="gguf", model_engine="llama.cpp", weights_bytes=GIB, downloaded=True)
    sizes = {"free_bytes": int(free * GIB), "need_bytes": int(need * GIB)}
    given = {"node": name, "device_id": "cpu", "device_name": "cpu", "verdict": "fits", **sizes, **cell}
    return Offer(peer, row, PlanCell(**given))


@pytest.mark.parametrize(
    ("offers", "have", "count", "wanted"),
    [
        ([offer(HERE), offer("a"), offer("b")], {}, 3, {HERE: 1, "a": 1, "b": 1}),
        ([offer(HERE), offer("a"), offer("b", free=64)], {}, 1, {"b": 1}),
        ([offer(HERE), offer("a")], {}, 5, {HERE: 3, "a": 2}),
        ([offer(HERE), offer("a")], {HERE: 2}, 3, {HERE: 2, "a": 1}),
        ([offer(HERE, verdict="no"), offer("a")], {}, 2, {"a": 2}),
        ([offer(HERE, free=3), offer("a", free=16)], {}, 4, {HERE: 1, "a": 3}),  # one more would not fit here
        ([offer("a", device_id="cuda:0"), offer("a", verdict="no")], {}, 2, {"a": 2}),
        ([offer("a", verdict="no")], {"b": 1}, 2, {"b": 2}),
        ([], {}, 2, {HERE: 2}),
    ],
)
def test_shares_are_even_where_it_fits(offers: list[Offer], have: dict[str, int], count: int, wanted: dict[str, int]):
    assert shares(offers, have, count) == wanted


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    with hosts(tmp_path_factory.mktemp("three"), "ant", "bee", "cat") as (ant, bee, cat):
        bee.join(ant)
        cat.join(ant)
        until(sees(ant, "bee", "cat"))
        until(sees(bee, "ant", "cat"))
        until(sees(cat, "ant", "bee"))
        yield [ant, bee, cat]


def replicas(host: Host) -> list[str]:
    with host.client as client:
        return [one.model_uid for one in client.instances() if one.state == "ready"]


def listed(host: Host, uid: str = "parrot") -> int:
    """How many replicas `host` tells of in the cluster."""
    with host.client as client:
        return next((model.replica for model in client.models() if model.id == uid), 0)


def asked(words: str, **fields: Any) -> dict[str, Any]:
    return {"model": "parrot", "messages": [{"role": "user", "content": words}], **fields}


def launched(host: Host, count: int, **options: Any) -> None:
    with host.client as client:
        client.launch(LaunchRequest(model_name="echo", model_uid="parrot", replica=count, options=options))
    until(lambda: listed(host) == count)


@pytest.fixture
def ended(three: list[Host]) -> Iterator[None]:
    yield
    with three[0].client as client:
        client.terminate("parrot")
    until(lambda: not any(replicas(host) for host in three))
    until(lambda: not any(listed(host) for host in three))


@pytest.mark.usefixtures("ended")
def test_one_launch_is_spread_and_any_node_divides_the_requests(three: list[Host]):
    ant, bee, _ = three
    with ant.client as client:
        order = LaunchRequest(model_name="echo", model_uid="parrot", replica=3, options={"tokens_per_second": 20})
        placed = client.launch_anywhere(order)
        assert placed.reason.startswith("3 replicas: ")
    for host in three:
        with host.client as client:
            assert [instance.placed for instance in client.instances()] == [placed.reason]
    until(lambda: [replicas(host) for host in three] == [["parrot"]] * 3, 30)
    until(lambda: listed(bee) == 3)
    with ThreadPoolExecutor(6) as pool:
        body = asked("word " * 20)
        served = Counter(pool.map(lambda _: bee.http.post(CHAT, json=body).headers["xin-node"], range(6)))
    assert served == {"ant": 2, "bee": 2, "cat": 2}


@pytest.mark.usefixtures("ended")
def test_scaled_up_and_down_while_streams_run(three: list[Host]):
    ant, bee, cat = three
    launched(ant, 1, tokens_per_second=25)
    texts: list[str] = []

    def streamed(host: Host) -> None:
        with httpx.stream("POST", f"{host.url}{CHAT}", json=asked("word " * 50, stream=True), timeout=60) as answer:
            lines = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
        texts.append("".join(line["choices"][0]["delta"].get("content") or "" for line in lines if line["choices"]))

    threads = [threading.Thread(target=streamed, args=(host,)) for host in three]
    for thread in threads:
        thread.start()
    command = [*XIN, "scale", "parrot", "5", "-e", bee.url, "--json"]
    done = subprocess.run(command, env=bee.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["replica"], sum(told["nodes"].values())) == (5, 5)
    until(lambda: listed(cat) == 5)
    with cat.client as client:
        reply = client.scale("parrot", 1)
    assert reply.replica == 1
    for thread in threads:
        thread.join()
    assert [text.split() for text in texts] == [["word"] * 50] * 3
    until(lambda: sum(len(replicas(host)) for host in three) == 1)


@pytest.mark.usefixtures("ended")
def test_a_conversation_returns_to_its_node(three: list[Host]):
    ant, _, cat = three
    launched(ant, 3)
    said = {"role": "user", "content": "a long story of whales " * 60}
    homes = set()
    for turn in range(4):
        messages = [said, *[{"role": "assistant", "content": "go"}, {"role": "user", "content": "on"}] * turn]
        with cat.http.stream("POST", CHAT, json=asked("w " * 40, stream=True)) as other:  # keeps its own node busy
            next(other.iter_bytes())
            answer = cat.http.post(CHAT, json={"model": "parrot", "messages": messages})
        assert answer.status_code == 200, answer.text
        homes.add(answer.headers["xin-node"])
    assert len(homes) == 1


@pytest.mark.usefixtures("ended")
def test_a_conversation_that_comes_in_at_other_nodes_returns_too(three: list[Host]):
    launched(three[0], 3)
    for story in ("whales", "cats"):
        messages = [{"role": "user", "content": f"a long story of {story} " * 60}]
        homes = set()
        for host in three:
            time.sleep(LATE_SECONDS + 1.0)  # until all have heard that nobody is busy
            answer = host.http.post(CHAT, json={"model": "parrot", "messages": messages})
            assert answer.status_code == 200, answer.text
            homes.add(answer.headers["xin-node"])
            messages += [{"role": "assistant", "content": "go"}, {"role": "user", "content": "on"}]
        assert len(homes) == 1


@pytest.mark.slow
def test_a_lone_replica_that_was_killed_answers_when_it_is_back(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Host(tmp_path, "ant") as ant, Host(tmp_path, "bee", port=port) as bee:
        bee.join(ant)
        bee.launch("echo", model_uid="parrot", node="bee", ttft_ms=1500)
        until(lambda: listed(ant) == 1)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ant.http.post, CHAT, json=asked("still here"))
            until(lambda: any(one["stats"]["running"] for one in bee.http.get("/api/instances").json()))
            bee.process.send_signal(signal.SIGKILL)
            bee.process.wait()
            with Host(tmp_path, "bee", port=port):
                reply = answer.result()
    assert reply.status_code == 200, reply.text
    assert (reply.json()["choices"][0]["message"]["content"], reply.headers["xin-node"]) == ("still here", "bee")
    assert int(reply.headers["xin-retried"]) >= 1


@pytest.mark.slow
def test_conversations_with_the_real_model_keep_their_caches(tmp_path: Path):
    with hosts(tmp_path, "ant", "bee") as (ant, bee):
        bee.join(ant)
        until(sees(ant, "bee"))
        until(sees(bee, "ant"))
        options = {"context_length": 2048, "n_parallel": 2, "threads": 1}  # both nodes have the same cores
        order = LaunchRequest(model_name="smollm2", model_uid="parrot", replica=2, options=options)
        with ant.client as client:
            client.launch(order)
        until(lambda: listed(bee) == 2)
        said = {
            name: [{"role": "user", "content": f"{name} is a whale. " * 60}] for name in ("Ada", "Bob", "Cy", "Dot")
        }

        def go_on(name: str) -> tuple[str, float]:
            """Who answered, and how much of the prompt it had read before."""
            body = {"model": "parrot", "messages": said[name], "max_tokens": 8, "temperature": 0}
            answer = ant.http.post(CHAT, json=body)
            reply = answer.json()
            said[name] += [reply["choices"][0]["message"], {"role": "user", "content": "And then?"}]
            usage = reply["usage"]
            return answer.headers["xin-node"], usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]

        with ThreadPoolExecutor(4) as pool:
            homes = {name: home for name, (home, _) in zip(said, pool.map(go_on, said), strict=True)}
        assert Counter(homes.values()) == {"ant": 2, "bee": 2}
        for name in ("Dot", "Ada", "Cy", "Bob", "Ada", "Dot"):
            home, cached = go_on(name)
            assert home == homes[name] and cached > 0.8


def test_what_cannot_be_scaled_is_refused_by_name(three: list[Host]):
    ant, bee, _ = three
    with ant.client as client, pytest.raises(ModelNotFound, match="narwhal"):
        client.scale("narwhal", 2)
    with bee.client as client:
        client.launch(LaunchRequest(model_name="echo", model_uid="other", node="bee"))
        for count in (0, -1, 1000):
            with pytest.raises(BadRequest) as caught:
                client.scale("other", count)
            assert caught.value.param == "replica"
    until(lambda: listed(ant, "other") == 1)
    with ant.client as client:
        with pytest.raises(Conflict, match="other"):
            client.launch(LaunchRequest(model_name="smollm2", model_uid="other", replica=2))
        client.terminate("other")

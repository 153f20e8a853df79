"""Which node of a cluster gets a launch: by the plans of all, by name, and where it runs already."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clustering import Host, hosts, sees, until
from node_process import XIN

from xin.errors import BadRequest, ModelNotFound
from xin.node.placement import Offer, best
from xin.protocol.node import LaunchRequest, Peer, PlanCell, PlanRow

GIB = 2**30


def offer(
    name: str, device: str = "cpu", verdict: Any = "fits", free: float = 16, running: int = 0, **row: Any
) -> Offer:
    peer = Peer(id=name * 4, name=name, relation="peer", status="alive") if name != "here" else None
    made = PlanRow(
        model_name="one", quantization="Q4_K_M", model_format="gguf", model_engine="llama.cpp", weights_bytes=GIB,
        **{"downloaded": True, "estimate": False, **row},
    )  # fmt: skip
    cell = PlanCell(
        node=name, device_id=device, device_name=device, free_bytes=int(free * GIB), need_bytes=2 * GIB, verdict=verdict
    )
    return Offer(peer, made, cell, running)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (offer("a", "cuda:0", free=3), offer("here", free=500)),
        (offer("a", "cuda:0", free=3), offer("here", "cuda:0", "partial", free=3)),
        (offer("a", "cuda:0", "partial", free=3), offer("here", free=500)),
        (offer("a"), offer("here", verdict="partial", free=500)),
        (offer("a", free=4), offer("here", free=500, downloaded=False)),
        (offer("a", free=64), offer("here", free=16)),
        (offer("a"), offer("here", running=3)),
        (offer("here"), offer("a")),
        (offer("here", verdict="partial"), offer("a", verdict="no", free=500)),
    ],
)
def test_the_better_of_two(better: Offer, worse: Offer):
    for pair in ([better, worse], [worse, better]):
        placed = best(pair, "here")
        assert placed.peer == better.peer
        assert placed.reason.startswith(f"on {better.peer.name if better.peer else 'here'}: ")


def test_where_nothing_fits_this_node_says_why():
    assert best([offer("a", verdict="no"), offer("here", verdict="no_engine")], "here").peer is None
    assert best([], "here").reason == ""


def test_the_reason_tells_what_counted():
    reason = best([offer("atlas", "cuda:1", free=20, downloaded=False)], "here").reason
    assert reason == "on atlas: all of it fits in cuda:1, its weights are fetched, 20.0 GiB are free"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    with hosts(tmp_path_factory.mktemp("pair"), "ant", "bee") as (ant, bee):
        bee.join(ant)
        until(sees(ant, "bee"))
        until(sees(bee, "ant"))
        yield ant, bee


def uids(host: Host) -> set[str]:
    with host.client as client:
        return {instance.model_uid for instance in client.instances()}


def test_a_named_node_gets_it_and_all_is_done_through_another(pair: tuple[Host, Host]):
    ant, bee = pair
    with ant.client as client:
        placed = client.launch_anywhere(LaunchRequest(model_name="echo", model_uid="far", node="bee"))
        assert (placed.model_uid, placed.node) == ("far", "bee")
        until(lambda: "far" in uids(bee))
        assert "far" not in uids(ant)
        until(lambda: any(model.id == "far" and model.state == "ready" for model in client.models()))
        assert client.chat("far", [{"role": "user", "content": "so far"}]).choices[0].message.content == "so far"
        assert client.progress("far").progress == 1.0
        again = client.launch_anywhere(LaunchRequest(model_name="echo", model_uid="far"))
        assert again.node == "bee" and "runs there already" in again.reason
        client.terminate("far")
        assert "far" not in uids(bee)
        until(lambda: all(model.id != "far" for model in client.models()))
        with pytest.raises(ModelNotFound):
            client.terminate("far")


def test_a_node_that_is_not_there_is_told_with_those_that_are(pair: tuple[Host, Host]):
    with pair[0].client as client, pytest.raises(BadRequest, match="no paired node crow") as caught:
        client.launch(LaunchRequest(model_name="echo", node="crow"))
    assert caught.value.param == "node" and "ant, bee" in (caught.value.hint or "")


def test_without_a_node_the_plans_decide_and_the_reason_is_told(pair: tuple[Host, Host]):
    ant, bee = pair
    with ant.client as client:
        placed = client.launch_anywhere(LaunchRequest(model_name="smollm2", options={"context_length": 512}))
        assert placed.node in ("ant", "bee") and placed.reason.startswith(f"on {placed.node}: all of it fits in RAM")
        assert "its weights are there" in placed.reason
        until(lambda: any(model.id == placed.model_uid and model.state == "ready" for model in client.models()), 30)
        with next(host for host in pair if host.name == placed.node).client as there:
            assert [instance.placed for instance in there.instances()] == [placed.reason]
        client.terminate(placed.model_uid)
    assert not uids(ant) | uids(bee)


def test_the_command_follows_the_launch_to_where_it_goes(pair: tuple[Host, Host]):
    ant, bee = pair
    command = [*XIN, "launch", "echo", "--model-uid", "told", "--node", "bee", "-e", ant.url, "--json"]
    done = subprocess.run(command, env=ant.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["model_uid"], told["state"], told["node"]) == ("told", "ready", "bee")
    command = [*XIN, "terminate", "told", "-e", ant.url]
    assert subprocess.run(command, env=ant.environ, capture_output=True, timeout=60).returncode == 0
    assert "told" not in uids(bee)


def test_paths_stay_where_they_were_typed(pair: tuple[Host, Host], tmp_path: Path):
    with pair[0].client as client, pytest.raises((BadRequest, ModelNotFound)) as caught:
        client.launch_anywhere(LaunchRequest(model_name=str(tmp_path / "none.gguf")))
    assert str(tmp_path) in caught.value.message

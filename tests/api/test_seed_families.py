"""The seed's PyTorch families by their names: fetched from a hub, loaded, asked. Tiny weights in each architecture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_causal
from hub_server import HubServer
from live_node import LiveNode

sys.path.insert(0, str(Path(__file__).parents[1] / "backends"))
sys.path.insert(0, str(Path(__file__).parents[1] / "node"))
import test_native_twins as twins
from hub_home import point_to

from xin.catalog.spec import Variant, built_in_families
from xin.client import Client

NATIVE = {"gpt-2": "gpt2", "opt": "opt", "falcon": "falcon", "llama-2": "llama", "starcoder": "gpt_bigcode"}
MAPPED = {"baichuan": "baichuan", "internlm": "internlm", "qwen-chat": "qwen"}  # their own code is not run
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def variant(family: str) -> Variant:
    """Its first in PyTorch."""
    there = built_in_families()[family].variants
    return next(one for one in there if one.format == "pytorch" and one.quantization == "none")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """Each family's repository at the commit that the catalogue names."""
    folder = tmp_path_factory.mktemp("families")
    with HubServer({}) as hub:
        for family, architecture in (NATIVE | MAPPED).items():
            made = folder / family
            if family in NATIVE:
                tiny_causal.write(made, architecture)
            else:
                twins.write(made, architecture)
            source = variant(family).source
            hub.repos[source.repo] = {file.name: file.read_bytes() for file in made.iterdir()}
            if len(source.revision) == 40:
                hub.commits[source.repo] = source.revision
        yield hub


@pytest.fixture(scope="module")
def node(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    home = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patch:
        point_to(hub, home, patch)
        with LiveNode(home / "xin") as node:
            yield node


def len_of_vocabulary(node: LiveNode, uid: str) -> int:
    """As the refusal of an id that is none tells it."""
    body = {"model": uid, "prompt": "a", "stop_token_ids": [2**30]}
    told = node.http.post("/v1/completions", json=body).json()["error"]["message"]
    return int(told.rpartition(" ")[2]) + 1


@pytest.mark.parametrize("family", [*NATIVE, *MAPPED])
def test_a_family_is_fetched_loads_answers_and_stops(node: LiveNode, family: str):
    wanted = variant(family)
    uid = node.launch(
        family,
        model_format="pytorch",
        model_size_in_billions=wanted.size_in_billions,
        model_engine="transformers",
        context_length=128,
        threads=1,
    )
    body = {"model": uid, "prompt": "abc", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    first = node.http.post("/v1/completions", json=body).json()
    assert first["usage"]["completion_tokens"] == 6
    assert first["choices"][0]["finish_reason"] == "length"
    assert node.http.post("/v1/completions", json=body).json()["choices"][0]["text"] == first["choices"][0]["text"]
    every = [*range(len_of_vocabulary(node, uid))]
    stopped = node.http.post("/v1/completions", json={**body, "stop_token_ids": every}).json()
    assert (stopped["choices"][0]["finish_reason"], stopped["usage"]["completion_tokens"]) == ("stop", 0)
    with Client(node.url) as client:
        (one,) = [instance for instance in client.instances() if instance.model_uid == uid]
        assert (one.model_name, one.model_engine, one.model_format) == (family, "transformers", "pytorch")
        client.terminate(uid)

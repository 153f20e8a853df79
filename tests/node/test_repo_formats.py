"""The format of a repository whose name does not tell it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_home import go_online, point_to
from hub_server import HubServer

from xin.errors import ModelNotFound, Unreachable
from xin.node.hub import Hub
from xin.node.repo_formats import RepoFormats
from xin.protocol.node import LaunchRequest, PlanRequest

GGUF, TENSORS = {"m.Q4_K_M.gguf": b"x"}, {"model.safetensors": b"y", "config.json": b"{}"}


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"org/g": GGUF, "org/both": GGUF | TENSORS, "org/t": TENSORS, "org/o": {"m.onnx": b"z"}}) as hub:
        point_to(hub, home, monkeypatch)
        go_online(monkeypatch)
        yield hub


@pytest.mark.parametrize(
    ("fields", "format"),
    [
        ({"model_name": "org/g"}, "gguf"),
        ({"model_name": "hf.co/org/g"}, "gguf"),
        ({"model_name": "org/g", "quantization": "Q4_K_M"}, "gguf"),
        ({"model_name": "org/both"}, "gguf"),
        ({"model_name": "org/both", "quantization": "8-bit"}, "pytorch"),
        ({"model_name": "org/both", "model_engine": "llama.cpp"}, "gguf"),
        ({"model_name": "org/t"}, "pytorch"),
        ({"model_name": "org/t", "model_engine": "llama.cpp"}, "pytorch"),
        ({"model_name": "org/both", "model_format": "pytorch"}, "pytorch"),
    ],
)
async def test_the_list_of_files_tells(hub: HubServer, fields: dict[str, Any], format: str):
    order = await RepoFormats(Hub(), []).settled(LaunchRequest(**fields))
    assert order.model_format == format and order.model_name == fields["model_name"]


@pytest.mark.parametrize(
    "name", ["echo", "org/x-GGUF", "org/g:m.Q4_K_M.gguf", "org/g:Q4_K_M", "/tmp/m.gguf", "qwen3:8b"]
)
async def test_where_the_name_tells_nobody_is_asked(hub: HubServer, name: str):
    order = LaunchRequest(model_name=name)
    assert await RepoFormats(Hub(), []).settled(order) is order
    assert hub.tokens == []


async def test_neither_is_told(hub: HubServer):
    with pytest.raises(ModelNotFound, match="holds neither GGUF files nor safetensors"):
        await RepoFormats(Hub(), []).settled(PlanRequest(model_name="org/o"))


async def test_a_hub_that_is_away_is_told_unless_the_node_is_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    order = LaunchRequest(model_name="org/g")
    with pytest.raises(Unreachable, match="cannot be reached"):
        await RepoFormats(Hub(), []).settled(order)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert await RepoFormats(Hub(), []).settled(order) is order

"""The options of engines, and the line that is equal to a launch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import NotFound
from xin.protocol.command import launch_command
from xin.protocol.node import LaunchRequest


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("plan")) as node:
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client


def test_options_of_an_engine_are_its_struct_in_words(client: Client):
    options = {option.name: option for option in client.engine_options("llama.cpp")}
    parallel = options["n_parallel"]
    assert (parallel.type, parallel.default, parallel.minimum, parallel.maximum) == ("integer", 16, 1, 128)
    assert "decode at the same time" in parallel.description
    assert options["flash_attn"].type == "choice" and "auto" in options["flash_attn"].choices
    assert (options["mmap"].type, options["lora"].type, options["chat_template"].default) == ("boolean", "list", None)
    assert next(iter(options)) == "context_length"
    with pytest.raises(NotFound, match="no-engine"):
        client.engine_options("no-engine")


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (LaunchRequest(model_name="smollm2"), "xin launch smollm2"),
        (LaunchRequest(model_name="m", force=True, options={"mmap": True}), "xin launch m --force --mmap=true"),
        (LaunchRequest(model_name="/a b/x.gguf", keep_alive=-1), "xin launch '/a b/x.gguf' --keep-alive=-1"),
        (
            LaunchRequest(
                model_name="m", quantization="Q8_0", options={"mmap": False, "lora": ["a b"], "n_parallel": 2}
            ),
            """xin launch m --quantization Q8_0 --mmap=false --lora='["a b"]' --n-parallel=2""",
        ),
        (LaunchRequest(model_name="m", shard=["ant", "bee"]), "xin launch m --shard ant,bee"),
    ],
)
def test_the_equal_command_of_a_launch(request_: LaunchRequest, line: str):
    assert launch_command(request_) == line

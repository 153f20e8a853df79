"""ChatGLM on a real node, fetched by its name in the catalogue or launched by path; asked with the openai client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from live_node import LiveNode
from openai import BadRequestError, OpenAI

sys.path.insert(0, str(Path(__file__).parents[1] / "backends"))
sys.path.insert(0, str(Path(__file__).parents[1] / "node"))
from hub_home import point_to
from tiny_chatglm import REPLY, write_tiny
from tiny_chatglm_first import write_first

pytestmark = pytest.mark.timeout(400)
QUESTION: list[Any] = [{"role": "user", "content": "你是谁？"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chatglm")
    write_tiny(made / "chatglm3-6b-q8_0.bin", "chatglm3", "q8_0")
    write_tiny(made / "chatglm2-ggml-q4_0.bin", "chatglm2", "q4_0")
    write_first(made / "chatglm-ggml-q4_0.bin", "q4_0", version=1)
    return made


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[LiveNode]:
    repos = {
        f"Xorbits/{family}-6B-GGML": {f"{family}-ggml-q4_0.bin": (folder / f"{family}-ggml-q4_0.bin").read_bytes()}
        for family in ("chatglm", "chatglm2")
    }
    with pytest.MonkeyPatch.context() as patched, HubServer(repos) as hub:
        point_to(hub, folder, patched)
        with LiveNode(folder / "node") as made:
            yield made


@pytest.fixture(scope="module")
def openai(node: LiveNode) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def chatglm2(node: LiveNode) -> str:
    return node.launch("chatglm2", quantization="q4_0", context_length=512)


@pytest.fixture(scope="module")
def chatglm3(node: LiveNode, folder: Path) -> str:
    return node.launch(str(folder / "chatglm3-6b-q8_0.bin"), model_uid="glm3")


def test_a_family_of_the_catalogue_is_fetched_and_answers(chatglm2: str, openai: OpenAI):
    reply = openai.chat.completions.create(model=chatglm2, messages=QUESTION, temperature=0)
    assert reply.choices[0].message.content == REPLY
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len(REPLY) + 3
    assert reply.usage.prompt_tokens > len("[Round 1]")


def test_the_first_family_of_the_catalogue_too(node: LiveNode, openai: OpenAI):
    uid = node.launch("chatglm", quantization="q4_0", context_length=256)
    reply = openai.chat.completions.create(model=uid, messages=QUESTION, temperature=0, max_tokens=2)
    assert reply.usage is not None and reply.usage.completion_tokens == 2
    [shown] = [one for one in node.http.get("/api/instances").json() if one["model_uid"] == uid]
    assert (shown["model_engine"], shown["model_format"], shown["state"]) == ("chatglm.cpp", "ggml", "ready")


def test_a_stream_gives_the_same(chatglm3: str, openai: OpenAI):
    chunks = list(
        openai.chat.completions.create(
            model=chatglm3,
            messages=[{"role": "system", "content": "简短"}, *QUESTION],
            temperature=0.1,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == REPLY and len([one for one in texts if one]) == len(REPLY)
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == len(REPLY) + 3


def test_the_defaults_of_a_request_are_ones_that_the_engine_has(chatglm3: str, openai: OpenAI):
    """A request that sets nothing must not be refused for what the node would set."""
    reply = openai.chat.completions.create(model=chatglm3, messages=QUESTION, max_tokens=3)
    assert reply.choices[0].finish_reason == "length"
    completed = openai.completions.create(model=chatglm3, prompt="你好", max_tokens=2, temperature=0)
    assert completed.usage is not None and completed.usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"extra_body": {"min_p": 0.1}}, "min_p"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
    ],
)
def test_what_it_lacks_is_refused_by_name(chatglm3: str, openai: OpenAI, fields: dict[str, Any], param: str):
    with pytest.raises(BadRequestError) as caught:
        openai.chat.completions.create(model=chatglm3, messages=QUESTION, **fields)
    assert caught.value.param == param


def test_a_file_that_is_cut_short_fails_with_its_cause(node: LiveNode, folder: Path):
    whole = (folder / "chatglm3-6b-q8_0.bin").read_bytes()
    (folder / "cut-q8_0.bin").write_bytes(whole[:-1000])
    reply = node.http.post("/v1/models", json={"model_name": str(folder / "cut-q8_0.bin"), "model_uid": "cut"})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (500, "load_failed")
    assert "cut-q8_0.bin ends in the middle of transformer.output_layer.weight" in error["message"]
    assert "download or convert it again" in error["hint"]


def test_another_engine_cannot_take_it(node: LiveNode, folder: Path):
    body = {"model_name": str(folder / "chatglm3-6b-q8_0.bin"), "model_engine": "llama.cpp"}
    error = node.http.post("/v1/models", json=body).json()["error"]
    assert error["param"] == "model_engine" and "cannot load ggml" in error["message"]

"""Images over HTTP by the real openai client, on tiny image models of both engines."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_gguf
import tiny_llava
import tiny_mmproj
from live_node import LiveNode
from made_up_images import noise, question

TEXT = "what is on this picture?"
ENGINES = ("llama.cpp", "transformers")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    folder = tmp_path_factory.mktemp("images")
    model = tiny_gguf.write("llama", folder / "tiny.gguf", scale=0.2)
    projector = tiny_mmproj.write(folder / "mmproj-tiny.gguf")
    llava = tiny_llava.write(folder / "llava")
    with LiveNode(folder / "node") as node:
        given = {"mmproj": str(projector), "chat_template": tiny_mmproj.TEMPLATE, "context_length": 512}
        node.launch(str(model), model_uid="llama.cpp", model_engine="llama.cpp", **given)
        node.launch(str(llava), model_uid="transformers", model_engine="transformers", context_length=512)
        node.launch(
            str(model), model_uid="blind", model_engine="llama.cpp", mmproj="none", chat_template=tiny_mmproj.TEMPLATE
        )
        yield node


@pytest.fixture(scope="module")
def client(node: LiveNode) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, model: str, *images: bytes, **fields: Any) -> Any:
    return client.chat.completions.create(
        model=model,
        messages=[question(TEXT, *images)],  # type: ignore[list-item]
        temperature=0,
        max_tokens=8,
        logprobs=True,
        **fields,
    )


def first(reply: Any) -> float:
    return float(reply.choices[0].logprobs.content[0].logprob)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_changes_the_answer(client: openai.OpenAI, engine: str) -> None:
    one, again, other = (ask(client, engine, noise(seed)) for seed in (1, 1, 2))
    assert first(again) == pytest.approx(first(one), abs=2e-3)
    assert abs(first(other) - first(one)) > 1e-4
    assert again.usage.prompt_tokens_details.cached_tokens > 16


@pytest.mark.parametrize("engine", ENGINES)
def test_its_tokens_are_counted_and_streams_give_the_same(client: openai.OpenAI, engine: str) -> None:
    without, beside = ask(client, engine), ask(client, engine, noise(1))
    assert beside.usage.prompt_tokens >= without.usage.prompt_tokens + 16
    stream = ask(client, engine, noise(1), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == beside.choices[0].message.content


@pytest.mark.parametrize("engine", ENGINES)
def test_what_does_not_fit_and_what_is_broken(client: openai.OpenAI, engine: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, engine, *(noise(seed) for seed in range(40)))
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, engine, noise(1)[:70])
    assert raised.value.param == "messages[0].content[1].image_url.url"
    assert ask(client, engine, noise(1)).choices[0].finish_reason in ("stop", "length")


def test_a_model_without_a_projector_takes_none(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="takes no images"):
        ask(client, "blind", noise(1))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_ability_is_listed(node: LiveNode, engine: str) -> None:
    listed = {one["id"]: one for one in node.http.get("/v1/models").json()["data"]}
    assert "vision" in listed[engine]["model_ability"]


def test_a_url_is_fetched_only_where_that_is_allowed(tmp_path: Path, client: openai.OpenAI) -> None:
    """And even there not from this host."""
    asked = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}]}
    with pytest.raises(openai.BadRequestError, match="nothing is fetched"):
        client.chat.completions.create(model="llama.cpp", messages=[asked])  # type: ignore[list-item]
    with LiveNode(tmp_path / "fetching", fetch_images=True) as node:
        node.launch("echo", vision=True)
        reply = node.http.post("/v1/chat/completions", json={"model": "echo", "messages": [asked]})
        assert reply.status_code == 400
        assert "not a public one" in reply.json()["error"]["message"]
        data = f"data:image/png;base64,{base64.b64encode(noise(1)).decode()}"
        asked["content"][0]["image_url"]["url"] = data  # type: ignore[index]
        assert node.http.post("/v1/chat/completions", json={"model": "echo", "messages": [asked]}).status_code == 200

"""Calls in Xinference's shape: they give plain dicts, as programs written for its client index them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from xin.client.exchange import Call, Request, Stream, event_reader, exchange
from xin.client.prompt import Turns, messages_of, tools_of
from xin.client.request import Json, get, launch_with, model_path, nothing, post, segment, sent
from xin.errors import BadRequest
from xin.protocol.openai import ChatCompletionChunk


def launch_model(
    model_name: str,
    *,
    model_type: str | None = None,
    model_engine: str | None = None,
    model_uid: str | None = None,
    model_size_in_billions: int | float | str | None = None,
    model_format: str | None = None,
    quantization: str | None = None,
    replica: int = 1,
    model_path: str | None = None,
    keep_alive: float | str | None = None,
    wait_ready: bool = True,
    **options: Any,
) -> Call[str]:
    """Launch and give the uid. The node chooses what is left out; `options` are the engine's."""
    named: Json = {
        "model_name": model_name,
        "model_type": model_type,
        "model_engine": model_engine,
        "model_uid": model_uid,
        "model_size_in_billions": model_size_in_billions,
        "model_format": model_format,
        "quantization": quantization,
        "replica": replica,
        "model_path": model_path,
        "keep_alive": keep_alive,
    }
    fields = {key: value for key, value in {**options, **named}.items() if value is not None}
    reply = yield from launch_with(fields, wait=wait_ready)
    return reply.model_uid


def list_models() -> Call[dict[str, Json]]:
    """Running models by uid."""
    listed = yield from get("/v1/models", dict[str, Any])
    return {model["id"]: model for model in listed["data"]}


def describe_model(model_uid: str) -> Call[Json]:
    return get(model_path(model_uid), dict[str, Any])


def get_launch_model_progress(model_uid: str) -> Call[Json]:
    return get(f"{model_path(model_uid)}/progress", dict[str, Any])


def get_instance_info(model_name: str | None = None, model_uid: str | None = None) -> Call[list[Json]]:
    given = {"model_name": model_name, "model_uid": model_uid}
    params = {key: value for key, value in given.items() if value is not None}
    return get("/v1/models/instances", list[dict[str, Any]], params)


def list_model_registrations(model_type: str, detailed: bool = False) -> Call[list[Json]]:
    """The models that can be launched."""
    params = {"detailed": "true" if detailed else "false"}
    return get(_registrations(model_type), list[dict[str, Any]], params)


def get_model_registration(model_type: str, model_name: str) -> Call[Json]:
    return get(_registration(model_type, model_name), dict[str, Any])


def register_model(model_type: str, model: str, persist: bool = True, worker_ip: str | None = None) -> Call[None]:
    """Add a model by its description: JSON in Xinference's schema, or TOML or JSON in the catalogue's."""
    body = {"model": model, "persist": persist, "worker_ip": worker_ip}
    return exchange(sent(_registrations(model_type), body), nothing)


def unregister_model(model_type: str, model_name: str) -> Call[None]:
    """Forget a model that was registered; its weights stay."""
    return exchange(Request("DELETE", _registration(model_type, model_name), timeout=None), nothing)


def handle_chat(
    model_uid: str,
    /,
    prompt: str | Turns | None = None,
    system_prompt: str | Turns | None = None,
    chat_history: Turns | Json | None = None,
    generate_config: Json | None = None,
    *,
    messages: Turns | None = None,
    tools: Turns | None = None,
    enable_thinking: bool | None = None,
) -> Call[Json] | Stream[Json]:
    """One answer; with `"stream": True` in `generate_config`, its chunks.

    `prompt` is the user's words, after which a system prompt (a string) or the earlier turns (a list) may stand, or
    the whole list of messages. None of these lists is changed: append the answer to your history yourself.
    """
    if isinstance(chat_history, dict):  # 2023's ChatGLM handle: prompt, history, config
        chat_history, generate_config = None, chat_history
    first = messages if messages is not None else prompt
    if first is None:
        raise BadRequest("chat needs a prompt", 'model.chat("What is the largest animal?")', param="prompt")
    tools = tools if tools is not None else tools_of(system_prompt)
    second = None if tools is not None and not isinstance(system_prompt, str) else system_prompt
    body: Json = {"model": model_uid, "messages": messages_of(first, second, chat_history)}
    if tools:
        body["tools"] = list(tools)
    if enable_thinking is not None:
        body["enable_thinking"] = enable_thinking
    return _answer("/v1/chat/completions", {**body, **(generate_config or {})})


def handle_generate(model_uid: str, /, prompt: str, generate_config: Json | None = None) -> Call[Json] | Stream[Json]:
    """The text after `prompt`; with `"stream": True` in `generate_config`, its chunks."""
    return _answer("/v1/completions", {"model": model_uid, "prompt": prompt, **(generate_config or {})})


def handle_create_embedding(model_uid: str, /, input: str | list[str], **fields: Any) -> Call[Json]:
    return post("/v1/embeddings", {"model": model_uid, "input": input, **fields}, dict[str, Any])


def handle_rerank(
    model_uid: str,
    /,
    documents: Sequence[str],
    query: str,
    top_n: int | None = None,
    return_documents: bool | None = None,
    return_len: bool | None = None,
) -> Call[Json]:
    """As `model_calls.rerank`, in Xinference's order of arguments."""
    fields = {"top_n": top_n, "return_documents": return_documents, "return_len": return_len}
    given = {name: value for name, value in fields.items() if value is not None}
    body = {"model": model_uid, "query": query, "documents": list(documents), **given}
    return post("/v1/rerank", body, dict[str, Any])


def _registrations(model_type: str) -> str:
    return f"/v1/model_registrations/{segment(model_type, 'model_type')}"


def _registration(model_type: str, model_name: str) -> str:
    return f"{_registrations(model_type)}/{segment(model_name, 'model_name')}"


def _answer(path: str, body: Json) -> Call[Json] | Stream[Json]:
    if body.get("stream"):
        return Stream(sent(path, body), _chunk)
    return post(path, body, dict[str, Any])


def _chunk(data: bytes) -> Json:
    chunk: Json = msgspec.json.decode(data)
    return _raise_event(data) if "error" in chunk else chunk


_raise_event = event_reader(ChatCompletionChunk)

"""Bad input is a 4xx whose body names what is wrong, in both shapes, and harms nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_node import LiveNode

CHAT, COMPLETIONS, EMBEDDINGS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"
RERANK = "/v1/rerank"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("bad-input")) as node:
        node.launch("echo")
        yield node


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "echo", "messages": HI, **fields}


def turn(message: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "echo", "messages": [message]}


def part(content: Any) -> tuple[str, dict[str, Any]]:
    return turn({"role": "user", "content": [{"type": "text", "text": "see"}, content]})


def prompt(value: Any, **fields: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"model": "echo", "prompt": value, **fields}


WRONG: list[tuple[tuple[str, dict[str, Any]], str | None, str]] = [
    # request, param, words of the message
    ((CHAT, {"messages": HI}), "model", "required"),
    ((CHAT, {"model": "echo"}), "messages", "required"),
    ((CHAT, {"model": None, "messages": HI}), "model", "required"),
    ((CHAT, {"model": 3, "messages": HI}), "model", "expected str, got int"),
    (chat(messages=[]), "messages", "empty"),
    (chat(messages=3), "messages", "got int"),
    (chat(messages=["hi"]), "messages[0]", "expected object, got str"),
    (turn({"content": "hi"}), "messages[0].role", "required"),
    (turn({"role": "robot", "content": "hi"}), "messages[0].role", "robot"),
    (turn({"role": 1, "content": "hi"}), "messages[0].role", "expected one of"),
    (turn({"role": "user"}), "messages[0].content", "required"),
    (turn({"role": "user", "content": 5}), "messages[0].content", "got int"),
    (turn({"role": "user", "content": {"text": "hi"}}), "messages[0].content", "got object"),
    (turn({"role": "user", "content": "hi", "colour": "red"}), "messages[0].colour", "unknown field"),
    (turn({"role": "user", "content": "hi", "name": 1}), "messages[0].name", "expected str"),
    (turn({"role": "tool", "content": "4"}), "messages[0].tool_call_id", "required"),
    (turn({"role": "function", "content": "4", "name": "f"}), "messages[0].role", "not supported"),
    (turn({"role": "assistant", "tool_calls": [{"id": "x"}]}), "messages[0].tool_calls[0]", "no call"),
    (part({"type": "image_url", "image_url": {"url": "http://x/y.png"}}), "messages[0].content[1]", "image_url"),
    (part({"type": "input_audio", "input_audio": {}}), "messages[0].content[1]", "input_audio"),
    (part({"type": "text", "text": 1}), "messages[0].content[1].text", "expected str"),
    (part("plain"), "messages[0].content[1]", "type text"),
    (chat(colour="red"), "colour", "unknown field 'colour'"),
    (chat(temprature=1), "temprature", "unknown field"),
    (chat(temperature="hot"), "temperature", "expected float | null, got str"),
    (chat(temperature=2.5), "temperature", "<= 2.0"),
    (chat(temperature=True), "temperature", "got bool"),
    (chat(max_tokens=True), "max_tokens", "got bool"),
    (chat(max_tokens=1.5), "max_tokens", "got float"),
    (chat(max_tokens=10**30), "max_tokens", ""),
    (chat(seed=2**80), "seed", ""),
    (chat(n=129), "n", "<= 128"),
    (chat(stop=[""]), "stop", "empty string"),
    (chat(stop=["x"] * 65), "stop", "64"),
    (chat(logit_bias={"-1": 1}), "logit_bias", "token ids"),
    (chat(logit_bias={"99999999": 1}), "logit_bias", "99999999"),
    (chat(max_tokens=5, max_completion_tokens=6), "max_tokens", "max_completion_tokens is 6"),
    (chat(top_logprobs=2), "top_logprobs", "needs logprobs"),
    (chat(stream_options={"include_usage": True}), "stream_options", "needs stream"),
    (chat(tools=[{"type": "function"}]), "tools[0].function", "required"),
    (chat(tool_choice="required"), "tool_choice", "needs tools"),
    (chat(functions=[{"name": "f"}]), "functions", "not supported"),
    (chat(model="x" * 513), "model", "512"),
    (chat(model=""), "model", ">= 1"),
    (chat(chat_template_kwargs={"a": 2**70}), "chat_template_kwargs", "out of range"),
    ((MODELS, {"model_name": "echo", "model_uid": "e2", "context_length": 2**70}), "options", "out of range"),
    (chat(verbosity="low"), "verbosity", "not supported"),
    (chat(response_format={"type": "xml"}), "response_format.type", "xml"),
    (chat(response_format="json"), "response_format", "got str"),
    (chat(response_format={"type": "regex"}), "response_format.regex", "required"),
    (chat(repeat_penalty=1.1, repetition_penalty=1.2), "repetition_penalty", "same setting"),
    (chat(repeat_penalty=0), "repeat_penalty", "> 0.0"),
    (prompt([]), "prompt", "empty"),
    (prompt({"a": 1}), "prompt", "got object"),
    (prompt(["a", 1]), "prompt[1]", "one kind"),
    (prompt([["a"]]), "prompt[0][0]", "got str"),
    (prompt([-1]), "prompt[0]", ">= 0"),
    (prompt([1.5]), "prompt[0]", "got float"),
    (prompt([True]), "prompt[0]", "got bool"),
    (prompt(["x"] * 2049), "prompt", "2048"),
    (prompt("x", best_of=2, n=3), "best_of", "less than n"),
    (prompt("x", best_of=2, stream=True), "best_of", "streamed"),
    (prompt([1, 2], suffix="x"), "suffix", "text"),
    (prompt("x", logprobs=True), "logprobs", "got bool"),
    (prompt("x", max_completion_tokens=5), "max_completion_tokens", "unknown field"),
    ((EMBEDDINGS, {"model": "echo", "input": ""}), "input", "empty"),
    ((EMBEDDINGS, {"model": "echo", "input": ["a", ""]}), "input[1]", "empty"),
    ((EMBEDDINGS, {"model": "echo", "input": ["a"] * 2049}), "input", "2048"),
    ((EMBEDDINGS, {"model": "echo", "input": "a", "encoding_format": "hex"}), "encoding_format", "hex"),
    ((EMBEDDINGS, {"model": "echo", "input": "a", "dimensions": 0}), "dimensions", ">= 1"),
    ((RERANK, {"model": "echo", "query": "q"}), "documents", "required"),
    ((RERANK, {"model": "echo", "query": "q", "documents": []}), "documents", "empty"),
    ((RERANK, {"model": "echo", "query": "q", "documents": ["d"] * 2049}), "documents", "2048"),
    ((RERANK, {"model": "echo", "query": "q", "documents": [{"image": "d"}]}), "documents[0]", "unknown field"),
    ((RERANK, {"model": "echo", "query": ["q"], "documents": ["d"]}), "query", "got array"),
    ((RERANK, {"model": "echo", "query": "q", "documents": ["d"], "top_n": 0}), "top_n", ">= 1"),
    ((RERANK, {"model": "echo", "query": "q", "documents": ["d"], "kwargs": '{"a": 1}'}), "kwargs", "further"),
    ((RERANK, {"model": "echo", "query": "q", "documents": ["d"], "max_chunks_per_doc": 2}), "max_chunks_per_doc", ""),
    (("/v1/tokenize", {"model": "echo"}), "prompt", "either"),
    (("/v1/tokenize", {"model": "echo", "prompt": "a", "messages": HI}), "prompt", "either"),
    (("/v1/detokenize", {"model": "echo", "tokens": [-1]}), "tokens[0]", ">= 0"),
    (("/v1/detokenize", {"model": "echo", "tokens": [10**9]}), "tokens", "1000000000"),
    ((MODELS, {}), "model_name", "required"),
    ((MODELS, {"model_name": 5}), "model_name", "got int"),
    ((MODELS, {"model_name": "echo", "model_uid": "../x"}), "model_uid", ""),
    ((MODELS, {"model_name": "echo", "model_uid": "instances"}), "model_uid", ""),
    ((MODELS, {"model_name": "echo", "replica": 0}), "replica", "from 1 to 64"),
    ((MODELS, {"model_name": "echo", "gpu_idx": [0]}), "gpu_idx", "not supported"),
    ((MODELS, {"model_name": "echo", "model_type": "video"}), "model_type", "video"),
    ((MODELS, {"model_name": "echo", "model_uid": "e2", "colour": 1}), "colour", "colour"),
    ((MODELS, {"model_name": "echo", "model_uid": "e2", "context_length": 0}), "context_length", ""),
    ((MODELS, {"model_name": "echo", "model_uid": "e2", "model_engine": "warp"}), "model_engine", "warp"),
]


@pytest.mark.parametrize(("request_", "param", "words"), WRONG, ids=[f"{i}-{row[1]}" for i, row in enumerate(WRONG)])
def test_a_wrong_field_is_named(node: LiveNode, request_: tuple[str, dict[str, Any]], param: str | None, words: str):
    path, body = request_
    reply = node.http.post(path, json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert reply.json()["detail"] == error["message"]
    assert "Traceback" not in reply.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no body"),
        (b"{", "truncated"),
        (b'{"model": }', "byte 10"),
        (b'{"temperature": NaN}', "byte 16"),
        (b'{"temperature": Infinity}', "byte 16"),
        (b'{"temperature": 1e999}', "out of range"),
        (b"[]", "not an array"),
        (b'"text"', "not a string"),
        (b"null", "not null"),
        (b"\xff\xfe", "byte"),
        (b'{"a": "\xff"}', "utf-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
    ],
)
def test_what_is_not_a_json_object_is_refused(node: LiveNode, body: bytes, words: str):
    reply = node.http.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert words in reply.json()["error"]["message"]


def test_a_near_miss_is_hinted_at(node: LiveNode):
    path, body = chat(temprature=1)
    assert node.http.post(path, json=body).json()["error"]["hint"] == "did you mean 'temperature'?"


def test_null_is_unset(node: LiveNode):
    everything = dict.fromkeys(
        ("temperature", "stop", "seed", "logit_bias", "tools", "n", "max_tokens", "audio", "user")
    )
    assert node.http.post(CHAT, json={"model": "echo", "messages": HI, **everything}).status_code == 200


def test_what_asks_for_nothing_is_no_tool_call(node: LiveNode):
    path, body = chat(tools=[], tool_choice="none", functions=[], modalities=["text"], verbosity="medium")
    assert node.http.post(path, json=body).status_code == 200


def test_a_body_over_the_limit_is_too_large(node: LiveNode):
    huge = b'{"model": "echo", "messages": "' + b"x" * (65 << 20) + b'"}'
    reply = node.http.post(CHAT, content=huge, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/no/such/route", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/models/nothing", 404, "model_not_found"),
        ("DELETE", "/v1/models/nothing", 404, "model_not_found"),
        ("GET", "/v1/models/nothing/progress", 404, "model_not_found"),
        ("POST", "/v1/models/nothing/cancel", 404, "model_not_found"),
        ("GET", "/api/logs/nothing", 404, "model_not_found"),
        ("GET", "/api/logs/echo?tail=x", 400, "invalid_value"),
        ("GET", "/api/logs/echo?follow=perhaps", 400, "invalid_value"),
        ("PATCH", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404, "model_not_found"),
    ],
)
def test_aiohttps_own_errors_have_bodies_too(node: LiveNode, method: str, path: str, status: int, code: str):
    reply = node.http.request(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.json()["detail"]
    assert reply.headers["x-request-id"]


def test_a_request_keeps_the_id_it_brought(node: LiveNode):
    assert node.http.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert node.http.get("/health", headers={"x-request-id": "no spaces"}).headers["x-request-id"].startswith("req_")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    "messages", "temperature", "top_p", "n", "stop", "max_tokens", "logit_bias", "response_format", "stream_options",
    "tools", "tool_choice", "seed", "logprobs", "top_logprobs", "chat_template_kwargs", "modalities", "functions",
    "parallel_tool_calls",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(FIELDS), value=json_values)
def test_no_value_of_any_field_is_a_500(node: LiveNode, field: str, value: Any):
    body = json.dumps({"model": "echo", "messages": HI, "max_tokens": 2, field: value})
    reply = node.http.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 400), reply.text

"""Event and log streams, cancellation, and what happens to a stream when its worker or its client goes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from live_node import LiveNode

from xin.protocol import sse

CHAT = "/v1/chat/completions"


@pytest.fixture
def node(tmp_path) -> Iterator[LiveNode]:
    with LiveNode(tmp_path) as node:
        yield node


def events_of(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for data in sse.decode(response.iter_raw()):
        if data != b"[DONE]":
            yield json.loads(data)


def until(events: Iterator[dict[str, Any]], kind: str, **wanted: Any) -> dict[str, Any]:
    for event in events:
        found = event.get("instance") or event
        if event["type"] == kind and all(found.get(key) == value for key, value in wanted.items()):
            return event
    raise AssertionError(f"the stream ended without {kind} {wanted}")


def running(node: LiveNode) -> int:
    (instance,) = node.http.get("/api/instances").json()
    return instance["stats"]["running"]


def wait_for(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_events_begin_with_a_snapshot_and_tell_every_change(node: LiveNode):
    with node.http.stream("GET", "/api/events") as response:
        events = events_of(response)
        snapshot = next(events)
        assert snapshot["type"] == "snapshot"
        assert snapshot["instances"] == []
        assert snapshot["node"]["endpoint"] == node.url
        node.launch("echo")
        until(events, "instance", state="loading")
        until(events, "instance", state="ready")
        assert node.http.delete("/v1/models/echo").json() is None
        until(events, "instance_removed", model_uid="echo")


def test_samples_come_only_to_those_who_ask(node: LiveNode):
    node.launch("echo")
    with node.http.stream("GET", "/api/events?samples=1") as response:
        event = until(events_of(response), "samples")
    assert event["devices"][-1]["kind"] == "cpu"
    assert event["workers"]["echo"]["rss_bytes"] > 1_000_000


def test_logs_are_listed_and_followed(node: LiveNode):
    node.launch("echo")
    lines = node.http.get("/api/logs/echo").json()
    assert lines
    assert set(lines[0]) == {"at", "level", "source", "message"}
    assert node.http.get("/api/logs/echo?tail=1").json() == lines[-1:]
    with node.http.stream("GET", "/api/logs/echo?follow=1&tail=1") as response:
        followed = events_of(response)
        assert next(followed) == lines[-1]
        node.http.delete("/v1/models/echo")
        list(followed)


def test_a_client_that_leaves_ends_its_request(node: LiveNode):
    node.launch("echo", tokens_per_second=50, context_length=100_000)
    body = {"model": "echo", "messages": "word " * 1000, "stream": True}
    with node.http.stream("POST", CHAT, json=body) as response:
        events = events_of(response)
        next(events)
        wait_for(lambda: running(node) == 1)
    wait_for(lambda: running(node) == 0, seconds=2)


def test_a_client_that_leaves_before_the_first_token_ends_its_request(node: LiveNode):
    node.launch("echo", ttft_ms=60_000, tokens_per_second=10)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(httpx.post, node.url + CHAT, json={"model": "echo", "messages": "hi"}, timeout=3)
        wait_for(lambda: running(node) == 1)
        assert isinstance(asked.exception(), httpx.ReadTimeout)
    wait_for(lambda: running(node) == 0, seconds=2)


def test_a_worker_that_is_killed_ends_its_streams_with_an_error(node: LiveNode):
    node.launch("echo", model_uid="one", tokens_per_second=50)
    node.launch("echo", model_uid="two", tokens_per_second=50)
    pids = {one["model_uid"]: one["worker"]["pid"] for one in node.http.get("/api/instances").json()}
    body = {"messages": "word " * 60, "stream": True}
    with (
        node.http.stream("POST", CHAT, json={"model": "one", **body}) as first,
        node.http.stream("POST", CHAT, json={"model": "two", **body}) as second,
    ):
        hurt, other = events_of(first), events_of(second)
        next(hurt)
        os.kill(pids["one"], signal.SIGKILL)
        killed_at = time.monotonic()
        last = list(hurt)[-1]
        assert time.monotonic() - killed_at < 10
        assert last["error"]["code"] == "worker_died"
        assert list(other)[-1]["choices"][0]["finish_reason"] == "stop"
    wait_for(lambda: {one["state"] for one in node.http.get("/api/instances").json()} == {"ready"}, seconds=15)


def test_one_prompt_that_fails_cancels_the_others(node: LiveNode):
    node.launch("echo", tokens_per_second=20, context_length=64)
    prompts = ["word " * 8, "word " * 100]
    reply = node.http.post("/v1/completions", json={"model": "echo", "prompt": prompts})
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    wait_for(lambda: running(node) == 0, seconds=2)


def test_a_known_model_is_launched_on_demand(node: LiveNode):
    reply = node.http.post(CHAT, json={"model": "echo", "messages": "hello"})
    assert reply.json()["choices"][0]["message"]["content"] == "hello"
    (instance,) = node.http.get("/api/instances").json()
    assert instance["explicit"] is False


def test_the_node_and_what_it_can_launch(node: LiveNode):
    about = node.http.get("/api/node").json()
    assert about["cpu_threads"] >= 1
    assert {"echo", "llama.cpp"} <= {engine["name"] for engine in about["engines"]}
    (this,) = node.http.get("/api/cluster").json()["nodes"]
    assert (this["relation"], this["id"]) == ("self", about["id"])
    assert "echo" in {model["model_name"] for model in node.http.get("/api/models").json()}

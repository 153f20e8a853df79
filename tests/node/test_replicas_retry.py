"""A worker that dies before its first token: who asked is answered by another replica of the node, and never twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_node import LiveNode

CHAT = "/v1/chat/completions"
SAID = "the answer stays whole"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    with LiveNode(tmp_path / "node") as node:
        yield node


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "parrot", "messages": [{"role": "user", "content": SAID}], **more}


def text_of(reply: httpx.Response) -> str:
    if "event-stream" not in reply.headers["content-type"]:
        return str(reply.json()["choices"][0]["message"]["content"])
    events = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
    chunks = [json.loads(event) for event in events]
    assert all("error" not in chunk for chunk in chunks), reply.text
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def instances(node: LiveNode) -> list[dict[str, Any]]:
    return list(node.http.get("/api/instances").json())


@pytest.mark.parametrize("stream", [True, False])
def test_another_replica_answers_for_one_that_was_killed_before_its_first_token(node: LiveNode, stream: bool) -> None:
    node.launch(model_uid="parrot", replica=2, ttft_ms=2000)
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(node.http.post, CHAT, json=asked(stream=stream)) for _ in range(4)]
        until(lambda: sum(one["stats"]["running"] for one in instances(node)) == 4)
        os.kill(instances(node)[0]["worker"]["pid"], signal.SIGKILL)
        answers = [reply.result() for reply in replies]
    assert [(one.status_code, text_of(one)) for one in answers] == [(200, SAID)] * 4
    assert sorted(int(one.headers.get("xin-retried", 0)) for one in answers) == [0, 0, 1, 1]


@pytest.mark.parametrize("stream", [True, False])
def test_of_a_single_one_the_death_is_told(node: LiveNode, stream: bool) -> None:
    node.launch(model_uid="parrot", ttft_ms=5000)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(node.http.post, CHAT, json=asked(stream=stream))
        until(lambda: instances(node)[0]["stats"]["running"] == 1)
        os.kill(instances(node)[0]["worker"]["pid"], signal.SIGKILL)
        reply = answer.result()
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "worker_died"
    assert "xin-retried" not in reply.headers


def test_what_has_begun_is_not_begun_again(node: LiveNode) -> None:
    node.launch(model_uid="parrot", replica=2, tokens_per_second=1)
    with node.http.stream("POST", CHAT, json=asked(stream=True)) as reply:
        lines = reply.iter_lines()
        assert any('"content":"the"' in line for line in lines)  # up to there
        until(lambda: any(one["stats"]["running"] for one in instances(node)))
        running = next(one for one in instances(node) if one["stats"]["running"])
        os.kill(running["worker"]["pid"], signal.SIGKILL)
        rest = [line for line in lines if line.startswith("data: ")]
    assert "worker_died" in rest[-1]
    assert not any('"content":"the"' in line for line in rest)


def test_a_request_that_kills_its_worker_does_not_kill_them_all(node: LiveNode) -> None:
    """Three at most: the fourth goes on answering others."""
    node.launch(model_uid="parrot", replica=4, die_after=1)
    before = {one["worker"]["pid"] for one in instances(node)}
    reply = node.http.post(CHAT, json=asked())
    assert reply.status_code == 500
    assert reply.headers["xin-retried"] == "2"
    until(lambda: all(one["state"] == "ready" for one in instances(node)))
    assert len(before & {one["worker"]["pid"] for one in instances(node)}) == 1

"""The real model over HTTP: many streams, clients that leave, workers that are killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_node import LiveNode
from openai import APIError, OpenAI

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from ties import Step, assert_same_or_tied

LONG = " ".join(f"item{i}" for i in range(500))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("hurt-node")) as it:
        it.launch("smollm2", context_length=4096)
        it.launch("smollm2", model_uid="other", context_length=2048)
        yield it


@pytest.fixture(scope="module")
def client(node: LiveNode) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=120) as it:
        yield it


def running(node: LiveNode, uid: str = "smollm2") -> dict[str, Any]:
    (found,) = [one for one in node.http.get("/api/instances").json() if one["model_uid"] == uid]
    return found


def answer(client: OpenAI, number: int) -> list[Step]:
    stream = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": f"Tell me about the number {number}, please."}],
        temperature=0,
        max_tokens=24,
        logprobs=True,
        top_logprobs=20,
        stream=True,
    )
    steps: list[Step] = []
    for chunk in stream:
        for choice in chunk.choices:
            for note in (choice.logprobs and choice.logprobs.content) or []:
                steps.append((note.token, {top.token: top.logprob for top in note.top_logprobs}))
    return steps


def test_sixteen_streams_give_what_each_gives_alone(client: OpenAI):
    solo = [answer(client, number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda number: answer(client, number), range(16)))
    assert all(len(steps) == 24 for steps in together)
    assert_same_or_tied({f"stream {i}": (solo[i], steps) for i, steps in enumerate(together)})
    assert len({tuple(token for token, _ in steps) for steps in together}) > 8


def test_a_client_that_leaves_during_a_long_prompt_frees_its_slot(node: LiveNode):
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            node.url + "/v1/chat/completions",
            json={"model": "smollm2", "messages": LONG + str(began), "max_tokens": 1},
            timeout=1.0,
        )
    left = time.monotonic()
    while running(node)["stats"]["running"]:
        assert time.monotonic() - left < 10
        time.sleep(0.02)
    print(f"the slot was free after {time.monotonic() - left:.2f} s")


def test_a_killed_worker_ends_its_stream_and_comes_back_while_others_go_on(node: LiveNode, client: OpenAI):
    def stream(uid: str) -> Iterator[str]:
        chunks = client.chat.completions.create(
            model=uid, messages=[{"role": "user", "content": "Count."}], max_tokens=150, stream=True,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or ""

    hurt, other = stream("smollm2"), stream("other")
    next(hurt), next(hurt), next(other)
    os.kill(running(node)["worker"]["pid"], signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises(APIError, match="smollm2"):
        list(hurt)
    print(f"the error came after {time.monotonic() - killed:.2f} s")
    assert len(list(other)) > 100
    assert "".join(stream("smollm2"))
    assert running(node)["state"] == "ready"

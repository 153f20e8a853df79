"""`xin fake-node`: every state that the workbench shows, from a real node with made-up models."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_process import XIN, started

from xin.client import Client
from xin.errors import XinError


@contextmanager
def fake_node(home: Path, *flags: str) -> Iterator[Client]:
    environ = {**os.environ, "XIN_HOME": str(home)}
    with started([*XIN, "fake-node", *flags], environ) as (endpoint, _), Client(endpoint) as client:
        yield client


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(client: Client) -> list[str]:
    return [instance.state for instance in client.instances()]


def test_models_answer_with_a_thought_and_markdown_on_gpus_named_as_fake(tmp_path: Path) -> None:
    with fake_node(tmp_path, "--models", "2", "--rate", "0", "--gpus", "2", "--slow", "0s") as client:
        until(lambda: states(client) == ["ready", "ready"])
        answers = [client.get_model(uid).chat("hello", [])["choices"][0]["message"] for uid in ("fake-1", "fake-2")]
        assert "```sql" in answers[0]["content"] and answers[0]["content"] != answers[1]["content"]
        assert answers[0]["reasoning_content"]
        gpus = [device for device in client.node().devices if device.kind == "cuda"]
        assert [gpu.name.startswith("fake") for gpu in gpus] == [True, True]


def test_the_last_model_dies_the_first_goes_on(tmp_path: Path) -> None:
    with fake_node(tmp_path, "--models", "2", "--rate", "0", "--die-after", "50", "--slow", "0s") as client:
        until(lambda: states(client) == ["ready", "ready"])
        with pytest.raises(XinError, match="killed"):
            client.get_model("fake-2").chat("hello", [])
        assert client.get_model("fake-1").chat("hello", [])["choices"][0]["finish_reason"] == "stop"


def test_out_of_memory_is_a_failed_instance(tmp_path: Path) -> None:
    with fake_node(tmp_path, "--models", "1", "--oom") as client:
        until(lambda: states(client) == ["failed"])
        assert "memory" in (client.instances()[0].cause or "")

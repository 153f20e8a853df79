"""The plan of a file that only a hub has, on a real node: exact where the hub answers, else an estimate."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_server import HubServer
from live_node import LiveNode

from xin.client import Client

NAME = "org/small-GGUF:small.Q4_1.gguf"


def test_a_plan_reads_the_header_alone_and_is_exact(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with HubServer({"org/small-GGUF": {"small.Q4_1.gguf": smollm2.read_bytes()}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
            [row] = client.plan(NAME).rows
            [here] = client.plan(str(smollm2)).rows
        assert not row.downloaded and not row.estimate
        assert row.weights_bytes == here.weights_bytes
        assert [cell.need_bytes for cell in row.cells] == [cell.need_bytes for cell in here.cells]
        assert all(asked.startswith("bytes=") for asked in hub.ranges("small.Q4_1.gguf"))
    assert not (tmp_path / "hf" / "hub" / "models--org--small-GGUF" / "blobs").exists()


def test_a_hub_that_is_not_there_leaves_an_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        rows = client.plan("vicuna-v1.5").rows
    assert rows and all(row.estimate and row.weights_bytes for row in rows)

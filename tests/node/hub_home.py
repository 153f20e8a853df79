"""Fixtures' common part: a hub on loopback that nodes of the test fetch from, and waiting for their jobs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer

from xin.client import Client
from xin.protocol.node import Job

BODY = b"GGUF\3\0\0\0" + random.Random(4).randbytes(3_000_000)


def point_to(hub: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub cache of what is started from now on."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return home / "hf" / "hub"


def go_online(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that ask the hub in their own process: huggingface_hub reads the variable when it is imported."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def until(client: Client, job_id: str, true: Callable[[Job], Any]) -> Job:
    deadline = time.monotonic() + 30
    while not true(job := client.job(job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.03)
    return job


def ended(client: Client, job_id: str) -> Job:
    return until(client, job_id, lambda job: job.ended_at is not None and job.state != "running")


def parts(cache: Path) -> list[Path]:
    return sorted(cache.glob("models--*/blobs/*.xin-part"))

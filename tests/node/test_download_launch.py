"""Launches of models that a hub on loopback has: downloaded first, one download for all who want it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_home import point_to, until
from hub_server import HubServer
from live_node import LiveNode

from xin.client import Client
from xin.protocol.node import Job

pytestmark = pytest.mark.slow
NAME = "org/small-GGUF:small.Q4_1.gguf"


@pytest.fixture
def hub(smollm2: Path) -> Iterator[HubServer]:
    with HubServer({"org/small-GGUF": {"small.Q4_1.gguf": smollm2.read_bytes()}}) as hub:
        yield hub


@pytest.fixture
def node(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveNode]:
    point_to(hub, tmp_path, monkeypatch)
    with LiveNode(tmp_path / "node") as node:
        yield node


def test_a_repository_whose_name_does_not_tell_is_launched(node: LiveNode, hub: HubServer):
    hub.repos["org/plain"] = {"README.md": b"x", **hub.repos["org/small-GGUF"]}
    with Client(node.url) as client:
        assert {row.model_format for row in client.plan("org/plain").rows} == {"gguf"}
        uid = node.launch("org/plain")
        [instance] = client.instances()
        assert (instance.model_format, instance.quantization, instance.state) == ("gguf", "Q4_1", "ready")
        assert node.launch("org/plain") == uid  # found on the disk by now, and the same
        [launch] = [job for job in client.jobs() if job.kind == "launch"]
    assert [(stage.name, stage.state) for stage in launch.stages] == [
        (name, "done") for name in ("resolve", "download", "load", "warm up", "ready")
    ]


def test_a_launch_goes_on_with_its_download_after_a_kill(node: LiveNode, hub: HubServer):
    hub.bytes_per_second = 40_000_000
    with Client(node.url) as client:
        client.start_job("launch", model_name=NAME, model_uid="one")
        until(client, downloading(client).id, lambda job: job.progress > 0.4)
        node.process.kill()
        node.process.wait()
    hub.bytes_per_second = 0
    with LiveNode(node.home) as again, Client(again.url) as client:
        deadline = time.monotonic() + 60
        while client.instances()[0].state != "ready":
            assert time.monotonic() < deadline, client.instances()
            time.sleep(0.05)
    first, second = hub.downloads("small.Q4_1.gguf")
    assert first == "" and second.startswith("bytes=")


def test_a_download_that_was_paused_rests_though_its_launch_comes_back(node: LiveNode, hub: HubServer):
    hub.bytes_per_second = 40_000_000
    with Client(node.url) as client:
        client.start_job("launch", model_name=NAME, model_uid="one")
        job_id = downloading(client).id
        until(client, job_id, lambda job: job.bytes_done)
        client.job_action(job_id, "pause")
        node.process.terminate()
        node.process.wait(20)
    with LiveNode(node.home) as again, Client(again.url) as client:
        until(client, job_id, lambda job: client.instances()[0].stage.startswith("paused at"))
        assert client.job(job_id).state == "paused" and len(hub.downloads("small.Q4_1.gguf")) == 1
        hub.bytes_per_second = 0
        client.job_action(job_id, "resume")
        until(client, job_id, lambda job: client.instances()[0].state == "ready")


def downloading(client: Client) -> Job:
    """The first download, once there is one."""
    deadline = time.monotonic() + 30
    while not (found := downloads(client)):
        assert time.monotonic() < deadline
        time.sleep(0.03)
    return found[0]


def downloads(client: Client) -> list[Job]:
    return [job for job in client.jobs() if job.kind == "download"]


def test_two_launches_share_one_download_and_answer(node: LiveNode, hub: HubServer):
    with Client(node.url) as client:
        uids = [client.start_job("launch", model_name=NAME, model_uid=uid).model_uid for uid in ("one", "two")]
        assert uids == ["one", "two"]
        node.launch(NAME, model_uid="one")
        node.launch(NAME, model_uid="two")
        [job] = downloads(client)
        assert job.state == "done" and len(hub.downloads("small.Q4_1.gguf")) == 1
    body = {"model": "two", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    reply = node.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"]


def test_a_cancelled_launch_ends_its_download(node: LiveNode, hub: HubServer):
    hub.bytes_per_second = 5_000_000
    with Client(node.url) as client:
        client.start_job("launch", model_name=NAME, model_uid="one")
        client.start_job("launch", model_name=NAME, model_uid="two")
        deadline = time.monotonic() + 30
        while not any(job.bytes_done for job in downloads(client)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert {one.state for one in client.instances()} == {"downloading"}
        client.cancel_launch("one")
        assert downloads(client)[0].state == "running"
        client.cancel_launch("two")
        assert downloads(client)[0].state == "cancelled"

"""Every launch is a job: its stages, its cause, cancel and retry; kept over a restart."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import BadRequest, Conflict, ModelNotFound, NotFound, UnsupportedParameter
from xin.protocol.node import Job


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("jobs")) as node:
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client
        for instance in client.instances():
            client.terminate(instance.model_uid)


def until(client: Client, job_id: str, true: Callable[[Job], Any], seconds: float = 20) -> Job:
    deadline = time.monotonic() + seconds
    while not true(job := client.job(job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return job


def ended(job: Job) -> bool:
    return job.ended_at is not None


def states(job: Job) -> list[tuple[str, str]]:
    return [(stage.name, stage.state) for stage in job.stages]


def test_a_launch_goes_through_its_stages(client: Client):
    begun = client.start_job("launch", model_name="echo", model_uid="a", load_seconds=0.5)
    assert (begun.kind, begun.state, begun.model_uid, begun.actions) == ("launch", "running", "a", ["cancel"])
    assert states(begun)[:2] == [("resolve", "done"), ("load", "running")]
    loading = until(client, begun.id, lambda job: 0.2 < job.progress < 1)
    assert loading.stages[1].progress and loading.seconds_left != 0
    done = until(client, begun.id, ended)
    assert (done.state, done.progress, done.actions) == ("done", 1.0, ["delete"])
    assert [state for _, state in states(done)] == ["done"] * 4
    assert done.command == "xin launch echo --model-uid a --load-seconds=0.5"
    assert any("ready in" in line.message for line in client.job_log(begun.id))


def test_launches_by_any_door_are_jobs(node: LiveNode, client: Client):
    node.launch("echo", model_uid="b")
    assert [job.state for job in client.jobs() if job.model_uid == "b"] == ["done"]
    client.chat("echo", [{"role": "user", "content": "hi"}])
    assert [job.state for job in client.jobs() if job.model_uid == "echo"][-1:] in (["done"], [])


def test_a_failed_launch_has_its_cause_and_can_be_tried_again(client: Client):
    job = client.start_job("launch", model_name="echo", model_uid="c", fail_load="the weights are cursed")
    failed = until(client, job.id, ended)
    assert failed.state == "failed" and "cursed" in (failed.cause or "") and failed.hint
    assert ("load", "failed") in states(failed) and failed.actions == ["retry", "delete"]
    again = client.job_action(job.id, "retry")
    assert again.id != job.id and again.model_uid == "c"
    with pytest.raises(NotFound):
        client.job(job.id)
    assert until(client, again.id, ended).state == "failed"
    client.job_action(again.id, "delete")
    assert again.id not in {one.id for one in client.jobs()}


def test_cancelling_a_launch_ends_its_process(client: Client):
    job = client.start_job("launch", model_name="echo", model_uid="d", load_seconds=30)
    pid = until_pid(client, "d")
    cancelled = client.job_action(job.id, "cancel")
    assert cancelled.state == "cancelled" and cancelled.actions == ["retry", "delete"]
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Conflict, match="cannot cancel"):
        client.job_action(job.id, "cancel")


def until_pid(client: Client, uid: str) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for instance in client.instances():
            if instance.model_uid == uid and instance.worker.pid:
                return instance.worker.pid
        time.sleep(0.02)
    raise AssertionError(f"{uid} has no process")


def test_jobs_are_events_and_stand_in_the_snapshot(client: Client):
    with Client(client.endpoint) as watcher:
        events = watcher.events()
        first = next(events)
        assert first.type == "snapshot" and first.jobs is not None
        job = client.start_job("launch", model_name="echo", model_uid="e")
        seen = []
        for event in events:
            if event.job is not None and event.job.id == job.id:
                seen.append(event.job.state)
            if seen[-1:] == ["done"]:
                break
        client.job_action(job.id, "delete")
        assert next(event for event in events if event.job_id).job_id == job.id
        events.close()
    assert seen[0] in ("waiting", "running")


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        ({}, BadRequest, "kind"),
        ({"kind": "dance"}, BadRequest, "kind"),
        ({"kind": ["launch"]}, BadRequest, "kind"),
        ({"kind": "launch"}, BadRequest, "model_name"),
        ({"kind": "launch", "model_name": "echo", "colour": 1}, BadRequest, "colour"),
        ({"kind": "launch", "model_name": "echo", "on_demand": "x"}, BadRequest, "on_demand"),
        ({"kind": "launch", "model_name": "echo", "n_worker": 2}, UnsupportedParameter, "n_worker"),
        ({"kind": "launch", "model_name": "no-such-model"}, ModelNotFound, "model_name"),
        ({"kind": "install"}, BadRequest, "name"),
        ({"kind": "install", "name": 3}, BadRequest, "name"),
        ({"kind": "install", "name": "winamp"}, BadRequest, "name"),
        ({"kind": "install", "name": "transformers", "build": True}, BadRequest, "build"),
        ({"kind": "install", "name": "llama.cpp", "accelerator": "abacus"}, BadRequest, "accelerator"),
        ({"kind": "install", "name": "llama.cpp", "speed": 9}, BadRequest, "speed"),
        ({"kind": "quantize", "source": "smollm2"}, BadRequest, "quantization"),
        ({"kind": "quantize", "source": "smollm2", "quantization": "Q9_Z"}, BadRequest, "quantization"),
        ({"kind": "quantize", "source": "echo", "quantization": "Q8_0"}, BadRequest, "source"),
        ({"kind": "quantize", "source": "nowhere", "quantization": "Q8_0"}, ModelNotFound, "source"),
        ({"kind": "quantize", "source": "smollm2", "quantization": "Q8_0", "name": "../../x"}, BadRequest, "name"),
    ],
)
def test_bad_input_names_the_field(client: Client, body: dict[str, Any], error: type, param: str):
    before = len(client.jobs())
    kind = body.pop("kind", None)
    with pytest.raises(error) as caught:
        client.start_job(kind, **body)
    assert caught.value.param == param
    assert len(client.jobs()) == before


def test_unknown_jobs_and_actions_are_not_found(node: LiveNode):
    for path in ("/api/jobs/nope", "/api/jobs/nope/log"):
        assert node.http.get(path).status_code == 404
    assert node.http.post("/api/jobs/nope/cancel").status_code == 404
    reply = node.http.post("/api/jobs/nope/explode")
    assert reply.status_code == 404 and "explode" in reply.json()["error"]["message"]


def test_a_page_of_another_origin_starts_and_ends_no_job(node: LiveNode):
    headers = {"Origin": "http://evil.example"}
    assert (
        node.http.post("/api/jobs", json={"kind": "launch", "model_name": "echo"}, headers=headers).status_code == 403
    )
    assert node.http.post("/api/jobs/x/cancel", headers=headers).status_code == 403
    assert node.http.post("/api/plan", json={"model_name": "echo"}, headers=headers).status_code == 403
    assert node.http.get("/api/jobs", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_are_kept_over_a_restart(tmp_path: Path, end: signal.Signals):
    """What ran is listed as interrupted; an explicit launch comes back by itself, one on demand by retry."""
    node = LiveNode(tmp_path / "node")
    with node, Client(node.url) as client:
        done = client.start_job("launch", model_name="echo", model_uid="done")
        until(client, done.id, ended)
        wish = {"model_name": "echo", "model_uid": "cut", "load_seconds": 30, "on_demand": True}
        cut = client.start_job("launch", **wish)
        children = [until_pid(client, "cut"), until_pid(client, "done")]
        time.sleep(0.5)  # the file is written a moment later
        os.kill(node.process.pid, end)
        node.process.wait(20)
    for pid in children:
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    with node, Client(node.url) as client:
        kept = client.job(cut.id)
        assert (kept.state, kept.cause, kept.actions) == ("failed", "interrupted by a restart", ["retry", "delete"])
        assert client.job(done.id).state == "done"
        again = client.job_action(cut.id, "retry")
        assert again.model_uid == "cut" and again.state == "running"
        client.job_action(again.id, "cancel")

"""Quantize jobs with llama.cpp's own quantizer and the real small model; what they make can be launched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import BadRequest, Conflict
from xin.protocol.node import Job


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("quantize")) as node:
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client


def models_of(node: LiveNode) -> Path:
    return node.home / "data" / "models"


def until(client: Client, job_id: str, true: Callable[[Job], Any], seconds: float = 60) -> Job:
    deadline = time.monotonic() + seconds
    while not true(job := client.job(job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.01)
    return job


def ended(job: Job) -> bool:
    return job.ended_at is not None


def test_a_quantization_is_made_found_and_answers(node: LiveNode, client: Client):
    job = client.start_job("quantize", source="smollm2", quantization="q8_0")
    assert job.command == "xin quantize smollm2 Q8_0"
    same = client.start_job("quantize", source="smollm2", quantization="q8_0")
    assert same.id == job.id
    half = until(client, job.id, lambda job: 0.05 < job.progress < 1 or ended(job))
    assert half.bytes_total > 100_000_000 and half.files[0].state == "running"
    done = until(client, job.id, ended)
    assert (done.state, done.cause) == ("done", None)
    assert [stage.state for stage in done.stages] == ["done"] * 3
    file = models_of(node) / "SmolLM2-135M-Instruct.Q8_0.gguf"
    assert file.stat().st_size == done.bytes_total == done.files[0].done_bytes
    assert [path.name for path in models_of(node).iterdir()] == [file.name]
    assert done.detail == "xin launch smollm2:Q8_0"
    assert any("blk.29" in line.message for line in client.job_log(job.id))

    names = {model.model_name: model for model in client.local_models()}
    assert names["smollm2:Q8_0"].source == "made here" and "chat" in names["smollm2:Q8_0"].model_ability
    uid = client.launch_model("smollm2", quantization="Q8_0")
    assert uid == "smollm2-Q8_0" == client.launch_model("smollm2:q8_0")
    said = client.chat(uid, [{"role": "user", "content": "Say hello."}], max_tokens=8, temperature=0)
    assert said.choices[0].message.content
    client.terminate(uid)
    assert client.launch_model("smollm2:Q4_1", model_uid="bundled") == "bundled"
    client.terminate("bundled")
    with pytest.raises(Conflict, match="there already"):
        client.start_job("quantize", source="smollm2", quantization="Q8_0")
    with pytest.raises(BadRequest) as caught:
        client.launch_model("smollm2", quantization="Q2_K")
    assert caught.value.param == "quantization" and "Q8_0" in (caught.value.hint or "")


def test_the_plan_has_a_row_for_each_quantization(client: Client):
    plan = client.plan("smollm2")
    rows = {row.quantization: row for row in plan.rows if row.downloaded}
    assert "Q4_1" in rows
    for row in rows.values():
        assert not row.estimate and row.model_engine == "llama.cpp"
        cell = row.cells[-1]
        assert cell.device_id == "cpu" and cell.verdict == "fits" and cell.max_context == 8192
        assert cell.need_bytes > row.weights_bytes
    short = {row.quantization: row for row in client.plan("smollm2", {"context_length": 64}).rows}
    assert short["Q4_1"].cells[-1].need_bytes < rows["Q4_1"].cells[-1].need_bytes


def test_cancel_ends_the_quantizer_and_removes_what_it_wrote(node: LiveNode, client: Client):
    job = client.start_job("quantize", source="smollm2", quantization="Q6_K")
    until(client, job.id, lambda job: any(models_of(node).glob("*Q6_K*.part")) or ended(job))
    children = quantizers(node)
    cancelled = client.job_action(job.id, "cancel")
    assert cancelled.state == "cancelled"
    assert not list(models_of(node).glob("*Q6_K*"))
    assert not psutil.wait_procs(children, timeout=5)[1]


def test_jobs_of_a_kind_run_one_after_the_other_and_a_waiting_one_can_be_cancelled(client: Client):
    first = client.start_job("quantize", source="smollm2", quantization="Q5_K_M")
    second = client.start_job("quantize", source="smollm2", quantization="Q5_1")
    assert client.job(second.id).state == "waiting"
    assert client.job_action(second.id, "cancel").state == "cancelled"
    client.job_action(first.id, "cancel")


def test_a_killed_quantizer_is_a_failed_job_that_can_be_tried_again(node: LiveNode, client: Client):
    job = client.start_job("quantize", source="smollm2", quantization="Q5_0")
    until(client, job.id, lambda job: job.bytes_total > 0)
    for child in quantizers(node):
        child.send_signal(signal.SIGKILL)
    failed = until(client, job.id, ended)
    assert failed.state == "failed" and "killed from outside" in (failed.cause or "")
    assert not list(models_of(node).glob("*Q5_0*"))
    again = client.job_action(job.id, "retry")
    assert again.state in ("waiting", "running")
    client.job_action(again.id, "cancel")


def test_a_broken_source_fails_with_what_llama_cpp_says(node: LiveNode, client: Client, smollm2: Path):
    broken = node.home / "Broken-1B.F16.gguf"
    broken.write_bytes(smollm2.read_bytes()[:200_000])
    job = client.start_job("quantize", source=str(broken), quantization="Q8_0")
    failed = until(client, job.id, ended)
    assert failed.state == "failed" and "could not quantize Broken-1B.F16.gguf" in (failed.cause or "")
    assert not list(models_of(node).glob("Broken*"))


def test_a_node_that_was_killed_leaves_no_part_behind(tmp_path: Path):
    node = LiveNode(tmp_path / "node")
    with node, Client(node.url) as client:
        job = client.start_job("quantize", source="smollm2", quantization="Q6_K")
        until(client, job.id, lambda job: any(models_of(node).glob("*.part")))
        children = quantizers(node)
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.wait(10)
        assert children and not psutil.wait_procs(children, timeout=5)[1]
    assert list(models_of(node).glob("*.part"))
    with node, Client(node.url) as client:
        assert client.job(job.id).cause == "interrupted by a restart"
        assert not list(models_of(node).iterdir())


def quantizers(node: LiveNode) -> list[psutil.Process]:
    children = psutil.Process(node.process.pid).children(recursive=True)
    return [child for child in children if any("quantize" in word for word in child.cmdline())]

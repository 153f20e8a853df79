"""Install jobs of a node, in an environment of its own with a package made up on the spot."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node_process import started

from xin.client import Client
from xin.protocol.node import EngineInfo, Job

PIP_WHEEL = ["--no-input", "wheel"]


@contextmanager
def node_in(environment: Any) -> Iterator[Client]:
    command = [environment.python, "-m", "xin", "node", "--port", "0", "--private"]
    with started(command, environment.variables) as (endpoint, _), Client(endpoint) as client:
        yield client


def until(client: Client, job_id: str, true: Callable[[Job], Any]) -> Job:
    deadline = time.monotonic() + 60
    while not true(job := client.job(job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def ended(job: Job) -> bool:
    return job.ended_at is not None


def llama_cpp(client: Client) -> EngineInfo:
    return next(engine for engine in client.node().engines if engine.name == "llama.cpp")


def test_a_node_installs_an_engine_and_has_it_without_a_restart(environment):
    environment.add_source()
    with node_in(environment) as client:
        assert not llama_cpp(client).installed
        [row] = client.plan("smollm2", model_format="gguf", quantization="Q4_1").rows
        assert row.cells[0].verdict == "no_engine"
        job = client.start_job("install", name="llama.cpp", build=True)
        assert job.command == "xin engines install llama.cpp --build"
        done = until(client, job.id, ended)
        assert done.state == "done", done
        assert {stage.name: stage.state for stage in done.stages}["build"] == "done"
        assert done.detail == "llama.cpp 0.3.36 (built)"
        assert llama_cpp(client).installed and llama_cpp(client).details["rpc"]
        assert any("[3/3] Building" in line.message for line in client.job_log(job.id))


def test_a_failed_build_has_its_cause_and_the_log_says_more(environment):
    environment.add_source(fail="the gremlins are back")
    with node_in(environment) as client:
        job = client.start_job("install", name="llama.cpp", build=True)
        failed = until(client, job.id, ended)
        assert failed.state == "failed" and "gremlins" in (failed.cause or "")
        assert "engines-install-llama.cpp.log" in (failed.hint or "") and "retry" in failed.actions
        assert any("gremlins" in line.message for line in client.job_log(job.id))


def test_cancel_ends_pip_and_what_it_started(environment, tmp_path: Path):
    environment.add_source()
    started = hang_in_builds(environment, tmp_path)
    with node_in(environment) as client:
        job = client.start_job("install", name="llama.cpp", build=True)
        deadline = time.monotonic() + 30
        while not started.exists():
            assert time.monotonic() < deadline, client.job_log(job.id)
            time.sleep(0.05)
        begun = time.monotonic()
        assert client.job_action(job.id, "cancel").state == "cancelled"
        assert time.monotonic() - begun < 5
        assert not any("-m pip" in line for line in processes_of(environment))


def hang_in_builds(environment: Any, folder: Path) -> Path:
    """Make `pip wheel` sleep; the file that it touches before."""
    started = folder / "started"
    site = next((environment.folder / "venv").glob("lib/python*/site-packages"))
    hang = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(60)"
    (site / "sitecustomize.py").write_text(f"import sys\nif sys.orig_argv[4:6] == {PIP_WHEEL}:\n    {hang}\n")
    return started


def processes_of(environment: Any) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(environment.folder / "venv") in line]

"""NVIDIA devices through the real pynvml on a made-up driver library, each in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20
PRELUDE = """
import json, os
from xin.node.devices.nvidia import Nvidia
from xin.node.devices.probe import Prober, probe
import msgspec
def show(devices): return json.loads(msgspec.json.encode(devices))
"""

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None or sys.platform != "linux", reason="compiles a library for Linux"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder with the made-up libnvidia-ml.so.1."""
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    library = folder / "libnvidia-ml.so.1"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([*command, "-o", library, source], check=True)
    return folder


@pytest.fixture
def run(driver):
    """Run code against the driver and return the JSON that it prints."""

    def run(code, *, library=True, **settings):
        environ = {**os.environ, **{key: str(value) for key, value in settings.items()}}
        if library:
            environ["LD_LIBRARY_PATH"] = str(driver)
        command = [sys.executable, "-W", "error", "-c", PRELUDE + code]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_two_gpus_tell_everything(run):
    first, second = run("print(json.dumps(show(Nvidia().read())))", FAKE_PROCESSES="1:4242:700,1:4343:300")
    assert first == {
        "id": "cuda:0",
        "kind": "cuda",
        "name": "NVIDIA Fake 96GB",
        "total_bytes": 98304 * MIB,
        "free_bytes": 96256 * MIB,
        "utilization": 37.0,
        "temperature": 55.0,
        "power": 123.456,
        "power_limit": 300.0,
        "driver": "580.65.06",
        "compute_capability": "9.0",
        "parent": None,
        "unified": False,
        "cores": None,
        "bf16": None,
        "note": None,
        "process_bytes": {},
    }
    assert (second["id"], second["temperature"]) == ("cuda:1", 56.0)
    assert second["process_bytes"] == {"4242": 700 * MIB, "4343": 300 * MIB}


def test_questions_a_driver_does_not_know_leave_fields_empty(run):
    device = run("print(json.dumps(show(Nvidia().read())))", FAKE_GPUS=1, FAKE_SILENT=1)[0]
    assert device["total_bytes"] == 98304 * MIB
    assert [device[key] for key in ("utilization", "temperature", "power", "power_limit", "note")] == [None] * 5


def test_no_library_is_no_device_and_no_complaint(run):
    code = "source = Nvidia(); print(json.dumps([show(source.read()), source.problem]))"
    assert run(code, library=False) == [[], None]


def test_a_driver_that_is_not_loaded_is_noted_on_the_host(run):
    devices = run("print(json.dumps(show(probe())))", FAKE_INIT=9)
    assert [device["id"] for device in devices] == ["cpu"]
    assert devices[0]["note"] == "NVIDIA driver: Driver Not Loaded"


def test_a_lost_gpu_is_noted_and_the_other_goes_on(run):
    code = """
source = Nvidia()
before = show(source.read())
os.environ["FAKE_LOST"] = "1"
after = show(source.read())
del os.environ["FAKE_LOST"]
print(json.dumps([before, after, show(source.read())]))
"""
    before, after, again = run(code)
    assert [device["note"] for device in before] == [None, None]
    assert after[0] == before[0]
    assert after[1]["note"].startswith("GPU is lost (name, memory, utilization")
    assert (after[1]["total_bytes"], after[1]["free_bytes"], after[1]["power"]) == (0, None, None)
    assert again == before


def test_a_gpu_without_a_handle_is_still_listed(run):
    devices = run("print(json.dumps(show(Nvidia().read())))", FAKE_NO_HANDLE=0)
    assert [(device["id"], device["note"]) for device in devices] == [
        ("cuda:0", "GPU is lost (handle)"),
        ("cuda:1", None),
    ]


def test_a_driver_that_goes_away_is_opened_anew(run):
    code = """
import pynvml
source = Nvidia()
source.read()
pynvml.nvmlShutdown()
gone = show(source.read())
problem = source.problem
print(json.dumps([gone, problem, len(source.read()), source.problem]))
"""
    gone, problem, count, after = run(code)
    assert (gone, problem.startswith("NVIDIA driver: "), count, after) == ([], True, 2, None)


def test_mig_instances_stand_under_their_gpu(run):
    code = "print(json.dumps(show(Nvidia().read())))"
    devices = run(code, FAKE_MIG=0, FAKE_PROCESSES="0:4242:700,102:4242:700")
    assert [(device["id"], device["parent"]) for device in devices] == [
        ("cuda:0", None),
        ("cuda:0/0", "cuda:0"),
        ("cuda:0/2", "cuda:0"),
        ("cuda:1", None),
    ]
    gpu, first, second, _ = devices
    assert gpu["note"] == "MIG is on: models run on its 2 instances"
    assert (first["name"], first["total_bytes"]) == ("NVIDIA Fake MIG 1g.12gb", 12288 * MIB)
    assert (first["utilization"], first["compute_capability"]) == (None, "9.0")
    # Counted once, on the instance, though the driver lists it on the whole GPU too.
    assert [device["process_bytes"] for device in (gpu, first, second)] == [{}, {}, {"4242": 700 * MIB}]


def test_memory_of_processes_becomes_memory_of_models(run):
    code = """
import subprocess, sys
from xin.node.devices.sampler import measure
from xin.protocol.node import WorkerInfo
worker = subprocess.Popen(
    ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True)
child = int(worker.stdout.readline())
os.environ["FAKE_PROCESSES"] = f"0:{worker.pid}:100,1:{child}:200,1:1:5000"
workers = {"a": WorkerInfo(pid=worker.pid, threads=2), "b": WorkerInfo(pid=None)}
found = measure(workers, Prober([Nvidia()]).read())
os.killpg(worker.pid, 9)
worker.communicate()
late = measure(workers, Prober([Nvidia()]).read())
print(json.dumps([show(found), show(late)]))
"""
    found, late = run(code)
    assert found["a"]["gpu_bytes"] == {"cuda:0": 100 * MIB, "cuda:1": 200 * MIB}
    assert found["a"]["rss_bytes"] > 100_000
    assert found["a"]["threads"] == 2
    assert (found["b"]["gpu_bytes"], found["b"]["rss_bytes"]) == ({}, 0)
    assert (late["a"]["gpu_bytes"], late["a"]["rss_bytes"]) == ({}, 0)

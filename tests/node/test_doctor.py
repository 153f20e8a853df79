"""GET /api/doctor and `xin doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest
from clustering import hosts, sees, until
from live_node import LiveNode
from node_process import XIN

from xin.node import doctor
from xin.node.keys import DESCRIPTION, RELAY
from xin.protocol.node import Device, EngineInfo, NodeInfo, Peer


def info(**fields: Any) -> NodeInfo:
    given = {"id": "0" * 16, "name": "ant", "version": "1.2.3", "endpoint": "http://x", "pid": 1, "started_at": 0.0}
    return NodeInfo(**{**given, **fields})


def member_app(answer: Any) -> Any:
    """What `_of_member` asks for: a relay whose `ask` gives this, and a node of version 1.2.3."""

    async def ask(*_: object) -> bytes:
        return msgspec.json.encode(answer())

    async def current() -> NodeInfo:
        return info()

    return {RELAY: SimpleNamespace(ask=ask), DESCRIPTION: SimpleNamespace(current=current)}


@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [(0, "ok", "answers in"), (-10, "warn", "10 s behind"), (600, "fail", "600 s ahead")],
)
async def test_clocks_that_differ_are_told(ahead: float, state: str, words: str):
    bee = Peer(id="b", name="bee", relation="peer", status="alive", version="1.2.9")
    check = await doctor._of_member(member_app(lambda: {"status": "ok", "time": time.time() + ahead}), bee)
    assert check.state == state and words in check.message
    assert ("NTP" in check.hint) == (state != "ok")


async def test_a_member_that_is_gone_or_of_another_version_is_told():
    app = member_app(lambda: {"time": time.time()})
    gone = Peer(id="b", name="bee", relation="peer", status="gone", seen_at=time.time() - 90)
    assert "gone for 90 s" in (await doctor._of_member(app, gone)).message
    old = Peer(id="b", name="bee", relation="peer", status="alive", version="1.1.0")
    check = await doctor._of_member(app, old)
    assert check.state == "warn" and "update" in check.hint


def test_no_engine_a_full_disk_and_a_gpu_without_its_build_are_told(monkeypatch: pytest.MonkeyPatch):
    echo = EngineInfo("echo", [], True)
    assert doctor._of_engines([echo]).state == "fail"
    llama = EngineInfo("llama.cpp", ["gguf"], True, "0.3", details={"backends": ["cpu", "rpc"]})
    assert doctor._of_engines([echo, llama]).message == "llama.cpp 0.3"
    gpu = Device(id="g", name="RTX", kind="cuda", total_bytes=2**33)
    assert doctor._of_devices(info(devices=[gpu], engines=[llama])).state == "warn"
    assert doctor._of_devices(info(engines=[llama])).state == "ok"
    for free, state in ((2**40, "ok"), (2**32, "warn"), (2**20, "fail")):
        monkeypatch.setattr(psutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert {check.state for check in doctor._of_disks()} == {state}


def test_members_and_the_way_to_them(tmp_path: Path):
    with hosts(tmp_path, "ant", "bee") as (ant, bee), ant.client as client:
        bee.join(ant)
        until(sees(ant, "bee"))
        checks = {check.name: check for check in client.doctor().checks}
    assert checks["member bee"].state == "ok" and "answers in" in checks["member bee"].message
    assert "open to members" in checks["port"].message
    assert "ant answers at" in checks["node"].message
    assert {"engines", "disk", "devices", "announced", "heard"} <= checks.keys()


def xin(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"XIN_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run([*XIN, *arguments], env=environ, capture_output=True, text=True, timeout=60)


def test_the_command_prints_it_and_without_a_node_it_looks_at_the_machine(tmp_path: Path):
    with LiveNode(tmp_path, name="hera") as node:
        shown = xin(tmp_path, "doctor", "-e", node.url)
        assert shown.returncode == 0, shown.stderr
        assert "hera answers at" in shown.stdout and "private: not announced" in shown.stdout
        told = json.loads(xin(tmp_path, "doctor", "-e", node.url, "--json").stdout)
        assert told["node"] == "hera" and {check["state"] for check in told["checks"]} <= {"ok", "warn"}
    alone = xin(tmp_path, "doctor", "-e", node.url)
    assert alone.returncode == 1
    assert "FAIL" in alone.stdout and "engines" in alone.stdout and "disk" in alone.stdout

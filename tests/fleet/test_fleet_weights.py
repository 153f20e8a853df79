"""Weights between hosts of their own, with a hub on the same bridge: who gives is killed, unplugged, or not needed."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, sha256
from namespaces import SUBNET, Host, fleet, missing, pair, until

from xin.client import Client
from xin.protocol.node import Job

REPO, FILE = "org/big-GGUF", "big.Q8_0.gguf"
BYTES = 300_000_000
HUB = (f"{SUBNET}.4", 8000)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")


@pytest.fixture(scope="module")
def body() -> bytes:
    dice = random.Random(9)
    return b"".join(dice.randbytes(BYTES // 30) for _ in range(30))


@pytest.fixture(scope="module")
def three(namespaces: None) -> Iterator[list[Host]]:
    """ant, bee and cat in one cluster, and hub, where no node runs. ant has the file."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_ENDPOINT", f"http://{HUB[0]}:{HUB[1]}")
        with fleet("ant", "bee", "cat", "hub", without_node=1) as hosts:
            pair(*hosts[:3])
            until(lambda: all(host.sees(2) for host in hosts[:3]))
            yield hosts


@pytest.fixture(scope="module")
def hub(three: list[Host], body: bytes) -> Iterator[HubServer]:
    made = three[3].inside(lambda: HubServer({REPO: {FILE: body}}, HUB))
    with made as hub:
        assert pull(three[0]).state == "done"
        hub.log.clear()
        yield hub


def pull(on: Host, midway: Callable[[str], None] | None = None) -> Job:
    """The job once it has ended. `midway` is told who gives the file when half of it is there."""
    job_id = on.ask(lambda client: client.start_job("download", model_name=f"{REPO}:{FILE}")).id
    deadline = time.monotonic() + 120
    while (job := on.ask(lambda client: client.job(job_id))).ended_at is None:
        assert time.monotonic() < deadline, job
        if midway is not None and job.bytes_done > BYTES / 2:
            midway(job.files[0].source)
            midway = None
        time.sleep(0.02)
    assert midway is None, "it was over before it could be disturbed"
    return job


def forget(on: Host) -> None:
    shutil.rmtree(cache(on))


def cache(host: Host) -> Path:
    return host.home / "hf" / "hub" / f"models--{REPO.replace('/', '--')}"


def is_right(host: Host, body: bytes) -> bool:
    [path] = (cache(host) / "snapshots").glob(f"*/{FILE}")
    return sha256(path.read_bytes()) == sha256(body)


def went_on_at(on: Host, job: Job, giver: str) -> int:
    """The byte at which somebody else went on."""
    lines = on.ask(lambda client: Client.job_log(client, job.id))
    said = "\n".join(line.message for line in lines)
    at = int(said.split(f"{FILE}: {giver}: ")[1].split("going on at byte ")[1].split()[0])
    assert BYTES / 2 < at < BYTES, said
    return at


def test_a_cluster_without_a_hub_gives_what_one_member_has(three: list[Host], hub: HubServer, body: bytes) -> None:
    cat, far = three[2:]
    far.pull_cable()
    try:
        job = pull(cat)
    finally:
        far.put_cable()
    assert job.state == "done" and job.files[0].source == "ant" and is_right(cat, body), job
    assert hub.log == []


def test_the_givers_cable_is_pulled(three: list[Host], hub: HubServer, body: bytes) -> None:
    by_name = {host.name: host for host in three}
    bee, pulled = by_name["bee"], []

    def unplug(giver: str) -> None:
        by_name[giver].pull_cable()
        pulled.append(giver)

    try:
        job = pull(bee, unplug)
    finally:
        for giver in pulled:
            by_name[giver].put_cable()
    assert job.state == "done" and is_right(bee, body), job
    [other] = {"ant", "cat"} - set(pulled)
    assert job.files[0].source == other and hub.log == []
    went_on_at(bee, job, pulled[0])
    forget(bee)
    until(lambda: all(one.sees(2) for one in three[:3]))


def test_givers_are_killed_until_only_the_hub_is_left(three: list[Host], hub: HubServer, body: bytes) -> None:
    by_name = {host.name: host for host in three}
    bee, killed = by_name["bee"], []

    def kill(giver: str) -> None:
        by_name[giver].signal(signal.SIGKILL)
        killed.append(giver)

    job = pull(bee, kill)
    assert job.state == "done" and is_right(bee, body), job
    [other] = {"ant", "cat"} - set(killed)
    assert job.files[0].source == other and hub.log == []
    at = went_on_at(bee, job, killed[0])
    assert f"to bee: bytes={at}-" in (by_name[other].home / "stderr.txt").read_text()
    forget(bee)
    job = pull(bee, kill)
    assert job.state == "done" and is_right(bee, body), job
    assert killed[1] == other and job.files[0].source == ""
    assert hub.log == [(FILE, f"bytes={went_on_at(bee, job, other)}-")]

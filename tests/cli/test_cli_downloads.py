"""`xin launch` and `xin pull` of what a hub on loopback has, as a person sees them on a terminal."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from node_process import NodeProcess, running_node
from terminal import Terminal

from xin.client import Client

BODY = b"GGUF\3\0\0\0" + random.Random(4).randbytes(3_000_000)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    files = {f"tiny-{size}.Q4_0.gguf": BODY + size.encode() for size in ("1b", "2b", "3b")}
    with HubServer({"org/tiny-GGUF": files}) as hub:
        yield hub


@pytest.fixture(scope="module")
def node(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    home: Path = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(home / "hf"))
        with running_node(home) as started:
            yield started


def test_a_launch_shows_its_download_and_ctrl_c_keeps_what_came(hub: HubServer, node: NodeProcess) -> None:
    hub.bytes_per_second = 1_000_000
    with Terminal("launch", "org/tiny-GGUF:tiny-1b.Q4_0.gguf", environ=node.environ) as terminal:
        terminal.read_until("1 of 3 MB")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    assert "cancelled" in terminal.output and "Traceback" not in terminal.output
    shown = re.findall(r"downloading (\d+) of 3 MB", terminal.output)
    assert [*map(int, shown)] == sorted(map(int, shown)) and re.search(r"[1-9]\d?%", terminal.output)
    with Client(node.endpoint) as client:
        [job] = [job for job in client.jobs() if job.kind == "download"]
        [launch] = [job for job in client.jobs() if job.kind == "launch"]
    assert job.state == "cancelled" and 0 < job.bytes_done < len(BODY)
    assert [stage.name for stage in launch.stages][:3] == ["resolve", "download", "load"]
    assert launch.state == "cancelled"


def test_a_pull_shows_its_progress_and_goes_on_where_it_was(hub: HubServer, node: NodeProcess) -> None:
    hub.bytes_per_second = 200_000
    with Terminal("pull", "org/tiny-GGUF:tiny-2b.Q4_0.gguf", environ=node.environ) as terminal:
        terminal.read_until("MB of tiny-2b")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    with Terminal("pull", "org/tiny-GGUF:tiny-2b.Q4_0.gguf", environ=node.environ) as terminal:
        terminal.read_until("MB of tiny-2b")
        hub.bytes_per_second = 0
        assert terminal.finish() == 0
    assert "done: xin launch org/tiny-GGUF" in terminal.output
    assert hub.ranges("tiny-2b.Q4_0.gguf") == [""]


def test_a_launch_of_what_is_no_model_says_so_once_it_is_here(hub: HubServer, node: NodeProcess) -> None:
    hub.bytes_per_second = 0
    done = node.xin("launch", "org/tiny-GGUF:tiny-3b.Q4_0.gguf")
    assert done.returncode == 5 and "GGUF" in done.stderr and done.stdout == "", done
    with Client(node.endpoint) as client:
        launch = next(job for job in reversed(client.jobs()) if job.kind == "launch")
    assert [(stage.name, stage.state) for stage in launch.stages][:3] == [
        ("resolve", "done"),
        ("download", "done"),
        ("load", "failed"),
    ]

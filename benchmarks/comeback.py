"""A node that is killed, and started again: how long until the workbench shows it as gone, and as back."""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

from figure import Figure
from screen import SIZE, Screen

XIN = [sys.executable, "-m", "xin"]
READY = re.compile(r"ready on (http\S+)")
SETTLE_SECONDS = 3.0


def comebacks(environ: Mapping[str, str], rounds: int) -> list[Figure]:
    """`back` counts from the line with which the node says that it is ready."""
    port = _free_port()
    gone: list[float] = []
    back: list[float] = []
    node, endpoint = _started(environ, port)
    try:
        with Screen([*XIN, "tui", "-e", endpoint], environ, SIZE) as screen:
            screen.until(lambda text: "live" in text and "fake-1" in text)
            for _ in range(rounds):
                screen.settle(SETTLE_SECONDS)
                gone.append(_killed(screen, node))
                screen.settle(SETTLE_SECONDS)
                screen.text = ""
                node, _ = _started(environ, port)
                began = time.perf_counter()
                screen.until(lambda text: "live" in text)
                back.append(time.perf_counter() - began)
    finally:
        node.kill()
        node.wait()
    return [_figure("kill -9 of the node: shown as gone after", 5.0, gone), _figure("back after its start", 3.0, back)]


def _figure(name: str, limit: float, values: list[float]) -> Figure:
    return Figure(name, "s", statistics.median(values), limit, values, f"at most {max(values):.2f} s")


def _killed(screen: Screen, node: subprocess.Popen[str]) -> float:
    screen.text = ""
    node.kill()
    began = time.perf_counter()
    node.wait()
    screen.until(lambda text: "lost" in text)
    return time.perf_counter() - began


def _started(environ: Mapping[str, str], port: int) -> tuple[subprocess.Popen[str], str]:
    command = [*XIN, "fake-node", "--models", "1", "--port", str(port)]
    node = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert node.stdout is not None
    found = READY.search(node.stdout.readline())
    assert found is not None, "the fake node did not start"
    return node, found[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Starting and stopping nodes from the command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from node_process import XIN, running_node

from xin.client import Client
from xin.errors import Unreachable


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def environ(xin_home: Path, port: int) -> Iterator[dict[str, str]]:
    """Of a machine on which no node runs; what a test starts is ended."""
    endpoint = f"http://127.0.0.1:{port}"
    yield {**os.environ, "XIN_ENDPOINT": endpoint, "XIN_NODE_PRIVATE": "true"}
    with Client(endpoint) as client:
        try:
            pid = client.node().pid
        except Unreachable:
            return
        os.kill(pid, signal.SIGTERM)
        psutil.Process(pid).wait(20)


def xin(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*XIN, *arguments], env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def test_run_starts_a_node_that_stays_and_says_so(environ: dict[str, str], port: int, xin_home: Path) -> None:
    done = xin(environ, "run", "echo", "blue whale")
    assert (done.returncode, done.stdout) == (0, "blue whale\n"), done.stderr
    log = xin_home / "state" / "log" / f"node-{port}.log"
    assert f"no node answered at http://127.0.0.1:{port}; started one (pid " in done.stderr
    assert str(log) in done.stderr
    assert f"ready on http://127.0.0.1:{port}" in log.read_text()
    assert "started one" not in xin(environ, "run", "echo", "again").stderr

    stopped = xin(environ, "node", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "has stopped" in stopped.stderr
    assert xin(environ, "node", "stop").returncode == 4


def test_commands_that_look_start_nothing(environ: dict[str, str]) -> None:
    for command in (["list"], ["show", "echo"], ["nodes"], ["terminate", "x"], ["logs", "x"], ["bench", "x"]):
        done = xin(environ, *command)
        assert done.returncode == 4, command
        assert "start one: xin node" in done.stderr


def test_an_endpoint_that_was_given_is_never_started(environ: dict[str, str]) -> None:
    done = xin(environ, "launch", "echo", "-e", environ["XIN_ENDPOINT"])
    assert done.returncode == 4


def test_a_node_that_cannot_start_tells_why(environ: dict[str, str]) -> None:
    done = xin({**environ, "XIN_NODE_THREADS": "-3"}, "launch", "echo")
    assert done.returncode == 2
    assert "threads" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_server_on_the_port_is_named(environ: dict[str, str], port: int) -> None:
    class Xinference(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bodies = {"/v1/cluster/auth": b'{"auth":false}', "/v1/cluster/version": b'{"version":"4.1.0"}'}
            body = bodies.get(self.path, b'{"detail":"Not Found"}')
            self.send_response(200 if self.path in bodies else 404)
            self.send_header("content-length", str(len(body)))
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Xinference) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        launched = xin(environ, "launch", "echo")
        started = xin(environ, "node", "--port", str(port))
        server.shutdown()
        thread.join()
    assert launched.returncode == 4
    assert "is Xinference 4.1.0, not a xin node" in launched.stderr
    assert "--port" in launched.stderr
    assert started.returncode != 0
    assert "Xinference" in started.stderr


def test_a_second_node_on_the_port_is_refused(tmp_path: Path) -> None:
    with running_node(tmp_path / "home") as node:
        second = node.xin("node", "--port", node.endpoint.rpartition(":")[2])
        assert second.returncode != 0
        assert "taken" in second.stderr
        assert node.xin("list").returncode == 0


def test_stop_waits_for_running_answers(environ: dict[str, str]) -> None:
    assert xin(environ, "launch", "echo", "--tokens-per-second", "10").returncode == 0
    command = [*XIN, "run", "echo", " ".join(["word"] * 60)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout
        assert asking.stdout.read(4) == "word"
        assert asking.poll() is None
        assert xin(environ, "node", "stop").returncode == 0
        rest, _ = asking.communicate(timeout=20)
    assert ("word" + rest).split() == ["word"] * 60 and asking.returncode == 0

"""`xin node` as a process: its ready line, its file, a taken port, and the three ways to stop."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest
from live_node import MAIN, LiveNode

CHAT = "/v1/chat/completions"


def start_on(node: LiveNode, port: int) -> subprocess.CompletedProcess[str]:
    environ = {**node.environ, "XIN_NODE_PORT": str(port)}
    return subprocess.run([sys.executable, "-c", MAIN], env=environ, capture_output=True, text=True, timeout=30)


def test_it_says_when_it_is_ready_and_leaves_nothing_behind(tmp_path):
    with LiveNode(tmp_path, name="box") as node:
        assert node.ready_line == f"xin node box ready on {node.url}\n"
        (file,) = (tmp_path / "run").glob("node-*.json")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text())["endpoint"] == node.url
        assert node.process.pid == node.http.get("/api/node").json()["pid"]
        assert psutil.Process(node.process.pid).memory_info().rss < 80e6
    assert node.process.returncode == 0
    assert not file.exists()
    assert node.said().endswith("xin: stopped\n")


def test_a_port_taken_by_a_node_is_told(tmp_path):
    with LiveNode(tmp_path, name="first") as node:
        port = int(node.url.rpartition(":")[2])
        second = start_on(node, port)
        assert second.returncode == 1
        assert second.stderr.startswith(f"xin: port {port} is taken: the node first (pid {node.process.pid})")
        assert second.stderr.count("\n") == 1
        assert node.http.get("/health").status_code == 200


class Foreign(BaseHTTPRequestHandler):
    """What a Xinference server says to its clients' first question."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/cluster/auth" else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"auth": false}')

    def log_message(self, *_: object) -> None: ...


def test_a_port_taken_by_others_is_told(tmp_path):
    node = LiveNode(tmp_path)
    with HTTPServer(("127.0.0.1", 0), Foreign) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            told = start_on(node, server.server_port)
        finally:
            server.shutdown()
            thread.join()
    assert (told.returncode, "taken by a Xinference server" in told.stderr) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        told = start_on(node, mute.getsockname()[1])
    assert (told.returncode, "taken by another program" in told.stderr) == (1, True)


def test_an_address_of_another_host_is_refused(tmp_path):
    told = start_on(LiveNode(tmp_path, host="192.0.2.1"), 0)
    assert told.returncode == 1
    assert "cannot listen on 192.0.2.1" in told.stderr


def test_an_empty_key_stops_the_start(tmp_path):
    told = start_on(LiveNode(tmp_path, host="0.0.0.0", api_key=""), 0)
    assert told.returncode != 0
    assert "api_key" in told.stderr


@pytest.mark.parametrize("how", ["signal", "request"])
def test_a_stop_lets_running_requests_end(tmp_path, how):
    with LiveNode(tmp_path, drain_seconds=20) as node:
        node.launch("echo", tokens_per_second=20)
        with node.http.stream("POST", CHAT, json={"model": "echo", "messages": "word " * 30, "stream": True}) as answer:
            lines = answer.iter_lines()
            next(lines)
            if how == "signal":
                node.process.send_signal(signal.SIGTERM)
            else:
                assert node.http.post("/api/stop").json()["stopping"] is True
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert node.process.wait(10) == 0
    assert "stopping" in node.said()


def test_a_second_signal_ends_them(tmp_path):
    with LiveNode(tmp_path, drain_seconds=60) as node:
        node.launch("echo", tokens_per_second=5)
        with node.http.stream(
            "POST", CHAT, json={"model": "echo", "messages": "word " * 500, "stream": True}
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            node.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert node.process.poll() is None
            node.process.send_signal(signal.SIGINT)
            assert "error" in list(lines)[-2]
        assert node.process.wait(10) == 1


def test_event_streams_do_not_hold_up_a_stop(tmp_path):
    with LiveNode(tmp_path, drain_seconds=60) as node, node.http.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        next(lines)
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert any('"stopping"' in line for line in lines)
        assert node.process.wait(10) == 0
        assert time.monotonic() - began < 5


def test_a_killed_node_leaves_no_worker(tmp_path):
    with LiveNode(tmp_path) as node:
        node.launch("echo")
        (worker,) = psutil.Process(node.process.pid).children()
        node.process.kill()
        node.process.wait()
        psutil.wait_procs([worker], timeout=5)
        assert not worker.is_running()

"""A real node in a process of its own, on a free port, for tests that talk to it as a client does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

MAIN = """
import sys
from blockbuster import BlockBuster
from xin.config import load
from xin.node.app import run

BlockBuster().activate()  # what blocks the node's event loop raises BlockingError
sys.exit(run(load()))
"""


class LiveNode:
    """`with` it. `settings` are fields of NodeConfig; stderr goes to a file in `home`.

    `under`: a command that runs the node's by exec.
    """

    def __init__(self, home: Path, *, under: Sequence[str] = (), **settings: Any) -> None:
        self.home = home
        self._under = under
        home.mkdir(parents=True, exist_ok=True)
        given = {"port": 0, "private": True, "drain_seconds": 5, **settings}
        self.environ = {
            **os.environ,
            "XIN_HOME": str(home),
            "XIN_REGISTRY": str(home / "registry"),
            "PYTHONUNBUFFERED": "1",
            **{f"XIN_NODE_{name.upper()}": str(value) for name, value in given.items()},
        }

    def __enter__(self) -> LiveNode:
        self.stderr = (self.home / "stderr.txt").open("ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*self._under, sys.executable, "-c", MAIN],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        self.ready_seconds = time.monotonic() - began
        if " ready on " not in self.ready_line:
            self._close()
            raise AssertionError(self.said())
        self.url = self.ready_line.split()[-1]
        self.http = httpx.Client(base_url=self.url, timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self._close()

    def _close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.stderr.close()

    def said(self) -> str:
        return (self.home / "stderr.txt").read_text(errors="replace")

    def launch(self, model_name: str = "echo", **fields: Any) -> str:
        reply = self.http.post("/v1/models", json={"model_name": model_name, **fields})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["model_uid"])

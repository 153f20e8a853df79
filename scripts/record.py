"""Record the workbench for the README and docs/tui.md: real frames of the real program, as SVG.

python scripts/record.py           all of docs/images
python scripts/record.py film      only workbench.svg, the animation; `stills`: of docs/tui.md; `browser`: browser.png

Needs tmux, llama.cpp and the demo model (`make setup`), for `browser` a Chromium; takes about a minute.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chromium import chromium
from demo import QUESTION, home, node
from terminal_svg import Shot, film, still
from tmux import NotShown, Tmux

from xin.client import Client

XIN = [sys.executable, "-m", "xin"]
OUT = Path(__file__).parents[1] / "docs" / "images"
SIZE = (120, 34)
PIXELS = (1120, 640)
MODEL = "smollm2"
QUANTIZATIONS = ("Q8_0", "Q3_K_M")
LOOK_SECONDS = 0.1
END_SECONDS = 4.0
TAKES = 4


class Recorder:
    """Collects what the window shows; frames that are alike become one that lasts longer."""

    def __init__(self, window: Tmux) -> None:
        self.shots: list[Shot] = []
        self._last = ""
        self._window = window
        self._at = time.monotonic()

    def look(self) -> None:
        now, ansi = time.monotonic(), self._window.ansi()
        if self.shots:
            self.shots[-1].seconds += now - self._at
        self._at = now
        if ansi != self._last:
            self._last = ansi
            self.shots.append(Shot.of_ansi(ansi, 0.0))

    def watch(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(LOOK_SECONDS)

    def until(self, true: Callable[[str], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not true(self._window.text()):
            if time.monotonic() > deadline:
                raise NotShown(self._window.text())
            self.watch(LOOK_SECONDS)

    def type(self, text: str) -> None:
        for character in text:
            self._window.type(character)
            self.watch(0.04)

    def press(self, *keys: str, pause: float = 0.7) -> None:
        for key in keys:
            self._window.press(key)
            self.watch(pause)


def main() -> int:
    wanted = sys.argv[1:] or ["film", "stills", "browser"]
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="xin-record-") as folder:
        environment = {**os.environ, "XIN_HOME": str(home(Path(folder))), "XIN_REGISTRY": f"{folder}/registry"}
        with node(environment) as endpoint:
            _launch(endpoint)
            command = [*XIN, "tui", "-e", endpoint]
            for attempt in range(TAKES if "film" in wanted else 0):
                try:
                    with Tmux(command, environment, SIZE) as window:
                        _film(window)
                    break
                except NotShown:  # so small a model sometimes repeats itself to the end of its context
                    if attempt + 1 == TAKES:
                        raise
            if "stills" in wanted:
                with Tmux(command, environment, SIZE) as window:
                    _stills(window)
            if "browser" in wanted:
                asyncio.run(_browser(endpoint, Path(folder)))
    return 0


def _launch(endpoint: str) -> None:
    """Two quantizations of the bundled model, made by llama.cpp's own quantizer."""
    with Client(endpoint) as client:
        for quantization in QUANTIZATIONS:
            job = client.start_job("quantize", source=MODEL, quantization=quantization)
            while client.job(job.id).state in ("waiting", "running"):
                time.sleep(0.2)
        for model in client.local_models():
            if model.quantization in QUANTIZATIONS:
                client.launch_model(model.model_name, context_length=512)  # an answer that rambles ends there


def _film(window: Tmux) -> None:
    """Mark two models, ask both, compare word by word, look at the jobs, and go back."""
    recorder = Recorder(window)
    window.wait("Models 2", "live")
    recorder.watch(2.0)
    recorder.press("Space", "Space", pause=0.8)
    recorder.press("b", pause=1.2)
    recorder.type(QUESTION)
    recorder.press("Enter")
    recorder.until(lambda text: text.count("✓ done") >= 2, 40)
    recorder.watch(2.5)
    recorder.press("M-d", pause=3.0)
    recorder.press("Escape", pause=0.8)
    recorder.press("C-PgDn", pause=2.5)
    recorder.press("C-PgDn", pause=2.0)
    recorder.press("C-PgDn", pause=0.5)
    recorder.shots[-1].seconds += END_SECONDS
    _write("workbench.svg", film(recorder.shots, SIZE, "xin tui"))


def _stills(window: Tmux) -> None:
    """What docs/tui.md shows; the chat is asked first, so that the Bench has figures."""
    window.wait("Models 2", "live")
    window.press("Space", "Space", "b")
    window.wait("ALL")
    window.type("Write a haiku about the sea, and explain it in one sentence.")
    time.sleep(0.5)
    window.press("Enter")
    _until_done(window)
    _shoot(window, "chat")
    window.press("C-PgUp")
    _shoot(window, "bench")
    window.press("l")
    window.wait("QUANT", "Q4_1")
    window.press("Enter")
    window.wait("flash_attn")  # the options of the engine
    _shoot(window, "launch")
    window.press("Escape")
    time.sleep(0.5)
    window.press("Escape")
    window.wait("Nodes 1")
    time.sleep(0.5)
    window.press("3")
    window.wait("KIND")
    _shoot(window, "jobs")


async def _browser(endpoint: str, folder: Path) -> None:
    """Both models asked in a real browser, with the keys of a terminal."""
    async with chromium(folder / "chromium", PIXELS) as page:
        await page.call("Page.navigate", url=f"{endpoint}/")
        await page.until_shown("Models 2", "live")
        await page.type("  b")
        await page.until_shown("ALL 2 panes")
        await page.type(f"{QUESTION}\r")
        await page.until_shown("✓ done", "✓ done", seconds=90)
        await asyncio.sleep(1.5)
        (OUT / "browser.png").write_bytes(picture := await page.picture())
        print(f"{OUT / 'browser.png'}: {len(picture) // 1000} kB")


def _until_done(window: Tmux) -> None:
    deadline = time.monotonic() + 90
    while window.text().count("✓ done") < 2 and time.monotonic() < deadline:
        time.sleep(0.2)


def _shoot(window: Tmux, name: str) -> None:
    time.sleep(1.5)
    _write(f"{name}.svg", still(Shot.of_ansi(window.ansi()), SIZE, "xin tui"))


def _write(name: str, svg: str) -> None:
    (OUT / name).write_text(svg, encoding="utf-8")
    print(f"{OUT / name}: {len(svg) // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())

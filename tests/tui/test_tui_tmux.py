"""Through a real tmux, without the kitty keyboard: every key arrives, and no place is clipped at any size."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_node import LiveNode
from rich.cells import cell_len

from xin.tui import keymap

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from tmux import Tmux

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here"),
]
TELLER = """
import sys
from textual.app import App
class Teller(App):
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = []
    def on_mount(self):
        self._bindings.key_to_bindings.clear()
        open(sys.argv[1], "a").write("ready\\n")
    def on_key(self, event):
        event.stop()
        open(sys.argv[1], "a").write(f"{event.key} {' '.join(event.aliases)}\\n")
Teller().run()
"""
NAMES = {
    "enter": "Enter",
    "escape": "Escape",
    "space": "Space",
    "tab": "Tab",
    "backspace": "BSpace",
    "delete": "DC",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "home": "Home",
    "end": "End",
    "pageup": "PageUp",
    "pagedown": "PageDown",
    "slash": "/",
    "backslash": "\\",
    "question_mark": "?",
    "ampersand": "&",
    "colon": ":",
    "equals_sign": "=",
    "plus": "+",
    "minus": "-",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "full_stop": ".",
    "comma": ",",
}
FRAME = set("│┃║")


def tmux_key(key: str) -> str | None:
    """What send-keys calls it; None where a terminal has no such key without the kitty protocol."""
    *modifiers, name = key.split("+")
    if key == "shift+tab":
        return "BTab"
    if "shift" in modifiers and name in ("enter", "space", "tab", "escape"):
        return None
    base = NAMES.get(name) or (name.upper() if re.fullmatch(r"f\d+", name) else name)
    prefix = {"ctrl": "C-", "alt": "M-", "shift": "S-"}
    return "".join(prefix[one] for one in modifiers) + base


def test_every_action_has_a_key_that_arrives_through_tmux(tmp_path: Path):
    keymap.load_everything()
    actions = {
        name: {key for _, one in places for key in one.key.split(",")} for name, places in keymap.known().items()
    }
    keys = sorted({key for of_action in actions.values() for key in of_action})
    told = tmp_path / "keys.txt"
    (tmp_path / "teller.py").write_text(TELLER)
    arrived: set[str] = set()
    with Tmux([sys.executable, str(tmp_path / "teller.py"), str(told)], os.environ, (80, 24)) as window:
        _lines(told, 1)
        for key in keys:
            sent = tmux_key(key)
            if sent is None:
                continue
            count = len(told.read_text().splitlines())
            window.press(sent)
            if key in _lines(told, count + 1)[-1].split():
                arrived.add(key)
    lost = {name: of_action for name, of_action in actions.items() if not of_action & arrived}
    assert len(arrived) > 60 and lost == {}


def _lines(told: Path, count: int, seconds: float = 10) -> list[str]:
    deadline = time.monotonic() + seconds
    while not told.exists() or len(told.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, told.read_text() if told.exists() else "it did not start"
        time.sleep(0.01)
    return told.read_text().splitlines()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("in-tmux") / "node", name="hera") as node:
        node.launch(model_uid="talker", vision=True)
        node.launch(model_uid="other", tokens_per_second=40)
        yield node


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (160, 45)])
def test_no_place_is_clipped(node: LiveNode, size: tuple[int, int], tmp_path: Path):
    environ = {**node.environ, "XIN_HOME": str(tmp_path)}
    with Tmux([sys.executable, "-m", "xin", "tui", "-e", node.url], environ, size) as window:
        whole(window.wait("talker", "other"), size)
        window.press("3")
        whole(window.wait("launch", "ready in", "goes on when this window closes"), size)
        window.press("4")
        whole(window.wait("follow", "talker"), size)
        window.press("1")
        window.wait("talker", "RAM")
        window.press("l")
        window.wait("Launch a model", "fetch")
        window.type("smol")
        whole(window.wait("smollm2", "135M"), size)
        window.press("Enter")
        whole(window.wait("QUANT", "xin launch smollm2"), size)
        window.press("Tab", "Left")
        whole(window.wait("--context-length="), size)
        for _ in range(3):
            if "Launch a model" in window.text():
                window.press("Escape")
                time.sleep(0.5)
        window.press("2")
        window.wait("ctrl+n")
        window.press("C-n")
        window.wait("talker", "other")
        window.press("Enter")
        window.wait("prompt", "ctx") if size[0] < 0 else time.sleep(0.5)
        window.type("hello there")
        window.press("Enter")
        whole(window.wait("hello there"), size)
        window.press("C-q")
        deadline = time.monotonic() + 10
        while window.alive():
            assert time.monotonic() < deadline, window.text()
            if "Leave" in window.text() or "Quit" in window.text():
                window.press("C-q")
            time.sleep(0.1)


def whole(text: str, size: tuple[int, int]) -> None:
    """All rows are there, none is wider than the screen, and every frame that opens in a row closes in it."""
    lines = text.split("\n")
    assert len(lines) <= size[1] and max(map(cell_len, lines)) <= size[0], text
    for line in lines:
        sides = sum(line.count(side) for side in FRAME)
        corners = [sum(line.count(one) for one in pair) for pair in ("╭┌", "╮┐", "╰└", "╯┘")]
        assert corners[0] == corners[1] and corners[2] == corners[3], f"{line}\n\n{text}"
        if line.lstrip().startswith(tuple(FRAME)):
            assert sides >= 2, f"{line}\n\n{text}"

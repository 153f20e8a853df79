"""Screens compared with what they were: SVG files in tests/tui/snapshots, written by `make snap`."""

from __future__ import annotations

import difflib
import html
import os
import re
import sys
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.app import App

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from terminal_svg import Shot, still

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = os.environ.get("XIN_SNAPSHOTS") == "update"
_ROW = re.compile(r'<g id="(r\d+)">(.*?)</g>')
_USE = re.compile(r'<use href="#(r\d+)" y="([\d.]+)"/>')
_WORD = re.compile(r'<text [^>]*x="([\d.]+)"[^>]*>(.*?)</text>')


def check(app: App[Any], name: str, tmp_path: Path) -> None:
    """Compare what `app` shows with the snapshot `name`; a difference in words is shown as a diff of the screens."""
    now = still(Shot(rows(app)), tuple(app.size), "xin tui")
    file = FOLDER / f"{name}.svg"
    if UPDATE:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(now, encoding="utf-8")
        return
    assert file.exists(), f"there is no snapshot {name}: make snap writes it"
    before = file.read_text(encoding="utf-8")
    if now == before:
        return
    seen = tmp_path / file.name
    seen.write_text(now, encoding="utf-8")
    diff = list(difflib.unified_diff(words(before), words(now), "snapshot", "now", lineterm="", n=1))
    told = "\n".join(diff) or "the words are the same: colours or styles differ"
    raise AssertionError(f"{name} looks different (make snap, if it shall):\n{told}\nbefore: {file}\nnow: {seen}")


def rows(app: App[Any]) -> list[Text]:
    """The whole screen, dialogs and what lies below them, as it would go to the terminal."""
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    parts = [[part for strip in row for part in strip] for row in update.strips]
    return [Text.assemble(*((part.text, part.style or "") for part in row)) for row in parts]


def words(svg: str) -> list[str]:
    """The text of each row, roughly at its place."""
    drawn = dict(_ROW.findall(svg))
    found = []
    for name, _ in sorted(_USE.findall(svg), key=lambda use: float(use[1])):
        line = ""
        for x, text in _WORD.findall(drawn[name]):
            line = line.ljust(round(float(x) / 8.4)) + html.unescape(text)
        found.append(line)
    return found

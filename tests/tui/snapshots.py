"""Screens compared with what they were: SVG files in tests/tui/snapshots, written by `make snap`."""

from __future__ import annotations

import difflib
import html
import os
import re
from pathlib import Path

from textual.app import App

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = os.environ.get("XIN_SNAPSHOTS") == "update"
_ROWS = re.compile(r"<text[^>]* y=\"([\d.]+)\"[^>]*>(.*?)</text>")


def check(app: App[object], name: str, tmp_path: Path) -> None:
    """Compare what `app` shows with the snapshot `name`; a difference in words is shown as a diff of the screens."""
    now = app.export_screenshot(title="xin", simplify=True)
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


def words(svg: str) -> list[str]:
    """The text of each row."""
    rows: dict[float, str] = {}
    for y, text in _ROWS.findall(svg):
        rows[float(y)] = rows.get(float(y), "") + html.unescape(text).replace("\xa0", " ")
    return [rows[y].rstrip() for y in sorted(rows)]

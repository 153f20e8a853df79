"""docs/tui.md tells every key."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import tui_keys


def test_the_tables_of_keys_are_those_of_the_workbench():
    assert tui_keys.tables() in tui_keys.DOC.read_text(encoding="utf-8"), "python scripts/tui_keys.py writes them"


def test_its_pictures_are_there():
    text = tui_keys.DOC.read_text(encoding="utf-8")
    named = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert named and all((tui_keys.DOC.parent / name).exists() for name in named)

"""The workbench's tests start with the usual signs, whatever the one before drew with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xin.tui import glyphs


@pytest.fixture(autouse=True)
def usual_signs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    glyphs.set_ascii(False)
    yield
    glyphs.set_ascii(False)

"""F1: what is here, and what the keys do where the focus is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from xin.tui.dialogs.dialog import Dialog
from xin.tui.keys import Act, acts
from xin.tui.text import fit

KEY_CELLS = 22


class Help(Dialog[None]):
    """Of the screen that was shown when it was asked for."""

    DEFAULT_CSS = """
    Help > #dialog {
        width: 84;
        height: auto;
        max-height: 90%;
    }
    Help #help-scroll {
        height: auto;
        max-height: 100%;
        scrollbar-size-vertical: 1;
    }
    """
    AUTO_FOCUS = "#help-scroll"

    def __init__(self, about: Screen[Any]) -> None:
        super().__init__(_title(about), keys="esc close")
        self._content = help_content(about)

    def body(self) -> ComposeResult:
        with VerticalScroll(id="help-scroll"):
            yield Static(self._content)

    def action_help(self) -> None:
        self.dismiss(None)


def help_content(screen: Screen[Any]) -> Content:
    """The words of the focused widget and of what is around it, then the keys by where they belong."""
    parts: list[Content] = [Content(words) for words in _words(screen)]
    for group, members in groupby(acts(screen), key=lambda act: act.group):
        parts.append(_keys(group, list(members)))
    return Content("\n\n").join(parts)


def _words(screen: Screen[Any]) -> list[str]:
    nodes = list(screen.focused.ancestors_with_self) if screen.focused is not None else [screen]
    told = [" ".join((getattr(node, "HELP", None) or "").split()) for node in nodes]
    return list(dict.fromkeys(words for words in told if words))


def _keys(group: str, members: Sequence[Act]) -> Content:
    lines = [Content.styled(group, "bold $accent")]
    for act in members:
        words = act.binding.tooltip or act.binding.description or act.binding.action
        cells = max(KEY_CELLS, cell_len(act.keys) + 1)
        lines.append(Content.assemble((fit(act.keys, cells), "bold"), words if act.enabled else f"{words} (not now)"))
    return Content("\n").join(lines)


def _title(screen: Screen[Any]) -> str:
    place = getattr(screen, "PLACE", "")
    return f"Keys in {place.title()}" if place else f"Keys: {screen.title or 'here'}"

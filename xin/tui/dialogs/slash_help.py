"""The commands that the prompt takes after a slash."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from xin.tui.chat.slash import Spec
from xin.tui.dialogs.dialog import Dialog


class SlashHelp(Dialog[None]):
    def __init__(self, specs: Sequence[Spec]) -> None:
        super().__init__("Commands", keys="tab completes   // sends a slash   esc back")
        self._specs = specs

    def body(self) -> ComposeResult:
        width = max(len(spec.usage) for spec in self._specs) + 2
        lines = [Content.assemble((spec.usage.ljust(width), "$accent"), spec.help) for spec in self._specs]
        yield Static(Content("\n").join(lines))

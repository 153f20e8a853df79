"""alt+d: two answers of a turn side by side, their differences word by word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import combinations
from typing import ClassVar, NamedTuple

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from xin.tui.chat.diff import Diff, word_diff
from xin.tui.dialogs.dialog import Dialog
from xin.tui.text import clean


class Answer(NamedTuple):
    name: str
    text: str
    tokens: int = 0


class WordDiff(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "pair(-1)", "pair", id="diff.previous", tooltip="The pair before"),
        Binding("right_square_bracket", "pair(1)", "pair", id="diff.next", tooltip="The next pair"),
        Binding("up,k", "scroll(-1)", "up", id="diff.up", show=False, tooltip="Both a line up"),
        Binding("down,j", "scroll(1)", "down", id="diff.down", show=False, tooltip="Both a line down"),
        Binding("pageup", "scroll(-10)", "page up", id="diff.page_up", show=False, tooltip="Both a page up"),
        Binding("pagedown,space", "scroll(10)", "page down", id="diff.page_down", show=False, tooltip="A page down"),
        Binding("alt+d,q", "close", "close", id="diff.close", show=False, tooltip="Back to the chat"),
    ]
    DEFAULT_CSS = """
    WordDiff > #dialog { width: 100%; height: 100%; }
    WordDiff #diff-header { text-style: bold; }
    WordDiff Horizontal { height: 1fr; }
    WordDiff VerticalScroll { width: 1fr; height: 1fr; border: round $foreground-muted; padding: 0 1; }
    WordDiff VerticalScroll { border-title-color: $foreground; border-title-style: bold; }
    """

    def __init__(self, answers: Iterable[Answer]) -> None:
        """At least two."""
        self._answers = list(answers)
        pairs = "[ ] other pair   " if len(self._answers) > 2 else ""
        super().__init__("Difference", keys=f"{pairs}up/down scroll   esc back")
        self._pairs = list(combinations(range(len(self._answers)), 2))
        self._at = 0

    def body(self) -> ComposeResult:
        yield Static("comparing", id="diff-header", markup=False)
        with Horizontal():
            for side in ("left", "right"):
                with VerticalScroll(id=f"diff-{side}", can_focus=False):
                    yield Static("", id=f"diff-{side}-text", markup=False)

    def on_mount(self) -> None:
        self._compare()

    def action_pair(self, by: int) -> None:
        self._at = (self._at + by) % len(self._pairs)
        self._compare()

    def action_scroll(self, lines: int) -> None:
        for box in self.query(VerticalScroll):
            box.scroll_relative(y=lines, animate=False)

    @work(exclusive=True)
    async def _compare(self) -> None:
        left, right = (self._answers[index] for index in self._pairs[self._at])
        diff = await asyncio.to_thread(word_diff, left.text, right.text)
        if self.query("#diff-header"):  # else closed meanwhile
            self._draw(left, right, diff)

    def _draw(self, left: Answer, right: Answer, diff: Diff) -> None:
        self.query_one("#diff-header", Static).update(diff.header(left.tokens, right.tokens))
        for side, answer, text in (("left", left, diff.left), ("right", right, diff.right)):
            self.query_one(f"#diff-{side}-text", Static).update(text)
            box = self.query_one(f"#diff-{side}", VerticalScroll)
            box.border_title = Content(f" {clean(answer.name)} ")
            box.scroll_home(animate=False)

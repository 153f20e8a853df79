"""A question with yes and no."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from xin.tui.dialogs.dialog import Dialog
from xin.tui.glyphs import G


class Confirm(Dialog[bool]):
    """True for yes. `danger`: something that runs would end; the frame says so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "answer(True)", "yes", id="confirm.yes", tooltip="Yes, do it"),
        Binding("n", "answer(False)", "no", id="confirm.no", tooltip="No, change nothing"),
    ]
    DEFAULT_CSS = """
    Confirm.-danger > #dialog {
        border: round $error;
    }
    """

    def __init__(self, question: str, *, command: str = "", danger: bool = False) -> None:
        super().__init__("Sure?" if danger else "Question", command=command, keys=f"{G.enter} yes   esc no")
        self._question = question
        self.set_class(danger, "-danger")

    def body(self) -> ComposeResult:
        yield Static(Content(self._question), id="question")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)

    def action_close(self) -> None:
        self.dismiss(False)

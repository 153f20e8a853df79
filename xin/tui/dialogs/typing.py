"""A dialog in which letters are typed: the equal command is copied with alt+y instead of y."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from xin.tui.dialogs.dialog import Dialog
from xin.tui.glyphs import G
from xin.tui.text import clean

T = TypeVar("T")


class TypingDialog(Dialog[T]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+y", "copy_command", "copy", id="dialog.copy_typing", priority=True, tooltip="Copy the command"),
    ]

    def _command_line(self) -> Content:
        return Content.assemble(("$ ", "$foreground-disabled"), clean(self.command), ("   alt+y copy", "$accent"))


class OneLine(TypingDialog[str]):
    """A line of text; None when the person thinks better of it."""

    def __init__(self, title: str, value: str = "", *, command: str = "", verb: str = "done") -> None:
        super().__init__(title, command=command, keys=f"{G.enter} {verb}   esc back")
        self._value = clean(value)

    def body(self) -> ComposeResult:
        yield Input(self._value, id="one-line")
        yield Static("", id="one-line-fault", markup=False)

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value.strip())
        else:
            self.query_one("#one-line-fault", Static).update("nothing is typed")

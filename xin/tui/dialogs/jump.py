"""ctrl+o: a letter on everything that can take the focus; the letter goes there."""

from __future__ import annotations

from string import ascii_lowercase
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Label


class Jump(ModalScreen[Widget | None]):
    """The widget that was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="jump.close", tooltip="Stay where you are")
    ]
    DEFAULT_CSS = """
    Jump {
        background: transparent;
    }
    Jump > Label {
        position: absolute;
        padding: 0 1;
        background: $accent;
        color: $background;
        text-style: bold;
    }
    """

    def __init__(self, targets: list[Widget]) -> None:
        super().__init__()
        self._targets = dict(zip(ascii_lowercase, targets, strict=False))

    def compose(self) -> ComposeResult:
        for letter, widget in self._targets.items():
            label = Label(letter, markup=False)
            label.styles.offset = (widget.region.x, widget.region.y)
            yield label

    def on_key(self, event: events.Key) -> None:
        widget = self._targets.get(event.key)
        if widget is not None:
            event.stop()
            self.dismiss(widget)

"""The first frame: the header over an empty screen, painted while the first place is still being imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from xin.tui.widgets.header import Header

if TYPE_CHECKING:
    from xin.tui.app import Workbench


class Front(Screen[None]):
    """Keys that come before the place are given to it."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self.typed: list[str] = []

    def compose(self) -> ComposeResult:
        yield Header(cast("Workbench", self.app).store, self._place)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.typed.append(event.key)

"""What a terminal shows that is too small for the workbench."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Static

NEEDED = Size(60, 16)


def is_too_small(size: Size) -> bool:
    return size.width < NEEDED.width or size.height < NEEDED.height


class TooSmall(ModalScreen[None]):
    """Covers everything until the terminal is large enough."""

    DEFAULT_CSS = """
    TooSmall {
        align: center middle;
        background: $background;
    }
    TooSmall > Static {
        width: 1fr;
        height: auto;
        text-align: center;
    }
    """

    def compose(self) -> ComposeResult:
        yield Static(self._words(self.app.size), markup=False)

    def on_resize(self, event: events.Resize) -> None:
        if is_too_small(event.size):
            self.query_one(Static).update(self._words(event.size))
        elif self.is_current:
            self.dismiss(None)

    def _words(self, size: Size) -> str:
        need = f"{NEEDED.width}x{NEEDED.height}"
        return f"xin needs {need}, this terminal has {size.width}x{size.height}"

"""What the four places have in common: the header, the footer, and news from the store while they can be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from xin.tui.store import TOPICS
from xin.tui.widgets.header import Header
from xin.tui.widgets.key_line import KeyLine

if TYPE_CHECKING:
    from xin.tui.app import Workbench


class Place(Screen[None]):
    """Subclasses yield their widgets in `body` and draw in `store_changed`, which is called while they can be seen,
    and with all topics when they are shown. `facts` in the header replaces the fleet's figures."""

    PLACE: ClassVar[str] = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (150, "-ultra")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z", "zoom", "zoom", id="zoom", show=False, tooltip="The focused pane alone; again or esc for all"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._missed: set[str] = set(TOPICS)
        self._unlisten: Callable[[], None] | None = None

    @property
    def workbench(self) -> Workbench:
        return cast("Workbench", self.app)

    @property
    def header(self) -> Header:
        return self.query_one(Header)

    def body(self) -> ComposeResult:
        """The place's own widgets."""
        yield Static("")

    def store_changed(self, topics: frozenset[str]) -> None:
        """Draw what concerns these topics: nodes, instances, samples, jobs, link."""

    def leaving(self) -> list[str]:
        """What would end with the workbench, a line each; asked before leaving."""
        return []

    def compose(self) -> ComposeResult:
        yield Header(self.workbench.store, self.PLACE)
        yield from self.body()
        yield KeyLine()

    def action_zoom(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused)

    # ---- news

    @property
    def in_view(self) -> bool:
        """It is the place that is shown, though a dialog may stand over it."""
        return self.is_attached and self in self.app.screen_stack

    def on_mount(self) -> None:
        self._unlisten = self.workbench.store.listen(self._news)
        if focused := self.workbench.focus_of(self.PLACE):
            self.call_after_refresh(self._focus_again, focused)

    def on_unmount(self) -> None:
        if self._unlisten is not None:
            self._unlisten()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        topics, self._missed = frozenset(self._missed), set()
        if topics:
            self._draw(topics)

    def _news(self, topics: frozenset[str]) -> None:
        if self.in_view and not self._missed and self.children:  # none before it is made, nor while it goes
            self._draw(topics)
        else:
            self._missed |= topics

    def _focus_again(self, widget_id: str) -> None:
        widget = self.query(f"#{widget_id}").first() if self.query(f"#{widget_id}") else None
        if widget is not None and widget.focusable:
            widget.focus()

    def _draw(self, topics: frozenset[str]) -> None:
        self.header.draw()
        self.store_changed(topics)

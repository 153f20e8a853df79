"""The panes of a chat: as many side by side as are wide enough to read, the others pages away."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.containers import Horizontal
from textual.message import Message

from xin.tui.widgets.pane import Pane

NARROWEST = 38
MOST = 4


class PaneRow(Horizontal):
    """One pane is the current one: keys act on it. `zoomed` shows it alone."""

    @dataclass
    class Paged(Message):
        """Other panes are in view."""

    def __init__(self) -> None:
        super().__init__()
        self.panes: list[Pane] = []
        self.index = 0
        self.zoomed = False
        self._first = 0
        self._in_prompt = True
        self._told = (0, 0)

    @property
    def current(self) -> Pane | None:
        return self.panes[self.index] if self.panes else None

    @property
    def seen(self) -> tuple[int, int]:
        """First and last number of the panes in view, from one."""
        if self.zoomed or len(self.panes) < 2:
            return self.index + 1, self.index + 1
        return self._first + 1, min(self._first + self._room, len(self.panes))

    def add(self, pane: Pane) -> None:
        """At the end, as the current one."""
        self.panes.append(pane)
        self.mount(pane)
        self.choose(len(self.panes) - 1)

    def drop(self, pane: Pane) -> None:
        at = self.panes.index(pane)
        self.panes.remove(pane)
        pane.remove()
        self.choose(min(self.index - (at < self.index), len(self.panes) - 1))

    def order(self, panes: list[Pane]) -> None:
        """In this order; the same pane stays the current one."""
        current = self.current
        self.panes = list(panes)
        self.sort_children(key=lambda child: self.panes.index(child) if child in self.panes else 99)
        self.choose(self.panes.index(current) if current in self.panes else 0)

    def choose(self, index: int) -> None:
        self.index = max(min(index, len(self.panes) - 1), 0)
        self.lay_out()

    def step(self, by: int) -> None:
        if self.panes:
            self.choose((self.index + by) % len(self.panes))

    def set_in_prompt(self, in_prompt: bool) -> None:
        """Whether letters go to the prompt, which the panes' hints depend on."""
        if in_prompt != self._in_prompt:
            self._in_prompt = in_prompt
            self.lay_out()

    def lay_out(self) -> None:
        """Show the panes of the current one's page."""
        room = self._room
        self._first = min(max(self._first, self.index - room + 1), self.index)
        self._first = max(min(self._first, len(self.panes) - room), 0)
        first, last = self.seen
        for number, pane in enumerate(self.panes, 1):
            pane.number = number
            pane.display = first <= number <= last
            pane.set_current(pane is self.current, in_prompt=self._in_prompt)
            pane.draw()
        if (first, last) != self._told:
            self._told = (first, last)
            self.post_message(self.Paged())

    @property
    def _room(self) -> int:
        return max(1, min(self.size.width // NARROWEST, MOST))

    def on_resize(self, event: events.Resize) -> None:
        self.lay_out()

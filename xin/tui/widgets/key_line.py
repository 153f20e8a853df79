"""The line at the foot of every place: what the keys do where the focus is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from textual import events
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from xin.tui.keys import Act, acts

GAPS = (2, 1)
PALETTE = "command_palette"
KEPT = ("help", PALETTE)  # of these there is always a word, at the right


@dataclass(slots=True, frozen=True)
class _Entry:
    """A key with its word, and from which cell it stands."""

    keys: str
    word: str
    action: str
    node: DOMNode
    start: int = 0

    @property
    def width(self) -> int:
        return Content(self.keys).cell_length + Content(self.word).cell_length + bool(self.word)


class KeyLine(Widget):
    """Redrawn when the keys in force change. What there is no room for is left out from the end; F1 tells it all."""

    DEFAULT_CSS = """
    KeyLine {
        dock: bottom;
        height: 1;
        width: 1fr;
        background: $panel;
        color: $foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[_Entry] = []
        self._drawn = Content("")

    @property
    def text(self) -> str:
        return self._drawn.plain

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: Screen[Any]) -> None:
        drawn = self._line()
        if not drawn.is_same(self._drawn):
            self.refresh()

    def render(self) -> Content:
        self._drawn = self._line()
        return self._drawn

    async def on_click(self, event: events.Click) -> None:
        for entry in self._entries:
            if entry.start <= event.x < entry.start + entry.width:
                await self.app.run_action(entry.action, entry.node)

    def _line(self) -> Content:
        """With two cells between the keys, or one where more of them find room so."""
        found = acts(self.screen)
        shown = [_entry(act) for act in found if act.binding.show and act.enabled and act.binding.action not in KEPT]
        last = self._kept(found)
        room = self.size.width - sum(entry.width + GAPS[0] for entry in last) - 1
        gap = GAPS[0] if sum(entry.width + GAPS[0] for entry in shown) <= room else GAPS[1]
        self._entries, at = [], 1
        for entry in shown:
            if at + entry.width <= room:
                self._entries.append(replace(entry, start=at))
                at += entry.width + gap
        at = room + GAPS[0]
        for entry in last:
            self._entries.append(replace(entry, start=at))
            at += entry.width + GAPS[0]
        return self._drawing()

    def _kept(self, shown: Sequence[Act]) -> list[_Entry]:
        found = {act.binding.action: _entry(act) for act in shown if act.binding.action in KEPT}
        narrow = self.size.width < 100
        return [
            replace(found[name], word="") if narrow and name == PALETTE else found[name]
            for name in KEPT
            if name in found
        ]

    def _drawing(self) -> Content:
        parts: list[tuple[str, str] | str] = []
        at = 0
        for entry in self._entries:
            parts += [" " * (entry.start - at), (entry.keys, "bold $footer-key-foreground")]
            parts += [f" {entry.word}"] if entry.word else []
            at = entry.start + entry.width
        return Content.assemble(*parts)


def _entry(act: Act) -> _Entry:
    """With one key of those that do it: the first, but ? before F1."""
    keys = act.keys.split()
    return _Entry("?" if "?" in keys else keys[0], act.binding.description, act.binding.action, act.node)

"""The line at the top of every place: where one is, the fleet in figures, and whether a node is talked to."""

from __future__ import annotations

import time

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from xin.tui.glyphs import G
from xin.tui.store import Link, Store, Totals
from xin.tui.text import ago, bytes_short, clean, fit

PLACES = ("bench", "chat", "jobs", "logs")
GIB = 2**30
_LINK_STYLES = {"live": "$success", "connecting": "$warning", "lost": "$error"}


class Header(Widget):
    """`facts` is what the place says of itself; while empty the fleet's figures stand there."""

    DEFAULT_CSS = """
    Header {
        dock: top;
        height: 1;
        width: 1fr;
        background: $panel;
        color: $foreground;
    }
    """
    BLANK = False

    def __init__(self, store: Store, place: str) -> None:
        super().__init__()
        self._store = store
        self._place = place
        self._facts = ""
        self._drawn = Content("")
        self._ages: Timer | None = None

    @property
    def text(self) -> str:
        """The line as it is drawn."""
        return self._drawn.plain

    @property
    def facts(self) -> str:
        return self._facts

    @facts.setter
    def facts(self, facts: str) -> None:
        self._facts = clean(facts)
        self.draw()

    def on_mount(self) -> None:
        self._ages = self.set_interval(1.0, self.draw, pause=True)

    def draw(self) -> None:
        """Repaint if anything of it has changed; an age that is shown goes on by itself."""
        drawn = self._line(self.size.width)
        if not drawn.is_same(self._drawn):
            self._drawn = drawn
            self.refresh()
        if self._ages is not None:
            self._ages.resume() if self._store.link.state == "lost" else self._ages.pause()

    def render(self) -> Content:
        self._drawn = self._line(self.size.width)
        return self._drawn

    def on_click(self, event: events.Click) -> None:
        """A click on a place's name goes there."""
        at = 0
        for name, label in zip(PLACES, self._labels(narrow=self.size.width < 100), strict=True):
            start = self._drawn.plain.find(label, at)
            at = start + len(label)
            if start <= event.x < at:
                self.app.call_later(self.app.run_action, f"place('{name}')")

    # ---- parts

    def _line(self, width: int) -> Content:
        narrow = width < 100
        link = link_content(self._store.link, time.time())
        left = self._left(narrow)
        room = width - left.cell_length - link.cell_length - 3
        facts = self._facts or fleet_line(self._store.totals(), room, narrow=narrow)
        gap = max(room - cell_len(facts), 0)
        return Content.assemble(left, " ", " " * gap, fit(facts, min(room, cell_len(facts))), " ", link, " ")

    def _left(self, narrow: bool) -> Content:
        parts: list[tuple[str, str] | str] = [(" xin ", "bold $primary")]
        for name, label in zip(PLACES, self._labels(narrow), strict=True):
            parts += ["" if narrow else " ", (label, "bold reverse" if name == self._place else ""), " "]
        return Content.assemble(*parts)

    def _labels(self, narrow: bool) -> list[str]:
        jobs = self._store.totals().running_jobs
        names = [f"{number}{'' if narrow else ' '}{name.title()}" for number, name in enumerate(PLACES, 1)]
        names[2] += f"{G.dot}{jobs}" if jobs else ""
        return names


def link_content(link: Link, now: float) -> Content:
    """◉ live, ◐ connecting, or ○ lost and since when."""
    glyph = {"live": G.live, "connecting": G.slow}.get(link.state, G.gone)
    age = f" {ago(now - link.since)}" if link.state == "lost" else ""
    return Content.styled(f"{glyph} {link.state}{age}", _LINK_STYLES[link.state])


def fleet_line(totals: Totals, room: int, *, narrow: bool) -> str:
    """The fleet in figures; what there is no room for is left out from the end."""
    if not totals.nodes:
        return ""
    sep = "  " if narrow else f" {G.middle} "
    parts = [_count(totals.nodes, "node")]
    if totals.gpus and not narrow:
        parts.append(_count(totals.gpus, "GPU"))
    if totals.total_bytes:
        parts.append(_memory(totals, narrow))
    parts.append(_count(totals.models, "model"))
    parts.append(f"{totals.tokens_per_second:.0f} {'t/s' if narrow else 'tok/s'}")
    while len(parts) > 1 and cell_len(sep.join(parts)) > room:
        parts.pop()
    return sep.join(parts)


def _memory(totals: Totals, narrow: bool) -> str:
    used, total = totals.used_bytes, totals.total_bytes
    what = "" if totals.gpus else " RAM"
    if narrow:
        return f"{used / GIB:.0f}/{total / GIB:.0f}G{what}"
    if total < GIB:
        return f"{bytes_short(used)}/{bytes_short(total)}{what} used"
    return f"{used / GIB:.1f}/{total / GIB:.0f} GiB{what} used"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")

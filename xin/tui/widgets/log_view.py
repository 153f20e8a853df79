"""A log of any length: only the lines in sight are made into cells."""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from xin.tui.glyphs import G
from xin.tui.log_book import Line, LogBook
from xin.tui.text import fit

TIMES = ("seconds", "millis", "none")
_LEVEL_WORDS = {"debug": "DEBUG", "info": "INFO ", "warning": "WARN ", "error": "ERROR"}


class LogView(ScrollView, can_focus=True):
    """Shows `book.shown`; call `sync` after the book has changed. The cursor is a line; following keeps it last."""

    HELP = "Log lines of all sources, by time. Moving up stops following; G follows again."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", id="log.up", show=False, tooltip="Line above"),
        Binding("down,j", "move(1)", "Down", id="log.down", show=False, tooltip="Line below"),
        Binding("pageup", "page(-1)", "Page up", id="log.page_up", show=False, tooltip="A page up"),
        Binding("pagedown,space", "page(1)", "Page down", id="log.page_down", show=False, tooltip="A page down"),
        Binding("home,g", "first", "First", id="log.first", show=False, tooltip="The oldest line"),
        Binding("end,G", "last", "Last", id="log.last", show=False, tooltip="The newest line, and follow"),
    ]
    COMPONENT_CLASSES = {
        *("log--cursor", "log--time", "log--node", "log--source", "log--match"),
        *("log--debug", "log--info", "log--warning", "log--error"),
    }
    DEFAULT_CSS = """
    LogView {
        scrollbar-size-horizontal: 0;
        overflow-x: hidden;
    }
    LogView > .log--cursor { background: $foreground 15%; }
    LogView > .log--time { color: $foreground-muted; }
    LogView > .log--node { color: $foreground-muted; }
    LogView > .log--source { color: $primary; }
    LogView > .log--match { background: $warning; color: $background; }
    LogView > .log--debug { color: $foreground-disabled; }
    LogView > .log--info { color: $foreground; }
    LogView > .log--warning { color: $warning; }
    LogView > .log--error { color: $error; }
    """

    @dataclass
    class Moved(Message):
        """The cursor is on another line, or following began or ended."""

        view: LogView

    def __init__(self, book: LogBook, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.book = book
        self.cursor = -1
        self.following = True
        self.wrap = False
        self.times = "seconds"
        self.show_source = True
        self.match: re.Pattern[str] | None = None
        self._line: Line | None = None
        self._names = 8
        self._starts: list[int] = []
        self._state: tuple[int, int] = (-1, -1)
        self._strips: LRUCache[object, tuple[Line, list[Strip]]] = LRUCache(1024)

    # ---- what is shown

    @property
    def line(self) -> Line | None:
        """The one under the cursor."""
        return self._line

    def sync(self) -> None:
        """Take over what the book shows now. Lines at its end cost only themselves."""
        shown = self.book.shown
        version, known = self._state
        if self.book.version != version or known > len(shown):
            self._starts, known = [], 0
        if self.wrap:
            self._extend_starts(known)
        self._state = (self.book.version, len(shown))
        self._widen_names(shown[known:])
        self.virtual_size = Size(self._width, self._starts[-1] if self.wrap and self._starts else len(shown))
        if self.following:
            self._set_cursor(len(shown) - 1)
        elif self._line is not None and not (self.cursor < len(shown) and shown[self.cursor] is self._line):
            self._set_cursor(self._index_of(self._line))
        self.refresh()

    def relay(self) -> None:
        """Everything is laid out anew: width, wrapping or columns have changed."""
        self._strips.clear()
        self._state = (-1, -1)
        self.sync()

    def go(self, index: int) -> None:
        """Put the cursor on this line, and follow only if it is the last."""
        count = len(self.book.shown)
        if not count:
            return
        index = min(max(index, 0), count - 1)
        self.following = self.following and index == count - 1
        self._set_cursor(index)
        self.refresh()

    def follow(self, wanted: bool) -> None:
        self.following = wanted
        if wanted:
            self._set_cursor(len(self.book.shown) - 1)
        self.refresh()
        self.post_message(self.Moved(self))

    def toggle(self) -> None:
        """Open or close the traceback under the cursor, which goes to its first line."""
        fold = self._line.fold if self._line is not None else None
        if fold is None:
            return
        self.following = False
        self.book.toggle(fold)
        self.sync()
        self.go(next(at for at, line in enumerate(self.book.shown) if line.fold is fold))
        self.post_message(self.Moved(self))

    # ---- keys

    def action_move(self, by: int) -> None:
        self.go(self.cursor + by)

    def action_page(self, by: int) -> None:
        self.go(self.cursor + by * max(self.size.height - 1, 1))

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.follow(True)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.go(self.cursor - 3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.go(self.cursor + 3)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None:
            index, _ = self._at_row(offset.y + self.scroll_offset.y)
            if index < len(self.book.shown):
                self.go(index)

    def on_resize(self) -> None:
        self.relay()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    # ---- drawing

    def render_line(self, y: int) -> Strip:
        index, row = self._at_row(y + self.scroll_offset.y)
        width = self._width
        if index >= len(self.book.shown):
            return Strip.blank(width, self.rich_style)
        strips = self._strips_of(self.book.shown[index])
        strip = strips[min(row, len(strips) - 1)]
        if index == self.cursor:
            over = Style(bgcolor=self.get_component_rich_style("log--cursor").bgcolor, bold=True)
            strip = Strip(Segment.apply_style(strip, post_style=over), strip.cell_length)
        return strip

    def _strips_of(self, line: Line) -> list[Strip]:
        key = (id(line), text_of(line), self._names, self._width, self.wrap, self.times, self.match)
        made = self._strips.get(key)
        if made is None:
            made = line, self._make(line)  # the line is kept, so that no other gets its id
            self._strips.set(key, made)
        return made[1]

    def _make(self, line: Line) -> list[Strip]:
        style, base = self.get_component_rich_style, self.rich_style
        words = style(f"log--{line.level}")
        head = [
            Segment(clock(line.at, self.times), style("log--time")),
            *self._source(line),
            Segment(f"{_LEVEL_WORDS[line.level]} ", words),
        ]
        taken = sum(cell_len(part.text) for part in head)
        room = max(self._width - taken, 10)
        text = text_of(line)
        pieces = (chop_cells(text, room) or [""]) if self.wrap else [_cut(text, room)]
        indent = Segment(" " * taken, base)
        return [
            Strip([*(head if number == 0 else [indent]), *self._marked(piece, words)]).adjust_cell_length(
                self._width, base
            )
            for number, piece in enumerate(pieces)
        ]

    def _source(self, line: Line) -> list[Segment]:
        if not self.show_source:
            return []
        style = self.get_component_rich_style
        return [
            Segment(fit(line.node, 8) + " ", style("log--node")),
            Segment(fit(line.target.uid, self._names) + " ", style("log--source")),
        ]

    def _marked(self, text: str, style: Style) -> list[Segment]:
        """Where the search is found is told by its background."""
        if self.match is None:
            return [Segment(text, style)]
        match_style = style + self.get_component_rich_style("log--match", partial=True)
        parts, at = [], 0
        for found in self.match.finditer(text):
            if found.end() > found.start():
                parts += [Segment(text[at : found.start()], style), Segment(found[0], match_style)]
                at = found.end()
        return [part for part in [*parts, Segment(text[at:], style)] if part.text]

    # ---- rows and lines

    @property
    def _width(self) -> int:
        return max(self.scrollable_content_region.width, 20)

    def _at_row(self, row: int) -> tuple[int, int]:
        """(line, which of its rows)."""
        if not self.wrap:
            return row, 0
        index = bisect_right(self._starts, row)
        return index, row - (self._starts[index - 1] if index else 0)

    def _extend_starts(self, known: int) -> None:
        """`_starts[i]` is the row after line i."""
        room = max(self._width - self._head_cells(), 10)
        rows = (_rows(text_of(line), room) for line in self.book.shown[known:])
        base = self._starts[-1] if self._starts else 0
        self._starts += [base + row for row in accumulate(rows)]

    def _head_cells(self) -> int:
        return len(clock(0, self.times)) + (9 + self._names + 1 if self.show_source else 0) + 6

    def _widen_names(self, lines: list[Line]) -> None:
        most = 12 if self._width < 100 else 20
        longest = max((cell_len(line.target.uid) for line in lines), default=0)
        if min(longest, most) > self._names:
            self._names = min(longest, most)
            if self.wrap:
                self.call_after_refresh(self.relay)

    def _set_cursor(self, index: int) -> None:
        shown = self.book.shown
        line = shown[index] if 0 <= index < len(shown) else None
        moved, self.cursor, self._line = line is not self._line, index, line
        if line is not None:
            self._show(index)
        if moved:
            self.post_message(self.Moved(self))

    def _show(self, index: int) -> None:
        top = self._starts[index - 1] if self.wrap and index and index <= len(self._starts) else index
        bottom = self._starts[index] if self.wrap and index < len(self._starts) else index + 1
        height, at = max(self.size.height, 1), self.scroll_offset.y
        wanted = top if top < at else max(bottom - height, 0) if bottom > at + height else at
        if wanted != at:
            self.scroll_to(y=wanted, animate=False, force=True, immediate=True)

    def _index_of(self, line: Line) -> int:
        """Where a line is now, or the one nearest in time."""
        shown = self.book.shown
        index = bisect_right(shown, line.at, key=lambda other: other.at) - 1
        for near in range(index, max(index - 50, -1), -1):
            if shown[near] is line:
                return near
        return max(index, 0) if shown else -1


def clock(at: float, form: str) -> str:
    """14:31:02, with milliseconds, or nothing; followed by a space."""
    if form == "none":
        return ""
    text = time.strftime("%H:%M:%S", time.localtime(at))
    return f"{text}.{int(at * 1000) % 1000:03} " if form == "millis" else f"{text} "


def text_of(line: Line) -> str:
    """The message; of a traceback's first line also how much it stands for."""
    if line.fold is None or line.inside or not line.fold.count:
        return line.message
    head = line.message.replace(" (most recent call last):", "")
    if line.fold.open:
        return f"{head} {G.open}"
    return f"{head} {G.closed} {line.fold.count} more line{'s' * (line.fold.count > 1)} {G.enter}"


def _rows(text: str, room: int) -> int:
    count = -(-len(text) // room) if text.isascii() else len(chop_cells(text, room))
    return max(count, 1)


def _cut(text: str, cells: int) -> str:
    return fit(text, cells) if cell_len(text) > cells else text


def plain(line: Line) -> str:
    """As a file and the clipboard get it."""
    day = time.strftime("%Y-%m-%d", time.localtime(line.at))
    return f"{day} {clock(line.at, 'millis')}{line.node} {line.target.uid} {line.level} {line.message}"

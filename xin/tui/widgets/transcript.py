"""The messages of one pane, drawn line by line: no widget a block, so that a long talk costs no more than a short one.

Only the lines on the screen become strips, and only the block that grows is parsed and wrapped again.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message as Event
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style

from xin.tui.chat.conversation import Conversation, Message
from xin.tui.widgets.message import BLANK, MessageRows, Row, Shown, Stop

MOUNTED = 60  # messages that are laid out; older ones are fetched with a key
MORE = 60
STRIPS = 4096  # painted lines that are kept
SCROLLBAR_SECONDS = 0.5
GUTTER, MARGIN = 1, 1


class At(NamedTuple):
    """Where the block cursor is."""

    message: int
    stop: int


@dataclass(slots=True)
class _Item:
    rows: list[Row]
    stops: list[Stop]


class Transcript(ScrollView, can_focus=True):
    """Shows a conversation's path. Sticks to the end until the reader scrolls up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.branch(-1)", "branch", show=False, id="chat.transcript.left", tooltip="Branch before"),
        Binding("right", "screen.branch(1)", "branch", show=False, id="chat.transcript.right", tooltip="Next branch"),
        Binding("home", "show_earlier", "earlier", show=False, id="chat.transcript.home", tooltip="The beginning"),
    ]
    DEFAULT_CSS = """
    Transcript {
        height: 1fr;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        overflow-x: hidden;
        overflow-y: auto;
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"transcript--cursor"}

    @dataclass
    class CursorMoved(Event):
        transcript: Transcript

    def __init__(self, conversation: Conversation, shown: Shown) -> None:
        super().__init__()
        self.conversation = conversation
        self.shown = shown
        self.cursor: At | None = None
        self.following = True  # the end stays in view, until the reader scrolls up
        self._limit = MOUNTED
        self._path: list[Message] = []
        self._hidden = 0
        self._scrollbar_at = 0.0
        self._drawers: dict[int, MessageRows] = {}
        self._items: list[_Item] = []
        self._starts: list[int] = []
        self._height = 0
        self._blank = RichStyle.null()
        self._parsed: dict[str, Style] = {}
        self._strips: dict[tuple[int, bool], tuple[Content, Strip]] = {}

    @property
    def allow_select(self) -> bool:
        return True

    # ---- what is shown

    def show(self, conversation: Conversation) -> None:
        """Another conversation."""
        self.conversation = conversation
        self._drawers.clear()
        self.cursor = None
        self._limit = MOUNTED
        self.update()
        self.to_end()

    def to_end(self) -> None:
        """Show the end, and stay there."""
        self.following = True
        self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        self.following = new_value >= self.max_scroll_y
        self._move_scrollbar()
        if round(old_value) != round(new_value):
            self.refresh()

    def _move_scrollbar(self, *, now: bool = False) -> None:
        """To where the text is; seldom while the end is followed: there it hardly moves, and painting it costs."""
        at = time.monotonic()
        if now or not self.following or at - self._scrollbar_at > SCROLLBAR_SECONDS:
            self._scrollbar_at = at
            self._scroll_update(self.virtual_size)
            self.vertical_scrollbar.position = self.scroll_y

    def update(self) -> None:
        """The path has changed: another branch, a new message, another width."""
        path = self.conversation.path()
        self._path = path[-self._limit :]
        self._hidden = len(path) - len(self._path)
        known = {message.id for message in self._path}
        self._drawers = {id: drawer for id, drawer in self._drawers.items() if id in known}
        self._items = [self._drawn(message) for message in self._path]
        if self.cursor is not None and self.cursor.message not in known:
            self.cursor = None
        self._laid_out(0)

    def grow(self, message: Message) -> None:
        """The text or state of a shown message has changed."""
        index = next((i for i, one in enumerate(self._path) if one is message), None)
        if index is None:
            self.update()
            return
        before = self._items[index]
        self._items[index] = self._drawn(message)
        same = _same_rows(before.rows, self._items[index].rows)
        self._laid_out(self._starts[index] + same)
        if message.state != "streaming":
            self._move_scrollbar(now=True)

    def _drawn(self, message: Message) -> _Item:
        drawer = self._drawers.get(message.id)
        if drawer is None:
            drawer = self._drawers[message.id] = MessageRows(message)
        rows, stops = drawer.rows(self.shown, self.conversation.branch(message))
        return _Item([*rows, BLANK], stops)

    def _laid_out(self, changed_from: int) -> None:
        """Sum the heights; repaint from the first line that differs, and follow the end if it was in view."""
        self._starts = []
        height = 1 if self._hidden else 0
        for item in self._items:
            self._starts.append(height)
            height += len(item.rows)
        before, self._height = self._height, height
        if before == height:
            self.refresh_lines(changed_from, max(height - changed_from, 1))
            return
        # Set as a plain reactive it would lay out the whole screen, for a height that concerns the scrollbar alone.
        self.set_reactive(Transcript.virtual_size, Size(self.scrollable_content_region.width, height))
        self._move_scrollbar()
        self.refresh()
        if self.following:
            self.to_end()

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width - GUTTER - MARGIN
        if width > 0 and width != self.shown.width:
            self.shown.width = width
            self._strips.clear()
            self.update()
        if self.following:
            self.to_end()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()
        self._parsed.clear()
        self._blank = self.visual_style.rich_style

    # ---- drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        """Past Textual's cache by place on the screen: while it scrolls, lines are the same at other places."""
        filters = self.get_line_filters()
        background = self.background_colors[1]
        strips = []
        for y in crop.line_range:
            strip = self.render_line(y)
            for filter in filters:
                strip = strip.apply_filter(filter, background)
            strips.append(strip.crop_extend(crop.x, crop.right, self._blank))
        return strips

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        row, at_cursor = self._row(line)
        strip = self._strip(line, row, at_cursor)
        selection = self.text_selection
        if selection is None or (span := selection.get_span(line)) is None:
            return strip
        return _selected(strip, span, Style.from_styles(self.screen.get_component_styles("screen--selection")))

    def _row(self, line: int) -> tuple[Row, bool]:
        if line >= self._height or not self._path:
            return BLANK, False
        index = bisect_right(self._starts, line) - 1
        if index < 0:
            return Row(
                Content.styled(f"  {self._hidden} earlier messages   home shows them", "$foreground-muted")
            ), False
        row = self._items[index].rows[line - self._starts[index]]
        return row, row.stop >= 0 and self.cursor == (self._path[index].id, row.stop)

    def _strip(self, line: int, row: Row, at_cursor: bool) -> Strip:
        cached = self._strips.get((line, at_cursor))
        if cached is not None and cached[0] is row.content:
            return cached[1]
        base, at = self.visual_style, 0
        bar = self.shown.marks.bar if at_cursor else " "
        parts = [(bar, base + self._style("$accent") if at_cursor else base)]
        parts += row.content.render(base, end="", parse_style=self._style)
        segments: list[Segment] = []
        for text, style in parts:
            segments.append(Segment(text, (base + style).rich_style_with_offset(at, line)))
            at += len(text)
        width = self.scrollable_content_region.width
        strip = Strip(segments, row.content.cell_length + GUTTER).adjust_cell_length(width, self._blank)
        if len(self._strips) > STRIPS:
            self._strips.clear()
        self._strips[(line, at_cursor)] = (row.content, strip)
        return strip

    def _style(self, style: str | Style) -> Style:
        if isinstance(style, Style):
            return style
        known = self._parsed.get(style)
        if known is None:
            known = self._parsed[style] = self._get_style(style)
        return known

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        lines = [" " * GUTTER + self._row(line)[0].content.plain for line in range(self._height)]
        chosen = selection.extract("\n".join(lines))
        return "\n".join(line.removeprefix(" " * GUTTER) for line in chosen.split("\n")), "\n"

    # ---- the block cursor

    def move_cursor(self, by: int) -> bool:
        """Up (-1) or down (1) a block; False when there is none that way. Without a cursor, up is the last block."""
        places = self._places()
        if not places:
            return False
        if self.cursor not in places:
            index = len(places) - 1 if by < 0 else len(places)
        else:
            index = places.index(self.cursor) + by
        if not 0 <= index < len(places):
            return False
        self.set_cursor(places[index])
        return True

    def set_cursor(self, at: At | None) -> None:
        self.cursor = at
        self.refresh()
        if at is not None:
            self._reveal(at)
        self.post_message(self.CursorMoved(self))

    @property
    def current(self) -> tuple[Message, Stop] | None:
        """What the cursor is on."""
        for message, item in zip(self._path, self._items, strict=True):
            if self.cursor is not None and message.id == self.cursor.message and self.cursor.stop < len(item.stops):
                return message, item.stops[self.cursor.stop]
        return None

    def toggle(self) -> bool:
        """Open or fold the reasoning or long question under the cursor; False when it is neither."""
        at = self.current
        if at is None or at[1].kind not in ("reasoning", "question"):
            return False
        self._flip(at[0])
        return True

    def fold_reasoning(self) -> None:
        """Open or fold the reasoning of the message under the cursor, else of the last that has some."""
        at = self.current[0] if self.current else None
        thoughts = [one for one in self._path if one.reasoning]
        message = at if at in thoughts else thoughts[-1] if thoughts else None
        if message is not None:
            self._flip(message)

    def _flip(self, message: Message) -> None:
        drawer = self._drawers[message.id]
        drawer.opened = not drawer.opened
        self.grow(message)

    def action_show_earlier(self) -> None:
        if self._hidden:
            self._limit += MORE
            self.update()
        self.scroll_home(animate=False)

    async def _on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        line = offset.y + self.scroll_offset.y
        if line == 0 and self._hidden:
            self.action_show_earlier()
            return
        row, _ = self._row(line)
        if row.stop >= 0:
            index = bisect_right(self._starts, line) - 1
            self.set_cursor(At(self._path[index].id, row.stop))
            self.toggle()

    def _places(self) -> list[At]:
        return [
            At(message.id, stop)
            for message, item in zip(self._path, self._items, strict=True)
            for stop in range(len(item.stops))
        ]

    def _reveal(self, at: At) -> None:
        index = next(i for i, message in enumerate(self._path) if message.id == at.message)
        lines = [y for y, row in enumerate(self._items[index].rows) if row.stop == at.stop]
        top, bottom = self._starts[index] + lines[0], self._starts[index] + lines[-1]
        height = self.scrollable_content_region.height
        if top < self.scroll_offset.y or bottom - top >= height:
            self.scroll_to(y=max(top - 1, 0), animate=False)
        elif bottom >= self.scroll_offset.y + height:
            self.scroll_to(y=bottom - height + 2, animate=False)


def _same_rows(before: Sequence[Row], after: Sequence[Row]) -> int:
    """How many rows in front are the very same lines."""
    for count, (old, new) in enumerate(zip(before, after, strict=False)):
        if old.content is not new.content and not old.content.is_same(new.content):
            return count
    return min(len(before), len(after))


def _selected(strip: Strip, span: tuple[int, int], style: Style) -> Strip:
    start, end = span
    text = strip.text
    stop = len(text) if end < 0 else end
    left, middle, right = cell_len(text[:start]), cell_len(text[start:stop]), strip.cell_length
    parts = [strip.crop(0, left), strip.crop(left, left + middle), strip.crop(left + middle, right)]
    marked = Strip([Segment(s.text, (s.style or style.rich_style) + style.rich_style) for s in parts[1]])
    return Strip.join([parts[0], marked, parts[2]])

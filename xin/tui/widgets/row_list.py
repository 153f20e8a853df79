"""A list of one-line rows with a cursor. Only changed lines are drawn again; cursor and scroll stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions

from xin.tui.glyphs import G

if TYPE_CHECKING:
    from textual.css.styles import RulesMap

GUTTER = 2
_ONE_LINE: RulesMap = {"text_wrap": "nowrap"}
_BLANK = Content("")


def clip(content: Content, width: int) -> Content:
    """Cut to `width` cells, with an ellipsis where something is missing."""
    return content if content.cell_length <= width else content.truncate(max(width - 1, 0)).append(G.ellipsis)


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `key` is unique in its list; a row that is not selectable belongs to the one above it."""

    key: str
    content: Content
    selectable: bool = True
    marked: bool = False

    def looks_like(self, other: Row) -> bool:
        return self == other and self.content.is_same(other.content)


class RowList(ScrollView, can_focus=True):
    """`set_rows` as often as you like: what is equal costs nothing."""

    HELP = "Move with the arrows or j and k; g and G go to the ends."
    BINDINGS = [
        Binding("up,k", "move(-1)", "Up", id="list.up", show=False, tooltip="Row above"),
        Binding("down,j", "move(1)", "Down", id="list.down", show=False, tooltip="Row below"),
        Binding("home,g", "edge(False)", "First", id="list.first", show=False, tooltip="First row"),
        Binding("end,G", "edge(True)", "Last", id="list.last", show=False, tooltip="Last row"),
        Binding("pageup", "page(-1)", "Page up", id="list.page_up", show=False, tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", id="list.page_down", show=False, tooltip="One page down"),
    ]
    IDLE_CURSOR = True  # shown while something else has the focus, too
    COMPONENT_CLASSES = {"row-list--cursor", "row-list--header"}

    @dataclass
    class Moved(Message):
        """The cursor is on another row, or on none ("")."""

        rows: RowList
        key: str

        @property
        def control(self) -> RowList:
            return self.rows

    @dataclass
    class Chosen(Message):
        """A row was double-clicked."""

        rows: RowList
        key: str

        @property
        def control(self) -> RowList:
            return self.rows

    @dataclass
    class Resized(Message):
        """Its rows have another width to fill."""

        rows: RowList

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []
        self._header: Content | None = None
        self._cursor = -1
        self._key = ""
        self._styles_of: dict[str, Style] = {}

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.notify_style_update())

    # -- what is shown

    @property
    def key(self) -> str:
        """The key of the cursor's row; "" when there is none."""
        return self._key

    @property
    def rows(self) -> Sequence[Row]:
        return self._rows

    @property
    def lines(self) -> list[str]:
        """What is listed, as plain text."""
        return [row.content.plain for row in self._rows]

    @property
    def room(self) -> int:
        """Cells that a row's content can take."""
        return max(self.scrollable_content_region.width - GUTTER, 1)

    def set_header(self, header: Content | None) -> None:
        """A first line that does not scroll."""
        old, self._header = self._header, header
        if (old is None) != (header is None):
            self._resize()
            self.refresh()
        elif header is not None and old is not None and not old.is_same(header):
            self.refresh(Region(0, 0, self.size.width, 1))

    def set_rows(self, rows: Sequence[Row]) -> None:
        old, self._rows = self._rows, list(rows)
        if len(old) != len(self._rows):
            self._resize()
            self._keep_cursor()
            self.refresh()
            return
        if self._keep_cursor():
            self.refresh()
            return
        for index, (before, after) in enumerate(zip(old, self._rows, strict=True)):
            if not before.looks_like(after):
                self._refresh_row(index)

    def move_to(self, key: str) -> bool:
        """Put the cursor on the row with this key, if there is one."""
        index = next((i for i, row in enumerate(self._rows) if row.key == key and row.selectable), None)
        if index is not None:
            self._go(index)
        return index is not None

    def on_resize(self, event: events.Resize) -> None:
        self.post_message(self.Resized(self))

    # -- moving

    def action_move(self, step: int) -> None:
        index = self._next_selectable(self._cursor + step, step)
        if index is not None:
            self._go(index)
        elif step < 0:
            self.scroll_to(y=0, animate=False)

    def action_edge(self, last: bool) -> None:
        index = self._next_selectable(len(self._rows) - 1, -1) if last else self._next_selectable(0, 1)
        if index is not None:
            self._go(index)

    def action_page(self, direction: int) -> None:
        wanted = self._cursor + direction * max(self._page(), 1)
        wanted = min(max(wanted, 0), len(self._rows) - 1)
        index = self._next_selectable(wanted, direction)
        if index is None:
            index = self._next_selectable(wanted, -direction)
        if index is not None:
            self._go(index)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        index = offset.y + self.scroll_offset.y - self._above
        if offset.y < self._above or not 0 <= index < len(self._rows):
            return
        while index > 0 and not self._rows[index].selectable:
            index -= 1
        if self._rows[index].selectable:
            self._go(index)
            if event.chain == 2:
                self.post_message(self.Chosen(self, self._key))

    # -- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width or self.size.width
        if self._header is not None and y == 0:
            return self._strip(_BLANK, self._header, width, "row-list--header")
        index = y + self.scroll_offset.y - self._above
        if not 0 <= index < len(self._rows):
            return Strip.blank(width, self.rich_style)
        row = self._rows[index]
        under = index == self._cursor and (self.has_focus or self.IDLE_CURSOR)
        gutter = Content.assemble(
            (G.cursor, "$accent" if self.has_focus else "$foreground-muted") if under else " ",
            (G.mark, "bold $accent") if row.marked else " ",
        )
        return self._strip(gutter, row.content, width, "row-list--cursor" if under and self.has_focus else "")

    def _strip(self, gutter: Content, content: Content, width: int, component: str) -> Strip:
        style = self.get_visual_style(component) if component else self.visual_style
        line = Content.assemble(gutter.pad_right(GUTTER - gutter.cell_length), content)
        strips = clip(line, width).render_strips(width, 1, style, RenderOptions(self._style_of, _ONE_LINE))
        strip = strips[0] if strips else Strip.blank(width, style.rich_style)
        return strip.adjust_cell_length(width, style.rich_style)

    def _style_of(self, style: Style | str) -> Style:
        """Looked up once for each name: parsing costs as much as drawing a row."""
        if isinstance(style, Style):
            return style
        if style not in self._styles_of:
            self._styles_of[style] = self._get_style(style)
        return self._styles_of[style]

    def notify_style_update(self) -> None:
        self._styles_of.clear()
        super().notify_style_update()
        self.refresh()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self._refresh_row(self._cursor)

    # -- keeping

    @property
    def _above(self) -> int:
        return 1 if self._header is not None else 0

    def _page(self) -> int:
        return self.scrollable_content_region.height - self._above

    def _resize(self) -> None:
        self.virtual_size = Size(0, len(self._rows) + self._above)

    def _keep_cursor(self) -> bool:
        """The cursor stays on its key; where that is gone it takes the nearest row. True: it is at another index."""
        old, old_key = self._cursor, self._key
        index = next((i for i, row in enumerate(self._rows) if row.selectable and row.key == old_key), None)
        if index is None:
            near = min(max(old, 0), len(self._rows) - 1)
            index = self._next_selectable(near, 1)
            if index is None:
                index = self._next_selectable(near, -1)
        self._cursor = -1 if index is None else index
        self._key = "" if index is None else self._rows[index].key
        if self._key != old_key:
            self.post_message(self.Moved(self, self._key))
        if self._cursor != old and self._cursor >= 0:
            self.call_after_refresh(self._show_cursor)
        return self._cursor != old

    def _next_selectable(self, index: int, step: int) -> int | None:
        while 0 <= index < len(self._rows):
            if self._rows[index].selectable:
                return index
            index += step
        return None

    def _go(self, index: int) -> None:
        old, self._cursor = self._cursor, index
        self._key = self._rows[index].key
        self._show_cursor()
        if old != index:
            self._refresh_row(old)
            self._refresh_row(index)
            self.post_message(self.Moved(self, self._key))

    def _show_cursor(self) -> None:
        """Scroll as little as shows the row and those that belong to it."""
        page = self._page()
        if self._cursor < 0 or page <= 0:
            return
        end = self._cursor
        while end + 1 < len(self._rows) and not self._rows[end + 1].selectable:
            end += 1
        top = self.scroll_offset.y
        first = 0 if self._next_selectable(self._cursor - 1, -1) is None else self._cursor
        wanted = max(top, min(end, self._cursor + page - 1) - page + 1)
        wanted = min(wanted, first)
        if wanted != top:
            self.scroll_to(y=wanted, animate=False)

    def _refresh_row(self, index: int) -> None:
        if index >= 0:
            self.refresh_line(index + self._above)

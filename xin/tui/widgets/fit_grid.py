"""Quantization by device: what fits where, moved through with the arrows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from xin.protocol.node import PlanCell
from xin.tui.glyphs import G
from xin.tui.launch_choice import Column, Grid
from xin.tui.text import bytes_short, clean, fit

_QUANT, _WEIGHTS, _CELL = 9, 7, 13
_STYLES = {"fits": "$success", "partial": "$warning", "no": "$error", "no_engine": "$foreground-muted"}
LEGEND = "fits", "~ shorter context or partly in RAM", "short by", "n/a no engine"


class FitGrid(Widget, can_focus=True):
    """`show` a grid; `row` and `column` are where the cursor is. What is out of sight is a step away."""

    HELP = "The arrows choose quantization and device. What does not fit says by how much."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(-1, 0)", "up", id="fit.up", show=False, tooltip="The quantization above"),
        Binding("down", "step(1, 0)", "down", id="fit.down", show=False, tooltip="The quantization below"),
        Binding("left", "step(0, -1)", "left", id="fit.left", show=False, tooltip="The device to the left"),
        Binding("right", "step(0, 1)", "right", id="fit.right", show=False, tooltip="The device to the right"),
    ]
    DEFAULT_CSS = """
    FitGrid {
        height: 1fr;
        min-height: 3;
    }
    """

    @dataclass
    class Chosen(Message):
        """The cursor is on another cell."""

        grid: FitGrid

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.grid = Grid()
        self.row = 0
        self.column = 0
        self.words = ""

    @property
    def cell(self) -> PlanCell | None:
        return self.grid.cell(self.row, self.column)

    def show(self, grid: Grid, place: tuple[int, int] | None = None) -> None:
        """`place`: where the cursor goes; None = it stays."""
        self.grid, self.words = grid, ""
        self.row, self.column = place or (
            min(self.row, max(len(grid.rows) - 1, 0)),
            min(self.column, max(len(grid.columns) - 1, 0)),
        )
        self.refresh()

    def say(self, words: str) -> None:
        """Words in place of a grid."""
        self.grid, self.words = Grid(), clean(words)
        self.refresh()

    def action_step(self, rows: int, columns: int) -> None:
        row = min(max(self.row + rows, 0), max(len(self.grid.rows) - 1, 0))
        column = min(max(self.column + columns, 0), max(len(self.grid.columns) - 1, 0))
        if (row, column) != (self.row, self.column):
            self.row, self.column = row, column
            self.refresh()
            self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y < 2:
            return
        column = (offset.x - _QUANT - _WEIGHTS - 1) // (_CELL + 1) + self._first_column
        self.action_step(offset.y - 2 + self._first_row - self.row, column - self.column)

    # ---- drawing

    def render(self) -> Content:
        if not self.grid.rows:
            return Content.styled(self.words, "$foreground-muted")
        shown = range(self._first_column, min(self._first_column + self._fitting, len(self.grid.columns)))
        lines = [self._header(shown), self._free(shown)]
        height = max(self.size.height - 2, 1)
        for row in range(self._first_row, min(self._first_row + height, len(self.grid.rows))):
            lines.append(self._row(row, shown))
        return Content("\n").join(lines)

    @property
    def _fitting(self) -> int:
        return max((self.size.width - _QUANT - _WEIGHTS) // (_CELL + 1), 1)

    @property
    def _first_column(self) -> int:
        return max(self.column - self._fitting + 1, 0)

    @property
    def _first_row(self) -> int:
        return max(self.row - max(self.size.height - 3, 0), 0)

    def _header(self, shown: range) -> Content:
        names = [f"{G.vertical}{fit(f' {column.node}:{column.device_id}', _CELL)}" for column in self._columns(shown)]
        line = f"{'QUANT':<{_QUANT}}{'WEIGHTS':>{_WEIGHTS}}{''.join(map(clean, names))}"
        if shown.stop < len(self.grid.columns):
            line = f"{fit(line.rstrip(), self.size.width - 2)} {G.right}"
        return Content(line)

    def _free(self, shown: range) -> Content:
        free = [f"{G.vertical}{fit(f' free {bytes_short(one.free_bytes)}', _CELL)}" for one in self._columns(shown)]
        return Content.styled(" " * (_QUANT + _WEIGHTS) + "".join(free), "$foreground-muted")

    def _columns(self, shown: range) -> list[Column]:
        return [self.grid.columns[index] for index in shown]

    def _row(self, row: int, shown: range) -> Content:
        plan = self.grid.rows[row]
        weights = bytes_short(plan.weights_bytes) if plan.weights_bytes else G.none
        quantization = plan.quantization if plan.quantization != "none" else plan.model_format
        parts: list[Content | str] = [f"{fit(clean(quantization), _QUANT)}{weights:>{_WEIGHTS}}"]
        for column in shown:
            parts += [G.vertical, self._cell(row, column)]
        return Content.assemble(*parts)

    def _cell(self, row: int, column: int) -> Content:
        cell = self.grid.cell(row, column)
        style = _STYLES[cell.verdict] if cell is not None else "$foreground-disabled"
        under = (row, column) == (self.row, self.column)
        text = fit(f" {cell_words(cell)}", _CELL)
        if not under:
            return Content.styled(text, style)
        return Content.styled(f"[{text[1:-1]}]", f"bold {style} reverse" if self.has_focus else f"bold {style}")

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh()


def cell_words(cell: PlanCell | None) -> str:
    """✓ 8k ctx, ~ 6k ctx, ✗ -12.6G, n/a."""
    if cell is None:
        return "not there"
    if cell.verdict == "no_engine":
        return "n/a"
    if cell.verdict == "no":
        if cell.need_bytes <= cell.free_bytes:
            return f"{G.fail} unreadable"
        return f"{G.fail} -{bytes_short(cell.need_bytes - cell.free_bytes)}"
    context = f" {context_short(cell.max_context)} ctx" if cell.max_context else ""
    return f"{G.done if cell.verdict == 'fits' else '~'}{context or ' fits'}"


def context_short(tokens: int) -> str:
    """8k, 131k, 512."""
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)

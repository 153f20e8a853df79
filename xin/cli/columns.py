"""Answers drawn side by side, in as many rows as the width needs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from xin.cli.answer import Answer
from xin.cli.output import printable

GAP = 2
MIN_WIDTH = 28
HEADER_LINES = 2


def draw(console: Console, answers: Sequence[Answer], *, height: int | None = None) -> RenderableType:
    """All of every answer; with a `height` in lines, the end of each that fits."""
    per_row = max(1, min(len(answers), (console.width + GAP) // (MIN_WIDTH + GAP)))
    rows = [answers[start : start + per_row] for start in range(0, len(answers), per_row)]
    width = (console.width - GAP * (per_row - 1)) // per_row
    lines = max(1, height // len(rows) - HEADER_LINES - 1) if height else None
    return Group(*(_row(console, row, width, lines) for row in rows))


def _row(console: Console, answers: Sequence[Answer], width: int, lines: int | None) -> Table:
    table = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for _ in answers:
        table.add_column(width=width, overflow="fold")
    table.add_row(*(Text(answer.model, style="bold") for answer in answers))
    table.add_row(*(Text(_figures(answer), style="dim") for answer in answers))
    table.add_row(*(_body(console, answer, width, lines) for answer in answers))
    return table


def _figures(answer: Answer) -> str:
    if answer.error:
        return "failed"
    if answer.usage is None and not answer.arrivals:
        return "waiting …"
    return answer.speed()


def _body(console: Console, answer: Answer, width: int, lines: int | None) -> Text:
    text = Text(printable(answer.text).strip())
    if answer.error:
        text = Text(printable(f"{answer.text}\n{answer.error.message}").strip(), style="red")
    if lines is None:
        return text
    wrapped = text.wrap(console, width)
    return Text("\n").join(wrapped[-lines:])

"""A table of a Markdown answer, fitted to a width: cells wrap, and below a few cells a column it becomes a list."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

RULE, HEAD = "$foreground-muted", "bold"
NARROWEST = 4


def table_lines(rows: Sequence[Sequence[Content]], width: int, side: str, rule: str, cross: str) -> list[Content]:
    """The first of `rows` is the header."""
    count = max((len(row) for row in rows), default=0)
    if not count:
        return []
    filled = [[*row, *[Content("")] * (count - len(row))] for row in rows]
    room = width - 3 * (count - 1)
    if room < NARROWEST * count:
        return _as_list(filled, width)
    widths = _fitted([max(1, *(_width(row[column]) for row in filled)) for column in range(count)], room)
    lines: list[Content] = []
    for index, row in enumerate(filled):
        lines += _row_lines([cell.stylize(HEAD) for cell in row] if index == 0 else row, widths, side)
        if index == 0:
            lines.append(Content.styled(f"{rule}{cross}{rule}".join(rule * cells for cells in widths), RULE))
    return lines


def _fitted(wanted: list[int], room: int) -> list[int]:
    """Take from the widest column until all fit."""
    widths = list(wanted)
    while sum(widths) > room:
        widest = widths.index(max(widths))
        others = max((one for index, one in enumerate(widths) if index != widest), default=0)
        less = min(sum(widths) - room, max(widths[widest] - others, 1))
        widths[widest] -= less
    return widths


def _row_lines(cells: Sequence[Content], widths: Sequence[int], side: str) -> list[Content]:
    wrapped = [cell.wrap(max(cells_wide, 2)) for cell, cells_wide in zip(cells, widths, strict=True)]
    height = max(len(lines) for lines in wrapped)
    between = Content.styled(f" {side} ", RULE)
    lines = []
    for y in range(height):
        parts = [lines[y] if y < len(lines) else Content("") for lines in wrapped]
        padded = [_padded(part, cells_wide) for part, cells_wide in zip(parts, widths, strict=True)]
        lines.append(between.join(padded).rstrip())
    return lines


def _padded(part: Content, width: int) -> Content:
    return part.pad_right(max(width - part.cell_length, 0))


def _as_list(rows: Sequence[Sequence[Content]], width: int) -> list[Content]:
    head, *body = rows
    lines: list[Content] = []
    for index, row in enumerate(body or [head]):
        if index:
            lines.append(Content(""))
        for name, cell in zip(head, row, strict=True):
            lines += Content.assemble(name.stylize(HEAD), ": ", cell).wrap(width)
    return lines


def _width(cell: Content) -> int:
    return max((line.cell_length for line in cell.split("\n", allow_blank=True)), default=0)

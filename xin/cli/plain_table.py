"""A table without lines, written without rich, which takes longer to load than a list to print."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any
from unicodedata import east_asian_width

from xin.cli.output import PIPE_WIDTH, printable

GAP = 2
_LEAST = 6


def plain_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """On stdout. Where the terminal is too narrow, the widest columns are folded, and the first one last."""
    terminal = sys.stdout.isatty()
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headers, *cells, strict=True)]
    room = (shutil.get_terminal_size().columns if terminal else PIPE_WIDTH) - GAP * (len(headers) - 1)
    for first in (1, 0):
        while sum(widths) > room and (widest := max(widths[first:])) > _LEAST:
            widths[widths.index(widest, first)] -= 1
    bold = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for n, row in enumerate([list(headers), *cells]):
        for line in _lines(row, widths, [header in right for header in headers]):
            sys.stdout.write(f"\x1b[1m{line}\x1b[0m\n" if bold and n == 0 else f"{line}\n")
    sys.stdout.flush()


def _lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """One row, in as many lines as its longest cell needs."""
    folded = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
    lines = []
    for i in range(max(map(len, folded))):
        parts = [cell[i] if i < len(cell) else "" for cell in folded]
        padded = (_padded(*each) for each in zip(parts, widths, right, strict=True))
        lines.append((" " * GAP).join(padded).rstrip())
    return lines


def _folded(cell: str, width: int) -> list[str]:
    return [cell] if _width(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * max(0, width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """Terminal columns."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(char) in "WF" else 1 for char in text)

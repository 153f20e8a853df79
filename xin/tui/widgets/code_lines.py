"""A piece of code in its frame: plain while it is still written, coloured once it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.highlight import highlight

from xin.tui.chat.visible import visible

if TYPE_CHECKING:
    from xin.tui.widgets.answer_markdown import Marks

FRAME = "$foreground-muted"
HIGHLIGHT_LIMIT = 200_000  # characters: colours beyond would be waited for


def code_lines(code: str, language: str, width: int, marks: Marks, *, open: bool = False) -> list[Content]:
    """`width` cells at most, long lines folded; an `open` one has no lower edge yet."""
    inside = max(width - 2, 2)
    side = Content.styled(f"{marks.side} ", FRAME)
    lines = [_edge(marks, language, width)]
    for line in coloured(code, "" if open else language).split("\n", allow_blank=True):
        lines += [side + part for part in _folded(line, inside)]
    if not open:
        lines.append(Content.styled(marks.bottom + marks.rule * (width - 1), FRAME))
    return lines


def coloured(code: str, language: str) -> Content:
    text = visible(code).expandtabs(4)
    if not language or len(text) > HIGHLIGHT_LIMIT:
        return Content(text)
    return highlight(text, language=language)


def _edge(marks: Marks, language: str, width: int) -> Content:
    name = f"{marks.top} {visible(language)} " if language else marks.top
    rest = width - cell_len(name)
    return Content.styled(name + marks.rule * rest if rest >= 0 else set_cell_size(name, width), FRAME)


def _folded(line: Content, width: int) -> list[Content]:
    return [line] if line.cell_length <= width else line.fold(width)

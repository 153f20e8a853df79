"""A piece of code in its frame: plain while it is still written, coloured once it is whole."""

from __future__ import annotations

from functools import lru_cache
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
    lines = [_edge(marks, language, width)]
    if open:
        for text in visible(code).split("\n"):
            lines += _plain(text, inside, marks.side)
        return lines
    side = Content.styled(f"{marks.side} ", FRAME)
    for line in coloured(code, language).split("\n", allow_blank=True):
        lines += [side + part for part in _folded(line, inside)]
    return [*lines, Content.styled(marks.bottom + marks.rule * (width - 1), FRAME)]


@lru_cache(2048)
def _plain(text: str, width: int, side: str) -> tuple[Content, ...]:
    """Lines of a fence that is still written come by several times a second."""
    mark = Content.styled(f"{side} ", FRAME)
    return tuple(mark + part for part in _folded(Content(text.expandtabs(4)), width))


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

"""Terminal screens as SVG: one of them, or many as an animation in which each distinct row is drawn once."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.color import Color, blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 8.4, 18.0, 14
MARGIN = 10.0
BAR = 30.0
FONTS = "'Fira Code','JetBrains Mono','DejaVu Sans Mono',Menlo,Consolas,monospace"
_FOREGROUND, _BACKGROUND = ColorTriplet(224, 224, 224), ColorTriplet(18, 18, 18)
_WORDS = re.compile(r"[^ ]+(?: [^ ]+)*")
_CONSOLE = Console(width=1000)


@dataclass(slots=True)
class Shot:
    """One screen, a Text each row, and the seconds for which it is shown."""

    rows: list[Text]
    seconds: float = 1.0

    @classmethod
    def of_ansi(cls, ansi: str, seconds: float = 1.0) -> Shot:
        """From what `tmux capture-pane -e` gives."""
        return cls(list(AnsiDecoder().decode(ansi)), seconds)


class _Cell(NamedTuple):
    """Two screens that look the same have the same cells, however their text was put together."""

    text: str
    width: int
    foreground: str
    background: str
    rules: str


def still(shot: Shot, size: tuple[int, int], title: str) -> str:
    return film([shot], size, title)


def film(shots: Sequence[Shot], size: tuple[int, int], title: str) -> str:
    """An SVG that plays the shots in turn, for ever."""
    drawing = _Drawing(size)
    frames = [drawing.frame(number, shot) for number, shot in enumerate(shots)]
    columns, rows = size
    width, height = columns * CELL_WIDTH, rows * CELL_HEIGHT
    outer = (width + 2 * MARGIN, height + BAR + MARGIN)
    moves = _moves(shots, width) if len(shots) > 1 else ""
    dots = "".join(f'<circle cx="{MARGIN + 8 + 18 * i}" cy="15" r="5" fill="#4a4f57"/>' for i in range(3))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {outer[0]:g} {outer[1]:g}" '
            f'width="{outer[0]:g}" height="{outer[1]:g}" role="img" aria-label="{html.escape(title)}">',
            f"<style>text{{font:{FONT_SIZE}px {FONTS};white-space:pre}}{drawing.css()}{moves}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="#1b1e23"/>{dots}',
            f'<text x="{outer[0] / 2:g}" y="20" fill="#9aa0a8" text-anchor="middle">{html.escape(title)}</text>',
            f'<svg x="{MARGIN:g}" y="{BAR:g}" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}"><rect width="100%" height="100%" fill="{_BACKGROUND.hex}"/>',
            f"<defs>{drawing.rows()}</defs>",
            f'<g class="film">{"".join(frames)}</g>',
            "</svg>",
            "</svg>",
            "",
        ]
    )


def _moves(shots: Sequence[Shot], width: float) -> str:
    total = sum(shot.seconds for shot in shots)
    steps, at = [], 0.0
    for number, shot in enumerate(shots):
        steps.append(f"{100 * at / total:.3f}%{{transform:translateX({-number * width:g}px)}}")
        at += shot.seconds
    last = f"100%{{transform:translateX({-(len(shots) - 1) * width:g}px)}}"
    return f"@keyframes film{{{''.join(steps)}{last}}}.film{{animation:film {total:.2f}s step-end infinite}}"


@dataclass(slots=True)
class _Drawing:
    size: tuple[int, int]
    _known: dict[str, str] = field(default_factory=dict)
    _classes: dict[str, str] = field(default_factory=dict)

    def frame(self, number: int, shot: Shot) -> str:
        columns, rows = self.size
        uses = []
        for index, line in enumerate(shot.rows[:rows]):
            drawn = self._row(list(_cells(line, columns)))
            if drawn:
                name = self._known.setdefault(drawn, f"r{len(self._known)}")
                uses.append(f'<use href="#{name}" y="{index * CELL_HEIGHT:g}"/>')
        shift = number * columns * CELL_WIDTH
        return f'<g transform="translate({shift:g})">{"".join(uses)}</g>'

    def rows(self) -> str:
        return "\n".join(f'<g id="{name}">{drawn}</g>' for drawn, name in self._known.items())

    def css(self) -> str:
        return "".join(f".{name}{{{rule}}}" for rule, name in self._classes.items())

    def _row(self, cells: list[_Cell]) -> str:
        return "".join([*self._backgrounds(cells), *self._texts(cells)])

    def _backgrounds(self, cells: list[_Cell]) -> Iterator[str]:
        column = 0
        for background, run in groupby(cells, lambda cell: cell.background):
            width = sum(cell.width for cell in run)
            if background != _BACKGROUND.hex:
                place = f'x="{column * CELL_WIDTH:g}" width="{width * CELL_WIDTH + 0.3:g}" height="{CELL_HEIGHT:g}"'
                yield f'<rect class="{self._class(f"fill:{background}")}" {place}/>'
            column += width

    def _texts(self, cells: list[_Cell]) -> Iterator[str]:
        """ASCII words of one look together, since fonts agree on their width; the rest by itself."""
        column = 0
        for (color, rules, _), run in groupby(_joined(cells), lambda cell: (*cell[2:5:2], cell.text.isascii())):
            members = list(run)
            text = "".join(cell.text for cell in members)
            for word in _WORDS.finditer(text):
                start = column + sum(cell.width for cell in members[: word.start()])
                length = sum(cell.width for cell in members[word.start() : word.end()])
                place = f'x="{start * CELL_WIDTH:g}" y="13.5" textLength="{length * CELL_WIDTH:g}"'
                rule = self._class(";".join(filter(None, (f"fill:{color}", rules))))
                yield f'<text class="{rule}" {place}>{html.escape(word[0])}</text>'
            column += sum(cell.width for cell in members)

    def _class(self, rule: str) -> str:
        return self._classes.setdefault(rule, f"c{len(self._classes)}")


def _joined(cells: list[_Cell]) -> Iterator[_Cell]:
    """Spaces look like the word before them, so that words of one look stay one text."""
    last: _Cell | None = None
    for cell in cells:
        if cell.text == " " and last is not None and "decoration" not in last.rules:
            yield cell._replace(foreground=last.foreground, rules=last.rules)
        else:
            yield cell
            last = cell


def _cells(line: Text, columns: int) -> Iterator[_Cell]:
    """Up to the last column; a space has no foreground."""
    column = 0
    for segment in line.render(_CONSOLE, end=""):
        style = segment.style or Style.null()
        foreground, background = _colors(style)
        for character in segment.text:
            width = cell_len(character)
            if column + width > columns:
                return
            if width == 0:
                continue
            column += width
            blank = character == " "
            front, rules = ("", "") if blank else (foreground.hex, _rules(style))
            yield _Cell(character, width, front, background.hex, rules)


def _colors(style: Style) -> tuple[ColorTriplet, ColorTriplet]:
    foreground = _triplet(style.color, _FOREGROUND)
    background = _triplet(style.bgcolor, _BACKGROUND)
    if style.reverse:
        foreground, background = background, foreground
    if style.dim:
        foreground = blend_rgb(background, foreground, 0.5)
    return foreground, background


def _triplet(color: Color | None, default: ColorTriplet) -> ColorTriplet:
    return default if color is None or color.is_default else color.get_truecolor(DIMMED_MONOKAI)


def _rules(style: Style) -> str:
    lines = [name for name, on in (("underline", style.underline), ("line-through", style.strike)) if on]
    rules = ["font-weight:bold"] if style.bold else []
    rules += ["font-style:italic"] if style.italic else []
    rules += [f"text-decoration:{' '.join(lines)}"] if lines else []
    return ";".join(rules)

"""Terminal screens as SVG: one of them, or many as an animation in which each distinct row is drawn once."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

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
_WORDS = re.compile(r"[!-~]+(?: [!-~]+)*|[^ -~]+")  # fonts agree on the width of ASCII; the rest stands by itself
Run = tuple[str, Style]


@dataclass(slots=True)
class Shot:
    """One screen as `tmux capture-pane -e` gives it, and the seconds for which it is shown."""

    ansi: str
    seconds: float = 1.0


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
    _console: Console = field(default_factory=lambda: Console(width=1000))

    def frame(self, number: int, shot: Shot) -> str:
        columns, rows = self.size
        lines = list(AnsiDecoder().decode(shot.ansi))[:rows]
        uses = []
        for index, line in enumerate(lines):
            drawn = self._row(line)
            if drawn:
                name = self._known.setdefault(drawn, f"r{len(self._known)}")
                uses.append(f'<use href="#{name}" y="{index * CELL_HEIGHT:g}"/>')
        shift = number * columns * CELL_WIDTH
        return f'<g transform="translate({shift:g})">{"".join(uses)}</g>'

    def rows(self) -> str:
        return "".join(f'<g id="{name}">{drawn}</g>' for drawn, name in self._known.items())

    def css(self) -> str:
        return "".join(f".{name}{{{rule}}}" for rule, name in self._classes.items())

    def _row(self, line: Text) -> str:
        back, front, column = [], [], 0
        for text, style in self._runs(line):
            cells = cell_len(text)
            foreground, background = _colors(style)
            x, width = column * CELL_WIDTH, cells * CELL_WIDTH
            if background != _BACKGROUND:
                rule = self._class(f"fill:{background.hex}")
                back.append(f'<rect class="{rule}" x="{x:g}" width="{width + 0.3:g}" height="{CELL_HEIGHT:g}"/>')
            for word in _WORDS.finditer(text):
                start, length = column + cell_len(text[: word.start()]), cell_len(word[0])
                place = f'x="{start * CELL_WIDTH:g}" y="13.5" textLength="{length * CELL_WIDTH:g}"'
                rule = self._class(_text_rule(style, foreground))
                front.append(f'<text class="{rule}" {place}>{html.escape(word[0])}</text>')
            column += cells
        return "".join(back + front)

    def _runs(self, line: Text) -> list[Run]:
        """Neighbours of one style together; cells beyond the last column are left out."""
        line.truncate(self.size[0])
        runs: list[Run] = []
        for segment in line.render(self._console, end=""):
            style = segment.style or Style.null()
            if runs and runs[-1][1] == style:
                runs[-1] = (runs[-1][0] + segment.text, style)
            else:
                runs.append((segment.text, style))
        return runs

    def _class(self, rule: str) -> str:
        return self._classes.setdefault(rule, f"c{len(self._classes)}")


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


def _text_rule(style: Style, color: ColorTriplet) -> str:
    rules = [f"fill:{color.hex}"]
    if style.bold:
        rules.append("font-weight:bold")
    if style.italic:
        rules.append("font-style:italic")
    lines = [name for name, on in (("underline", style.underline), ("line-through", style.strike)) if on]
    if lines:
        rules.append(f"text-decoration:{' '.join(lines)}")
    return ";".join(rules)

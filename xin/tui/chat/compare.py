"""The strip under the panes: a turn's answers beside each other in figures, the best marked."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from xin.tui.chat.votes import Blind, Candidate
from xin.tui.glyphs import G
from xin.tui.text import clean, fit

WIDE = 100
BAR = 20
_FAILED = {"failed": ("fail", "failed", "$text-error"), "stopped": ("stop", "stopped", "$text-warning")}


class CompareStrip(Static):
    """Shown where a turn has two answers or more. `show` as often as figures change: what is equal is not drawn."""

    DEFAULT_CSS = """
    CompareStrip { height: auto; padding: 0 1; display: none; }
    CompareStrip.-shown { display: block; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self._shown: tuple[Sequence[Candidate], int | None, Blind | None] = ((), None, None)
        self._line = Content("")

    def show(self, candidates: Sequence[Candidate], *, voted: int | None = None, blind: Blind | None = None) -> None:
        """`voted`: the pane that has won the vote."""
        self._shown = (list(candidates), voted, blind)
        self.set_class(len(candidates) > 1, "-shown")
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        candidates, voted, blind = self._shown
        width = self.content_size.width or self.app.size.width - 2
        line = strip(candidates, width, voted=voted, blind=blind) if len(candidates) > 1 else Content("")
        if not line.is_same(self._line):
            self._line = line
            self.update(line)


def strip(
    candidates: Sequence[Candidate], width: int, *, voted: int | None = None, blind: Blind | None = None
) -> Content:
    """The answers in as few lines as the width takes; a blind vote hides names, and figures that tell of them."""
    if blind is not None:
        return _packed([_hidden(one, blind) for one in blind.arranged(candidates)], width)
    best = voted if voted is not None else fastest(candidates)
    wide = width >= WIDE
    cells = [_cell(number, one, candidates, wide, one.pane == best) for number, one in enumerate(candidates, 1)]
    if best is not None:
        cells.append(
            Content.styled(f"{G.star} {'voted best' if voted is not None else 'soonest done'}", "$foreground-muted")
        )
    return _packed(cells, width)


def fastest(candidates: Sequence[Candidate]) -> int | None:
    """The pane whose whole answer was there first, once all have ended and two have succeeded."""
    done = [(one.seconds, one.pane) for one in candidates if one.state == "done" and one.seconds is not None]
    if len(done) < 2 or any(one.state == "streaming" for one in candidates):
        return None
    return min(done)[1]


def _cell(number: int, one: Candidate, all: Sequence[Candidate], wide: bool, best: bool) -> Content:
    name = fit(clean(one.model), 14 if wide else 10)
    parts: list[Content | str | tuple[str, str]] = [(f"{number} ", "bold"), name, " "]
    if one.state in _FAILED:
        glyph, word, style = _FAILED[one.state]
        parts.append((f"{getattr(G, glyph)} {word} after {one.completion_tokens} tok", style))
        return Content.assemble(*parts)
    if one.ttft_ms is None:
        parts.append((f"{G.run} waiting", "$foreground-muted"))
        return Content.assemble(*parts)
    if wide:
        thought = "*" if one.thinking_ms else " "
        parts += [f"{_time(one.ttft_ms / 1e3):>6}{thought} ", *_bar(one, all), " "]
    rate = f"{'' if one.exact else '≈'}{one.tokens_per_second:.0f} t/s" if one.tokens_per_second else G.none
    parts.append(f"{rate:>8} ")
    parts.append(f"{G.run:>5}" if one.state == "streaming" else f"{_time(one.seconds):>5}")
    parts.append((f" {G.star}", "bold $text-success") if best else "  ")
    return Content.assemble(*parts)


def _bar(one: Candidate, all: Sequence[Candidate]) -> list[tuple[str, str]]:
    """The rate against the fastest one's."""
    top = max((other.tokens_per_second or 0 for other in all), default=0)
    full = round(BAR * (one.tokens_per_second or 0) / top) if top else 0
    return [(G.bar_full * full, "$accent"), (G.bar_empty * (BAR - full), "$foreground-disabled")]


def _hidden(one: Candidate, blind: Blind) -> Content:
    words = {"streaming": (G.run, "answering"), "failed": (G.fail, "failed"), "stopped": (G.stop, "stopped")}
    glyph, word = words.get(one.state, (G.done, "done"))
    return Content.assemble((f"{blind.name(one.pane)} ", "bold"), f"{glyph} {word}")


def _packed(cells: Sequence[Content], width: int) -> Content:
    """Cells side by side, two blanks between, in as many lines as it takes."""
    lines: list[Content] = []
    for cell in cells:
        if lines and lines[-1].cell_length + 2 + cell.cell_length <= width:
            lines[-1] = Content.assemble(lines[-1], "  ", cell)
        else:
            lines.append(cell.truncate(width, ellipsis=True))
    return Content("\n").join(lines)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return G.none
    return f"{seconds * 1e3:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"

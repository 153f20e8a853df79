"""A line of history in text: one cell a value, newest at the right, the scale fixed from zero to the most."""

from __future__ import annotations

from collections.abc import Sequence

from xin.tui.glyphs import G


def spark(values: Sequence[float], cells: int, most: float | None = None) -> str:
    """Exactly `cells` wide, blank where nothing was measured yet. `most`: the top; None = the largest one shown."""
    shown = list(values)[-cells:] if cells > 0 else []
    top = most if most is not None else max(shown, default=0.0)
    last = len(G.sparks) - 1
    marks = "".join(G.sparks[_step(value, top, last)] for value in shown)
    return marks.rjust(max(cells, 0))


def _step(value: float, top: float, last: int) -> int:
    """Zero is the lowest step, and nothing else is."""
    if value <= 0 or top <= 0:
        return 0
    return min(max(round(value / top * last), 1), last)

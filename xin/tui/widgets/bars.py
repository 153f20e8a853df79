"""Bars of a given width in cells, as text: colours are theme variables, and full differs from empty by its sign."""

from __future__ import annotations

from textual.content import Content

from xin.tui.glyphs import G

WARM, HOT = 0.75, 0.92


def memory_bar(used: int | float, total: int | float, width: int) -> Content:
    """Used of total. Warm from three quarters on, hot when nearly full; nothing known is all empty."""
    share = min(max(used / total, 0.0), 1.0) if total > 0 else 0.0
    style = "$error" if share >= HOT else "$warning" if share >= WARM else "$success"
    return _bar(share, width, style)


def progress_bar(share: float, width: int) -> Content:
    """`share` from 0 to 1."""
    return _bar(min(max(share, 0.0), 1.0), width, "$accent")


def _bar(share: float, width: int, style: str) -> Content:
    """Something is at least one cell, and full only when it is."""
    width = max(width, 0)
    full = min(max(round(share * width), 1 if share > 0 else 0), width if share >= 1 else max(width - 1, 0))
    return Content.assemble((G.bar_full * full, style), (G.bar_empty * (width - full), "$text-disabled"))

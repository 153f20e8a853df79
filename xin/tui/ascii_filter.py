"""Frames, bars and signs as ASCII, cell for cell, on their way to the terminal. What models write stays as it is."""

from __future__ import annotations

import unicodedata
from dataclasses import fields

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from xin.tui.glyphs import ASCII, UNICODE, Glyphs

_OTHERS = {
    "…": "~",
    "«": '"',
    "»": '"',
    "≥": ">",
    "≤": "<",
    "≈": "~",
    "°": " ",
    "⏎": "<",
    "↵": "<",
    "▲": "^",
    "▼": "v",
    "◂": "<",
    "◦": "o",
    "▪": "#",
    "▣": "#",
    "⌄": "v",
    "⌃": "^",
    "↑": "^",
    "↓": "v",
    "▎": "|",
}
KEY_NAMES = {"⏎": "enter", "↑": "up", "↓": "down", "←": "left", "→": "right", "␣": "space", "↵": "enter"}


def _table() -> dict[int, str]:
    """Of each drawing character the ASCII one that looks most like it."""
    table = {code: _of_frame(unicodedata.name(chr(code))) for code in range(0x2500, 0x2580)}
    table |= {code: _of_block(unicodedata.name(chr(code))) for code in range(0x2580, 0x25A0)}
    for field in fields(Glyphs):
        usual, plain = getattr(UNICODE, field.name), getattr(ASCII, field.name)
        if len(usual) == len(plain):
            table |= {ord(one): other for one, other in zip(usual, plain, strict=True) if not one.isascii()}
    return table | {ord(one): other for one, other in _OTHERS.items()}


def _of_frame(name: str) -> str:
    straight = name.rpartition(" ")[2]
    if " AND " not in name or "DASH" in name:
        return {"HORIZONTAL": "-", "VERTICAL": "|", "LEFT": "-", "RIGHT": "-", "UP": "|", "DOWN": "|"}.get(
            straight, "+"
        )
    return "+"


def _of_block(name: str) -> str:
    if "SHADE" in name:
        return "-" if "LIGHT" in name else "="
    if "LOWER ONE EIGHTH" in name or "LOWER ONE QUARTER" in name:
        return "_"
    if "UPPER ONE EIGHTH" in name:
        return "-"
    return "|" if "LEFT" in name or "RIGHT" in name else "#"


TO_ASCII = _table()


class AsciiFilter(LineFilter):
    """One cell in, one cell out, so that nothing moves."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.text.isascii()
            else Segment(segment.text.translate(TO_ASCII), segment.style, segment.control)
            for segment in segments
        ]

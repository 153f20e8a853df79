"""Text of servers, models and people, made fit for a terminal's cells; and numbers in few of them."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

from xin.tui.glyphs import G

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)")
_ESCAPES_OF_LINES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)")
_CONTROLS_OF_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_JOINERS = re.compile("[\u200d\ufe0e\ufe0f]|(?<=[\u2190-\u2bff\U0001f000-\U0001faff])[\U0001f3fb-\U0001f3ff]")
_LINE_ENDS = re.compile(r"\r\n?|[\n\t\x85\u2028\u2029]")
_UNITS = "BKMGTP"


def clean(text: str) -> str:
    """One line without escape sequences, control bytes and marks that turn the direction; wide glyphs as counted."""
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_ENDS.sub(" ", _ESCAPES.sub("", text))
    return _JOINERS.sub("", _CONTROLS.sub("", text))


def plain(text: str) -> str:
    """Lines, as text fields hold them: their ends are \\n; escape sequences and control bytes, which would act, go."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS_OF_LINES.sub("", _ESCAPES_OF_LINES.sub("", text))


def fit(text: str, cells: int) -> str:
    """Exactly `cells` wide: padded with spaces, or cut with an ellipsis at the end."""
    if cells <= 0:
        return ""
    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    return set_cell_size(text, cells - 1) + G.ellipsis


def bytes_short(count: int | float) -> str:
    """Binary units, three digits or so: 17.1G, 512M, 830K."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    decimals = 1 if unit >= 3 and value < 99.95 else 0
    return f"{value:.{decimals}f}{_UNITS[unit]}"


def ago(seconds: float) -> str:
    """How long in its largest unit: 12s, 4m, 9h, 3d."""
    seconds = max(seconds, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"

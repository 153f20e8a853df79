"""Text of models, servers and people as a terminal can show it: no control bytes, every glyph as wide as counted."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# Direction marks would turn the rest of a line around, borders included.
_DIRECTIONS = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
# Terminals disagree on the width of joined and varied emoji; its parts are as wide everywhere.
_JOINS = re.compile("(?<=[\u2190-\u2bff\U0001f000-\U0001faff\ufe0f])\u200d|[\ufe0e\ufe0f]")
_TONES = re.compile("(?<=[\u2190-\u2bff\U0001f000-\U0001faff])[\U0001f3fb-\U0001f3ff]")
_LINE_ENDS = re.compile(r"\r\n|\r|\u2028|\u2029|\x85")


def visible(text: str) -> str:
    """For the eye only: what is copied or sent is the text itself."""
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_ENDS.sub("\n", text)
    text = _CONTROLS.sub("�", text)
    if text.isascii():
        return text
    return _TONES.sub("", _JOINS.sub("", _DIRECTIONS.sub("", text)))

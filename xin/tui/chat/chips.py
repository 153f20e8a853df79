"""Chips: a few words in the prompt that stand for thousands of pasted lines or for a picture until they are sent."""

from __future__ import annotations

import re

from xin.tui.chat.picture import Picture
from xin.tui.text import bytes_short, clean, fit

FOLD_LINES = 200
FOLD_CHARACTERS = 20_000
NAME_CELLS = 32
_CHIP = re.compile(r"\[pasted [\d,]+ (?:lines|characters) #(\d+)\]")
_IMAGE = re.compile(r"[ ]?\[image [^\[\]\n]* #(\d+)\]")


class Chips:
    """The pastes and pictures of one prompt, by number."""

    def __init__(self) -> None:
        self._pastes: dict[int, str] = {}
        self._pictures: dict[int, Picture] = {}

    def fold(self, text: str) -> str | None:
        """The chip that stands for `text`; None when it is short enough to stand for itself."""
        lines = text.count("\n") + 1
        if lines <= FOLD_LINES and len(text) <= FOLD_CHARACTERS:
            return None
        number = self._next()
        self._pastes[number] = text
        size = f"{lines:,} lines" if lines > 1 else f"{len(text):,} characters"
        return f"[pasted {size} #{number}]"

    def attach(self, picture: Picture) -> str:
        """The chip that stands for it."""
        number = self._next()
        self._pictures[number] = picture
        name = clean(picture.name).replace("[", "(").replace("]", ")")
        return f"[image {fit(name, NAME_CELLS).rstrip()} {bytes_short(picture.size_bytes)} #{number}]"

    def open_pastes(self, text: str) -> str:
        """`text` with every paste in place of its chip."""
        return _CHIP.sub(lambda chip: self._pastes.get(int(chip[1]), chip[0]), text)

    def unfold(self, text: str) -> str:
        """What is sent as text: pastes in place of their chips, and no chips of pictures."""
        plain = _IMAGE.sub(lambda chip: "" if int(chip[1]) in self._pictures else chip[0], text)
        return self.open_pastes(plain)

    def pictures(self, text: str) -> list[Picture]:
        """Those whose chips are in it, in their order."""
        numbers = [int(chip[1]) for chip in _IMAGE.finditer(text)]
        return [self._pictures[number] for number in numbers if number in self._pictures]

    def in_text(self, text: str) -> bool:
        """Is there a paste in it?"""
        return any(int(chip[1]) in self._pastes for chip in _CHIP.finditer(text))

    def before(self, text: str) -> int:
        """How many characters a chip at the very end of `text` has; 0 when there is none."""
        for pattern, known in ((_CHIP, self._pastes), (_IMAGE, self._pictures)):
            for chip in pattern.finditer(text):
                if chip.end() == len(text) and int(chip[1]) in known:
                    return len(chip[0].lstrip())
        return 0

    def _next(self) -> int:
        return len(self._pastes) + len(self._pictures) + 1

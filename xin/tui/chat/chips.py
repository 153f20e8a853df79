"""Long pastes as chips: a few words stand in the prompt for thousands of lines until they are sent or opened."""

from __future__ import annotations

import re

FOLD_LINES = 200
FOLD_CHARACTERS = 20_000
_CHIP = re.compile(r"\[pasted [\d,]+ (?:lines|characters) #(\d+)\]")


class Chips:
    """The pastes of one prompt, by number."""

    def __init__(self) -> None:
        self._pastes: dict[int, str] = {}

    def fold(self, text: str) -> str | None:
        """The chip that stands for `text`; None when it is short enough to stand for itself."""
        lines = text.count("\n") + 1
        if lines <= FOLD_LINES and len(text) <= FOLD_CHARACTERS:
            return None
        number = len(self._pastes) + 1
        self._pastes[number] = text
        size = f"{lines:,} lines" if lines > 1 else f"{len(text):,} characters"
        return f"[pasted {size} #{number}]"

    def unfold(self, text: str) -> str:
        """`text` with every chip replaced by what it stands for."""
        return _CHIP.sub(lambda chip: self._pastes.get(int(chip[1]), chip[0]), text)

    def in_text(self, text: str) -> bool:
        return any(int(chip[1]) in self._pastes for chip in _CHIP.finditer(text))

    def before(self, text: str) -> int:
        """How many characters a chip at the very end of `text` has; 0 when there is none."""
        for chip in _CHIP.finditer(text):
            if chip.end() == len(text) and int(chip[1]) in self._pastes:
                return len(chip[0])
        return 0

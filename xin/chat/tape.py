"""Tape: text that comes in parts, for parsers that are written as if it were all there.

A parser is a generator: it yields where it needs more text, and goes on with `yield from`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]


class Tape:
    """`held` is what has come and is not taken yet."""

    __slots__ = ("ended", "held")

    def __init__(self) -> None:
        self.held = ""
        self.ended = False

    def more(self) -> Reading[bool]:
        """Wait for text; False at the end of it."""
        if self.ended:
            return False
        yield
        return True

    def take(self, size: int) -> str:
        taken, self.held = self.held[:size], self.held[size:]
        return taken

    def space(self) -> Reading[str]:
        """White space up to what follows it, which then is in `held`, or up to the end."""
        taken = ""
        while True:
            taken += self.take(len(self.held) - len(self.held.lstrip()))
            if self.held or not (yield from self.more()):
                return taken

    def follows(self, mark: str) -> Reading[bool]:
        """Whether `mark` comes next; takes nothing."""
        while len(self.held) < len(mark) and mark.startswith(self.held):
            if not (yield from self.more()):
                return False
        return self.held.startswith(mark)

    def until(self, marks: Sequence[str], out: Callable[[str], None]) -> Reading[str]:
        """Text up to the first of `marks`, to `out` as soon as it is sure; the mark, taken, or "" at the end of all."""
        while True:
            found = [(at, mark) for mark in marks if (at := self.held.find(mark)) >= 0]
            if found:
                at, mark = min(found)
                out(self.take(at))
                return self.take(len(mark))
            out(self.take(len(self.held) - max((overlap(self.held, mark) for mark in marks), default=0)))
            if not (yield from self.more()):
                out(self.take(len(self.held)))
                return ""

    def value(self, out: Callable[[str], None]) -> Reading[bool]:
        """One JSON value, which comes next, to `out` as it comes; False when the text ends inside it."""
        if not self.held and not (yield from self.more()):
            return False
        if self.held[:1] not in ("{", "[", '"'):
            return (yield from self._scalar(out))
        depth, in_string, escaped = 0, False, False
        while True:
            for i, char in enumerate(self.held):
                if in_string:
                    in_string = escaped or char != '"'
                    escaped = char == "\\" and not escaped
                elif char == '"':
                    in_string = True
                elif char in "{[":
                    depth += 1
                elif char in "}]":
                    depth -= 1
                if not depth and not in_string:
                    out(self.take(i + 1))
                    return True
            out(self.take(len(self.held)))
            if not (yield from self.more()):
                return False

    def _scalar(self, out: Callable[[str], None]) -> Reading[bool]:
        some = False
        while True:
            for i, char in enumerate(self.held):
                if char in ",}]" or char.isspace():
                    out(self.take(i))
                    return some or i > 0
            some = some or bool(self.held)
            out(self.take(len(self.held)))
            if not (yield from self.more()):
                return False


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark` and is not all of it."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-size:]):
            return size
    return 0

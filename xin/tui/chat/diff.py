"""Two answers word by word: what only one has is underlined, what both have is dimmed."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from textual.content import Content

from xin.tui.text import clean

OWN_STYLES = ("underline $text-error", "underline $text-success")
EQUAL_STYLE = "$foreground-muted"
MAX_WORDS = 6_000  # of both together; of longer ones the lines are compared first, which is quick
# A word with the white space after it; each CJK character is one.
_WORD = re.compile(r"(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]+|(?<=\A)\s|(?<=\n)\s)\s*|\s+")
_SPACE = re.compile(r"(\s+)")
_CODE = re.compile(r"^ {0,3}(```+|~~~+)[^\n]*\n(.*?)^ {0,3}\1[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Diff:
    """`equal` is the part (0 to 1) of both answers' letters whose words stand in both, in order."""

    left: Content
    right: Content
    equal: float
    code_differs: bool
    has_code: bool

    def header(self, left_tokens: int = 0, right_tokens: int = 0) -> str:
        """64 % equal · 128 vs 97 tok · code blocks differ"""
        parts = [f"{percent(self.equal)} % equal"]
        if left_tokens or right_tokens:
            parts.append(f"{left_tokens:,} vs {right_tokens:,} tok")
        if self.has_code:
            parts.append("code blocks differ" if self.code_differs else "code blocks equal")
        return " · ".join(parts)


def word_diff(left: str, right: str) -> Diff:
    """Line ends count as line ends, whichever they are. Half a second of work for long texts: use a thread."""
    left, right = _plain(left), _plain(right)
    ours, theirs = _WORD.findall(left), _WORD.findall(right)
    blocks = _blocks(ours, theirs)
    codes = [[code for _, code in _CODE.findall(text)] for text in (left, right)]
    shared = sum(_weight(ours[a : a + size]) for a, _, size in blocks)
    total = _weight(ours) + _weight(theirs)
    return Diff(
        _painted(ours, [(a, size) for a, _, size in blocks], OWN_STYLES[0]),
        _painted(theirs, [(b, size) for _, b, size in blocks], OWN_STYLES[1]),
        2 * shared / total if total else 1.0,
        code_differs=codes[0] != codes[1],
        has_code=bool(codes[0] or codes[1]),
    )


def percent(equal: float) -> int:
    """Whole percent; 100 only when all is equal, 0 only when nothing is."""
    if equal in (0.0, 1.0):
        return round(equal * 100)
    return min(max(round(equal * 100), 1), 99)


def _blocks(ours: list[str], theirs: list[str]) -> list[tuple[int, int, int]]:
    """(place in ours, in theirs, size) of runs that are in both, in order; ends with an empty one."""
    if len(ours) + len(theirs) <= MAX_WORDS:
        return _same([word.strip() for word in ours], [word.strip() for word in theirs])
    our_lines, their_lines = _lines(ours), _lines(theirs)
    blocks: list[tuple[int, int, int]] = []
    a = b = 0
    for i, j, size in _same([line for _, line in our_lines[:-1]], [line for _, line in their_lines[:-1]]):
        start_a, start_b = our_lines[i][0], their_lines[j][0]
        if start_a - a + start_b - b <= MAX_WORDS:
            between = _same(ours[a:start_a], theirs[b:start_b])
            blocks += [(a + x, b + y, count) for x, y, count in between if count]
        a, b = our_lines[i + size][0] if size else start_a, their_lines[j + size][0] if size else start_b
        blocks.append((start_a, start_b, a - start_a))
    return blocks


def _same(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> list[tuple[int, int, int]]:
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    return [(block.a, block.b, block.size) for block in matcher.get_matching_blocks()]


def _lines(words: list[str]) -> list[tuple[int, tuple[str, ...]]]:
    """(place of the first word, its words) of each line; at the end an empty one."""
    ends = [at + 1 for at, word in enumerate(words) if "\n" in word]
    starts = [0, *ends]
    found = [
        (start, tuple(words[start:end])) for start, end in zip(starts, [*ends, len(words)], strict=True) if end > start
    ]
    return [*found, (len(words), ())]


def _painted(words: list[str], equal: list[tuple[int, int]], style: str) -> Content:
    """Runs of words in one style each; white space is never underlined."""
    parts: list[tuple[str, str]] = []
    at = 0
    for start, size in equal:
        own = _SPACE.split("".join(words[at:start]))
        parts += [(text, "" if text.isspace() else style) for text in own if text]
        at = start + size
        if size:
            parts.append(("".join(words[start:at]), EQUAL_STYLE))
    return Content.assemble(*parts)


def _weight(words: list[str]) -> int:
    return sum(len(word.strip()) for word in words)


def _plain(text: str) -> str:
    """Without what could steer a terminal; lines stay lines."""
    return "\n".join(clean(line) for line in re.split(r"\r\n?|\n", text))

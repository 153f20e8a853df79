"""Log lines of all instances of all nodes: merged by time, filtered, counted. Knows nothing of how they look."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from xin.protocol.node import LogLine
from xin.tui.store import Target
from xin.tui.text import clean

MOST_LINES = 200_000
DROPPED_AT_ONCE = 20_000
LEVELS = ("debug", "info", "warning", "error")
TRACEBACK = "Traceback (most recent call last)"
_RANK = {level: rank for rank, level in enumerate(LEVELS)}
_LEVEL_WORD = re.compile(r"^(DEBUG|INFO|WARN(?:ING)?|ERROR)[: ]+")  # stands in a column of its own
_at = attrgetter("at")


@dataclass(slots=True)
class Fold:
    """A traceback. Closed, its first line stands for `count` more."""

    source: str
    count: int = 0
    open: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line, fit for a terminal. `node` is the node's name; `source` says who spoke: worker, node, pip …

    `fold`: the traceback that it begins, or in which it stands (`inside`).
    """

    at: float
    level: str
    target: Target
    node: str
    source: str
    message: str
    fold: Fold | None = field(default=None, compare=False)
    inside: bool = False

    @property
    def words(self) -> str:
        """What filters and searches look in."""
        return f"{self.node} {self.target.uid} {self.level} {self.message}"


def line_of(target: Target, node: str, line: LogLine) -> Line:
    level = line.level if line.level in _RANK else "info"
    message = clean(line.message)
    said = _LEVEL_WORD.match(message)
    if said and said[1].lower().startswith(level[:4]):
        message = message[said.end() :]
    return Line(line.at, level, target, clean(node), clean(line.source), message)


class Folding:
    """Finds the tracebacks in the lines of one log, given in order."""

    def __init__(self) -> None:
        self._fold: Fold | None = None

    def take(self, line: Line) -> Line:
        fold = self._fold
        if TRACEBACK in line.message:
            self._fold = Fold(line.source)
            return replace(line, fold=self._fold)
        if fold is None or line.source != fold.source:
            return line
        if line.message.startswith(" "):
            fold.count += 1
            return replace(line, fold=fold, inside=True)
        self._fold = None
        return line


class LogBook:
    """`lines` are all there are, `shown` those that pass; both by time. `version` grows when `shown` changes otherwise
    than at its end."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.shown: list[Line] = []
        self.version = 0
        self.level = "info"
        self.sources: frozenset[Target] | None = None
        self.pattern: re.Pattern[str] | None = None
        self.counts: Counter[Target] = Counter()
        self.errors: Counter[Target] = Counter()

    def add(self, batch: Iterable[Line]) -> None:
        """Put them where their time says; only what comes after the earliest of them is looked at again."""
        new = sorted(batch, key=_at)
        if not new:
            return
        for line in new:
            self.counts[line.target] += 1
            self.errors[line.target] += line.level == "error"
        if self.lines and new[0].at < self.lines[-1].at:
            self._insert(new)
        else:
            self.lines += new
            self.shown += filter(self.passes, new)
        if len(self.lines) > MOST_LINES:
            self._drop_oldest()

    def refilter(self) -> None:
        """After `level` (the lowest shown), `sources` (None: all) or `pattern` (None: all) were set."""
        self.shown = [line for line in self.lines if self.passes(line)]
        self.version += 1

    def toggle(self, fold: Fold) -> None:
        """Open or close it."""
        fold.open = not fold.open
        self.refilter()

    def whole(self) -> list[Line]:
        """What is shown, with all that is folded."""
        return [line for line in self.lines if self._wanted(line)]

    def passes(self, line: Line) -> bool:
        """A filter looks into tracebacks too."""
        folded = line.inside and line.fold is not None and not line.fold.open and self.pattern is None
        return not folded and self._wanted(line)

    def _wanted(self, line: Line) -> bool:
        return (
            _RANK[line.level] >= _RANK[self.level]
            and (self.sources is None or line.target in self.sources)
            and (self.pattern is None or self.pattern.search(line.words) is not None)
        )

    def clear(self) -> None:
        self.lines, self.shown = [], []
        self.counts.clear()
        self.errors.clear()
        self.version += 1

    def rate(self, now: float, seconds: float = 5.0) -> float:
        """Lines a second of late."""
        return (len(self.lines) - bisect_left(self.lines, now - seconds, key=_at)) / seconds

    def find(self, pattern: re.Pattern[str], start: int, step: int) -> int | None:
        """The index in `shown` of the next line after `start` with it, going round."""
        return self._next(start, step, lambda line: pattern.search(line.words) is not None)

    def next_error(self, start: int, step: int) -> int | None:
        return self._next(start, step, lambda line: line.level == "error")

    def _next(self, start: int, step: int, wanted: object) -> int | None:
        count = len(self.shown)
        for distance in range(1, count + 1):
            index = (start + step * distance) % count
            if wanted(self.shown[index]):  # type: ignore[operator]
                return index
        return None

    def _insert(self, new: Sequence[Line]) -> None:
        first = new[0].at
        start = bisect_left(self.lines, first, key=_at)
        tail = sorted([*self.lines[start:], *new], key=_at)
        self.lines[start:] = tail
        self.shown[bisect_left(self.shown, first, key=_at) :] = filter(self.passes, tail)
        self.version += 1

    def _drop_oldest(self) -> None:
        dropped = self.lines[:DROPPED_AT_ONCE]
        for line in dropped:
            self.counts[line.target] -= 1
            self.errors[line.target] -= line.level == "error"
        del self.lines[:DROPPED_AT_ONCE]
        first = self.lines[0].at if self.lines else 0.0
        del self.shown[: bisect_left(self.shown, first, key=_at)]
        self.version += 1


def compile_pattern(text: str) -> re.Pattern[str] | None:
    """A regular expression; capitals count only when there are some. None for an empty one. Raises re.error."""
    if not text:
        return None
    return re.compile(text, 0 if any(char.isupper() for char in re.sub(r"\\.", "", text)) else re.IGNORECASE)

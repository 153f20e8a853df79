"""What a step of n tokens costs, learnt from the steps themselves, and how long a draft pays at that price."""

from __future__ import annotations

from bisect import bisect_left

DRAFTS = (1, 2, 3, 5, 7, 11, 15, 23, 31)
LEAST_GAIN = 1.05  # expected tokens per second with a draft over without
_SMOOTHING = 0.3
_FORGET = 0.998  # a price not seen for long is doubted, so that it is tried again
_CHEAP = 0.25  # price of one more token over that of a step, before any was seen: low, so that it is tried


class StepCost:
    """Seconds by number of tokens in the step."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._sizes: list[int] = []

    def record(self, tokens: int, seconds: float) -> None:
        known = self._seconds.get(tokens)
        for size in self._sizes:
            if size > 1 and size != tokens:
                self._seconds[size] *= _FORGET
        self._seconds[tokens] = seconds if known is None else known + _SMOOTHING * (seconds - known)
        if known is None:
            self._sizes = sorted(self._seconds)

    def of(self, tokens: int) -> float:
        """Measured, or between what was measured on either side; 0 before anything was."""
        if not self._sizes:
            return 0.0
        if (exact := self._seconds.get(tokens)) is not None:
            return exact
        at = bisect_left(self._sizes, tokens)
        if at == 0:
            return self._seconds[self._sizes[0]]
        below = self._sizes[at - 1]
        price = self._seconds[below]
        if at == len(self._sizes):
            each = price * _CHEAP if below == 1 else price / below / 2
            return price + each * (tokens - below)
        above = self._sizes[at]
        return price + (self._seconds[above] - price) * (tokens - below) / (above - below)

    def draft(self, rows: int, most: int, accuracy: float) -> int:
        """How many tokens to draft in a step that has `rows` anyway, for the most tokens per second; 0: none pay."""
        plain = self.of(rows)
        best, best_gain = 0, LEAST_GAIN
        if plain <= 0:
            return 0
        expected, drafted = 0.0, 0
        for size in DRAFTS:
            if size > most:
                break
            while drafted < size:
                drafted += 1
                expected += accuracy**drafted
            gain = (rows + expected) / self.of(rows + size) * plain / rows
            if gain > best_gain:
                best, best_gain = size, gain
        return best

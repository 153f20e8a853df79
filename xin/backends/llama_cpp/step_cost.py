"""What a step costs, learnt from the steps themselves, and how long a draft pays at that price."""

from __future__ import annotations

DRAFTS = (1, 2, 3, 5, 7, 11, 15, 23, 31)
LEAST_GAIN = 1.08  # expected tokens per second with a draft over without
_SMOOTHING = 0.2
_FORGET = 0.999  # a price that is too high to draft at is doubted, a little with every step
_FIRST_PRICE = 0.25  # of one more token over that of a lone one's step, before any was seen: low, so that it is tried
_HIGHEST_PRICE = 1.2  # a step that took longer was held up by something else


class StepCost:
    """Seconds of a step with so many streams, and of each drafted token that rides in it."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._each: float | None = None

    def record(self, streams: int, drafted: int, seconds: float) -> None:
        plain = self._plain.get(streams)
        if not drafted:
            self._plain[streams] = seconds if plain is None else plain + _SMOOTHING * (seconds - plain)
            if self._each is not None:
                self._each *= _FORGET
        elif plain is not None:
            one = self._lone
            each = min(max((seconds - plain) / drafted, 0.01 * one), _HIGHEST_PRICE * one)
            self._each = each if self._each is None else self._each + _SMOOTHING * (each - self._each)

    def of(self, streams: int, drafted: int) -> float:
        """0 before a step with so many streams was seen."""
        plain = self._plain.get(streams, 0.0)
        each = _FIRST_PRICE * self._lone if self._each is None else self._each
        return plain + each * drafted if plain else 0.0

    def draft(self, streams: int, already: int, most: int, accuracy: float) -> int:
        """How many tokens to draft for one of the streams, for the most tokens per second; 0: none pay.

        `already`: drafted for the others in the same step. `accuracy`: how likely each guess is right.
        """
        plain = self.of(streams, already)
        best, best_gain = 0, LEAST_GAIN
        expected, drafted = 0.0, 0
        for size in DRAFTS:
            if size > most or not plain:
                break
            while drafted < size:
                drafted += 1
                expected += accuracy**drafted
            gain = (streams + expected) / self.of(streams, already + size) * plain / streams
            if gain > best_gain:
                best, best_gain = size, gain
        return best

    @property
    def _lone(self) -> float:
        """Of one stream's step, or what comes nearest to it."""
        return self._plain[min(self._plain)] if self._plain else 0.0

"""Requests that come together: gathered for a moment, read in large steps, and answered together."""

from __future__ import annotations

import time
from collections.abc import Sequence as Many

from xin.backends.llama_cpp.sequence import Sequence

TOGETHER_S = 0.1  # who arrives within this time after another belongs to its burst …
BURST_S = 0.5  # … unless that began so long ago
GATHER_QUIET_S = 0.008  # the first step of an idle engine waits until nobody has come for so long …
GATHER_SHARE = 0.02  # … and at most for this share of the time that the prompts take to read
GATHER_NAP_S = 0.0005  # looking for newcomers in between
ALIKE = 4  # nobody of a burst waits for one with more than this many times as much to read
SHORT = 16  # nor do differences between prompts shorter than this count


class Bursts:
    """Numbers requests as they arrive. Those of one burst have one number.

    Several at once come one after another: where reading the first has begun, the way of the last may take longer than
    TOGETHER_S, but the next one is never far behind.
    """

    def __init__(self) -> None:
        self._number = 0
        self._began = self._latest = float("-inf")

    def of(self, arrived_at: float) -> int:
        """Seconds on the clock of Request.arrived_at, in their order."""
        if arrived_at - self._latest >= TOGETHER_S or arrived_at - self._began >= BURST_S:
            self._number += 1
            self._began = arrived_at
        self._latest = arrived_at
        return self._number


def gathers(waiting: Many[Sequence], n_parallel: int, seconds_per_token: float) -> bool:
    """Does an idle engine wait for the rest of a burst? If so it has napped; they come a millisecond or so apart."""
    if not 0 < len(waiting) < n_parallel:
        return False
    first, last = waiting[0].arrived_at, waiting[-1].arrived_at
    most = GATHER_SHARE * seconds_per_token * sum(s.pending for s in waiting)
    left = min(last + GATHER_QUIET_S, first + most) - time.monotonic()
    if left > 0:
        time.sleep(min(left, GATHER_NAP_S))
    return left > 0


def waits(sequence: Sequence, prefilling: Many[Sequence], running: Many[Sequence], streams: int) -> bool:
    """Does it hold back its last prompt token until those who came with it have read theirs too?

    A burst of alike prompts on an idle engine is read in large steps and then answered together: that is faster for
    the last of them and for all together than small steps between tokens. It never waits for a much longer prompt, nor
    while others stream.
    """
    if streams or sequence.announced:
        return False
    reach = _reach(sequence)
    followers = [s for s in running if s.leader is sequence]
    if any(s.shared >= len(sequence.tokens) for s in followers):
        return False
    return any(
        other is not sequence
        and not other.announced
        and other.pending - other.fed > 1
        and other.burst == sequence.burst
        and other.unread <= reach
        for other in [*prefilling, *followers]
    )


def rests(decoding: Many[Sequence], prefilling: Many[Sequence]) -> bool:
    """Do all streams rest until those who came with them are read, too?

    Who was a moment ahead of its burst has said its first token before the others were there. Going on at once it would
    make all of them be read in small steps between its tokens; resting, it goes on with them.
    """
    return all(
        stream.said <= 1 and any(other.burst == stream.burst and other.unread <= _reach(stream) for other in prefilling)
        for stream in decoding
    )


def _reach(sequence: Sequence) -> int:
    """How much the others may have to read for it to wait for them."""
    return ALIKE * max(sequence.unread, SHORT)

"""Speculative decoding without a second model: drafts from prompt lookup, as long as they pay, beside every stream."""

from __future__ import annotations

from collections.abc import Sequence as Many

from xin.backends.llama_cpp.lookup import Lookup
from xin.backends.llama_cpp.sequence import Sequence
from xin.backends.llama_cpp.step_cost import StepCost

LONGEST_STEP_S = 0.15  # no draft makes a reader wait longer than this for the next words


class Drafter:
    """Sets `draft` of the sequences that decode. A draft changes what a step costs, never what is chosen.

    A seeded request is left alone: rows that are computed together differ in their last bits from rows computed alone,
    and whoever names a seed wants the same answer again.
    """

    def __init__(self, enabled: bool, window: int, max_rows: int) -> None:
        self._enabled = enabled
        self._window = window
        self._max_rows = max_rows
        self._cost = StepCost()
        self._paused = False
        self.drafted = self.accepted = 0

    def record(self, seconds: float, streams: int, drafted: int) -> None:
        """A step that read no prompt took so long."""
        self._cost.record(streams, drafted, seconds)

    def pause(self) -> None:
        """No drafts in the next step: there was no room for them."""
        self._paused = True

    def draft(self, sequences: Many[Sequence], cells: int) -> None:
        """`cells`: how many more tokens the context holds."""
        streams, drafted = len(sequences), 0
        if self._paused or not self._enabled:
            self._paused = False
            return
        room = min(cells, self._max_rows) - streams
        for sequence in sequences:
            sampling = sequence.request.sampling
            if sampling.seed is not None and sampling.temperature > 0:
                continue
            if sequence.lookup is None:
                sequence.lookup = Lookup(sequence.tokens)
            sequence.lookup.follow()
            most = min(room - drafted, sequence.left - 1, self._window - len(sequence.tokens))
            guess = sequence.lookup.guess(most)
            size = self._cost.draft(streams, drafted, len(guess), sequence.lookup.accuracy) if guess else 0
            longest = max(LONGEST_STEP_S, 2 * self._cost.of(streams, 0))
            while size and self._cost.of(streams, drafted + size) > longest:
                size //= 2
            sequence.draft = guess[:size]
            drafted += size
        self.drafted += drafted

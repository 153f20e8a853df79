"""Speculative decoding: drafts from prompt lookup, else from a draft model, as long as they pay."""

from __future__ import annotations

import time
from collections.abc import Sequence as Many
from itertools import takewhile

from xin.backends.llama_cpp.draft_model import DraftModel
from xin.backends.llama_cpp.lookup import Lookup
from xin.backends.llama_cpp.sequence import Sequence
from xin.backends.llama_cpp.step_cost import StepCost

LONGEST_STEP_S = 0.15  # no draft makes a reader wait longer than this for the next words


class Drafter:
    """Sets `draft` of the sequences that decode. A draft changes what a step costs, never what is chosen.

    A seeded request is left alone: rows that are computed together differ in their last bits from rows computed alone,
    and whoever names a seed wants the same answer again.
    """

    def __init__(self, enabled: bool, window: int, max_rows: int, model: DraftModel | None = None) -> None:
        self._enabled = enabled
        self.model = model
        self._model_cost = StepCost()  # of a step and of the small model's guessing together
        self._spent = 0.0
        self._by_model = 0  # tokens that it drafted for the step
        self._window = window
        self._max_rows = max_rows
        self._cost = StepCost()
        self._paused = False
        self.drafted = self.accepted = 0

    def record(self, seconds: float, streams: int, drafted: int) -> None:
        """A step that read no prompt took so long."""
        if not self._by_model:
            self._cost.record(streams, drafted, seconds)
        if self.model is not None and self._by_model == drafted:
            self._model_cost.record(streams, drafted, seconds + self._spent if drafted else seconds)

    def pause(self) -> None:
        """No drafts in the next step: there was no room for them."""
        self._paused = True

    def draft(self, sequences: Many[Sequence], cells: int) -> None:
        """`cells`: how many more tokens the context holds."""
        streams, drafted = len(sequences), 0
        self._by_model = 0
        if self._paused or not (self._enabled or self.model):
            self._paused = False
            return
        asked: list[tuple[Sequence, int]] = []
        room = min(cells, self._max_rows) - streams
        for sequence in sequences:
            sampling = sequence.request.sampling
            if sampling.seed is not None and sampling.temperature > 0:
                continue
            most = min(room - drafted, sequence.left - 1, self._window - len(sequence.tokens))
            if self._enabled and (guess := self._looked_up(sequence, most, streams, drafted)):
                sequence.draft = guess
                drafted += len(guess)
            elif self.model is not None and (size := self._worth(self.model, sequence, most, streams, drafted)):
                asked.append((sequence, size))
                drafted += size
        if self.model is not None and asked:
            drafted -= sum(size for _, size in asked)
            began = time.perf_counter()
            self.model.draft(asked)
            self._spent = time.perf_counter() - began
            self._by_model = sum(len(sequence.draft) for sequence, _ in asked)
            drafted += self._by_model
        self.drafted += drafted

    def forget(self, slot: int) -> None:
        """The sequence in it has left."""
        if self.model is not None:
            self.model.forget(slot)

    def _looked_up(self, sequence: Sequence, most: int, streams: int, drafted: int) -> list[int]:
        if sequence.lookup is None:
            sequence.lookup = Lookup(sequence.tokens)
        sequence.lookup.follow()
        guess = sequence.lookup.guess(most)
        if sequence.images:
            guess = [*takewhile(lambda token: token >= 0, guess)]
        size = self._cost.draft(streams, drafted, len(guess), sequence.lookup.accuracy) if guess else 0
        return guess[: _short_enough(self._cost, streams, drafted, size)]

    def _worth(self, model: DraftModel, sequence: Sequence, most: int, streams: int, drafted: int) -> int:
        """How many tokens of the small model pay."""
        most = min(most, model.room(sequence))
        size = self._model_cost.draft(streams, drafted, most, model.accuracy(sequence)) if most > 0 else 0
        return _short_enough(self._model_cost, streams, drafted, size)


def _short_enough(cost: StepCost, streams: int, drafted: int, size: int) -> int:
    longest = max(LONGEST_STEP_S, 2 * cost.of(streams, 0))
    while size and cost.of(streams, drafted + size) > longest:
        size //= 2
    return size

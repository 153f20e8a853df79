"""Long prompts beside running streams: a second context reads them, and the streams get on between its layers.

A step that mixes prompt tokens with those of streams must be short, or the streams wait; but on CPUs a prompt token
costs up to twice as much in a short step, whose attention goes row by row. llama.cpp asks its caller after every few
operations whether to go on. There the streams' steps run, in their own context: the prompt is read in steps as large
as it would be alone, and nobody waits for them to end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import Any

import llama_cpp as lib

from xin.backends.llama_cpp.batch import Batch
from xin.backends.llama_cpp.context import Context
from xin.backends.llama_cpp.pace import Pace
from xin.backends.llama_cpp.sequence import Sequence

READ_AT_LEAST = 96  # tokens: shorter rests are read in the streams' own steps sooner
MOVED_FOR_ONE = 4  # what is computed already has to move, and so many tokens move for each that is read
QUESTION_S = 0.01  # the streams' turn is looked for about so often
_FIRST_EVERY = 16  # operations between two looks, before any were timed

_INTERRUPTED = 2
log = logging.getLogger("xin.llama_cpp")

Others = Callable[[], None]


class Reader:
    """Reads one sequence at a time for the context `home`, where the streams are.

    `open_context` makes the second context, on first use, or says there is none; without it nothing is ever taken.
    """

    def __init__(
        self, home: Context, pace: Pace, n_batch: int, open_context: Callable[[Any], Context | None] | None
    ) -> None:
        self._home = home
        self._pace = pace
        self._open = open_context
        self._context: Context | None = None
        self._batch = Batch(n_batch)
        self._callback = lib.ggml_backend_sched_eval_callback(self._asked)
        self._every, self._count = _FIRST_EVERY, 0
        self._others: Others = _nobody
        self._due = self._spent = 0.0  # when the others' turn is; what their turns took of this step
        self._error: BaseException | None = None
        self.sequence: Sequence | None = None
        self.done = 0  # tokens of it that are in the second context

    def take(self, running: Many[Sequence]) -> None:
        """The first long prompt of these, when there are streams that its reading would hold up."""
        if self.sequence is not None or not any(s.leader is None and not s.prefilling and s.said > 1 for s in running):
            return
        for sequence in running:
            if sequence.leader is None and sequence.prefilling and self._wants(sequence):
                self._begin(sequence)
                return

    def step(self, others: Callable[[], None]) -> None:
        """A large step of its prompt, as large as alone, and in between as many of the others' as they are due."""
        self._others = others
        count, took = self._read(self._pace.chunk(0, self._batch.capacity))
        self._others = _nobody
        if self._error is not None:
            raise self._error
        if count:
            self._pace.record(took, 0, count)
        if self.sequence is not None and self.done >= len(self.sequence.tokens) - 1:
            self.give_back(self.sequence)

    def give_back(self, sequence: Sequence) -> None:
        """What was read of it goes where the streams are: it is there as if it had been read there."""
        if sequence is not self.sequence or self._context is None:
            return
        self.sequence = None
        sequence.movable = self._home.restore(sequence.slot, self._context.save(0))
        sequence.computed = self.done if sequence.movable else 0

    def drop(self, sequence: Sequence) -> None:
        """Nothing of what was read of it is wanted."""
        if sequence is self.sequence:
            self.sequence = None

    def interrupt(self, request_id: int) -> None:
        """From another thread: the step for this request ends in the middle."""
        sequence, context = self.sequence, self._context
        if sequence is not None and sequence.request.id == request_id and context is not None:
            context.interrupt()

    def set_threads(self, n: int) -> None:
        if self._context is not None:
            self._context.set_threads(n)

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def _wants(self, sequence: Sequence) -> bool:
        short = sequence.pending - 1 < max(READ_AT_LEAST, sequence.computed // MOVED_FOR_ONE)
        if short or sequence.prompt_logprobs is not None or sequence.images or not sequence.movable:
            return False
        if self._context is None and self._open is not None:
            self._context = self._open(self._callback)
            self._open = None
        return self._context is not None and len(sequence.tokens) <= self._context.cells

    def _begin(self, sequence: Sequence) -> None:
        """What is computed of it already is copied."""
        assert self._context is not None
        self.sequence, self.done, self._due = sequence, 0, 0.0
        self._context.clear()
        if sequence.computed and self._context.restore(0, self._home.save(sequence.slot)):
            self.done = sequence.computed

    def _read(self, most: int) -> tuple[int, float]:
        """(how many tokens were read, the seconds that this took without the others'); 0: interrupted, or broken."""
        assert self._context is not None and self.sequence is not None
        tokens = self.sequence.tokens[self.done : min(self.done + most, len(self.sequence.tokens) - 1)]
        self._batch.clear()
        self._batch.extend(tokens, self.done, 0, last=False)
        self._spent, self._count, self._error = 0.0, 0, None
        started = time.perf_counter()
        self._context.go_on()
        result = self._context.decode(self._batch.struct())
        took = time.perf_counter() - started - self._spent
        if result == 0:
            self._every = max(1, int(QUESTION_S / took * self._count)) if self._count else _FIRST_EVERY
            self.done += len(tokens)
            return len(tokens), took
        self._context.cut(0, self.done)
        if result != _INTERRUPTED:
            log.error("llama_decode failed with code %d: no prompts are read between the streams' steps", result)
            self.sequence = None
            self.close()
        return 0, took

    def _asked(self, tensor: Any, before: bool, _: Any) -> bool:
        """llama.cpp's question, for each operation: shall I stop after it to ask again? And there: shall I go on?"""
        if before:
            self._count += 1
            return self._count % self._every == 0
        started = time.perf_counter()
        if started >= self._due and self._error is None:
            try:
                self._others()
            except BaseException as exc:  # border: C cannot pass it on, step() does
                self._error = exc
            ended = time.perf_counter()
            self._spent += ended - started
            self._due = ended + self._pace.pause(ended - started)
        return True


def _nobody() -> None:
    return

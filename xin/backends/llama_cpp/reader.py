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
from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from xin.backends.llama_cpp.batch import Batch
from xin.backends.llama_cpp.context import Context
from xin.backends.llama_cpp.sequence import Sequence

READ_AT_LEAST = 96  # tokens: shorter rests are read in the streams' own steps sooner
MOVED_FOR_ONE = 4  # what is computed already has to move, and so many tokens move for each that is read
QUESTION_S = 0.01  # the streams' turn is looked for about so often
_FIRST_EVERY = 16  # operations between two looks, before any were timed

_INTERRUPTED = 2
log = logging.getLogger("xin.llama_cpp")

Others = Callable[[], float]


class Reader:
    """Reads one sequence at a time. `open_context` makes the second context, on first use, or says there is none."""

    def __init__(self, open_context: Callable[[Any], Context | None], n_batch: int) -> None:
        self._open = open_context
        self._n_batch = n_batch
        self._context: Context | None = None
        self._refused = False
        self._batch = Batch(n_batch)
        self._callback = lib.ggml_backend_sched_eval_callback(self._asked)
        self._every, self._count = _FIRST_EVERY, 0
        self._others: Others = _nobody
        self._due = self._spent = 0.0
        self._error: BaseException | None = None
        self.sequence: Sequence | None = None
        self.done = 0  # tokens of it that are in the second context

    def wants(self, sequence: Sequence) -> bool:
        """Is it long enough, and is there a context that holds it?"""
        short = sequence.pending - 1 < max(READ_AT_LEAST, sequence.computed // MOVED_FOR_ONE)
        if short or sequence.prompt_logprobs is not None or not sequence.movable:
            return False
        if self._context is None and not self._refused:
            self._context = self._open(self._callback)
            self._refused = self._context is None
        return self._context is not None and len(sequence.tokens) <= self._context.cells

    def begin(self, sequence: Sequence, state: npt.NDArray[np.uint8] | None) -> None:
        """`state`: what is computed of it already, as Context.save() gives it."""
        assert self._context is not None
        self.sequence, self.done = sequence, 0
        self._context.clear()
        if state is not None and self._context.restore(0, state):
            self.done = sequence.computed

    def read(self, most: int, due: float, others: Others) -> tuple[int, float]:
        """The next tokens, at most so many: (how many, the seconds that they took themselves).

        At `due`, a time.perf_counter(), and then whenever it says, `others` is called; it returns when it is due again.
        0 tokens: interrupted; or the context is broken, and the reader takes nothing any more.
        """
        assert self._context is not None and self.sequence is not None
        end = min(self.done + min(most, self._n_batch), len(self.sequence.tokens) - 1)
        tokens = self.sequence.tokens[self.done : end]
        self._batch.clear()
        self._batch.extend(tokens, self.done, 0, last=False)
        self._due, self._others, self._spent, self._count, self._error = due, others, 0.0, 0, None
        started = time.perf_counter()
        self._context.go_on()
        result = self._context.decode(self._batch.struct())
        self._others = _nobody
        took = time.perf_counter() - started - self._spent
        if self._error is not None:
            raise self._error
        if result != 0:
            self._context.cut(0, self.done)
            if result != _INTERRUPTED:
                log.error(
                    "the reader's llama_decode failed with code %d: long prompts are read in the streams' steps", result
                )
                self.sequence, self._refused = None, True
                self.close()
            return 0, took
        self._every = max(1, int(QUESTION_S / took * self._count)) if self._count else _FIRST_EVERY
        self.done += len(tokens)
        return len(tokens), took

    @property
    def through(self) -> bool:
        """All but the last token, whose logits are wanted, is read."""
        return self.sequence is not None and self.done >= len(self.sequence.tokens) - 1

    def end(self) -> npt.NDArray[np.uint8]:
        """What was read, for Context.restore(); the reader is free then."""
        assert self._context is not None
        self.sequence = None
        return self._context.save(0)

    def drop(self, sequence: Sequence) -> None:
        """Nothing of what was read of it is wanted."""
        if sequence is self.sequence:
            self.sequence = None

    def interrupt(self) -> None:
        """From any thread: the reading under way ends."""
        if self._context is not None:
            self._context.interrupt()

    def set_threads(self, n: int) -> None:
        if self._context is not None:
            self._context.set_threads(n)

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def _asked(self, tensor: Any, before: bool, _: Any) -> bool:
        """llama.cpp's question, for each operation: shall I stop after it to ask again? And there: shall I go on?"""
        if before:
            self._count += 1
            return self._count % self._every == 0
        started = time.perf_counter()
        if started >= self._due and self._error is None:
            try:
                self._due = self._others()
            except BaseException as exc:  # border: C cannot pass it on, read() does
                self._error = exc
            self._spent += time.perf_counter() - started
        return True


def _nobody() -> float:
    return float("inf")

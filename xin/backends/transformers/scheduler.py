"""Continuous batching over a model's forward pass: steps alternate between one decode of everything that runs and one
slice of the prompts that wait, sized by time; a request joins and leaves between two steps.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from xin.backends.base import Load, Output, Request
from xin.backends.logprob import token_logprob
from xin.backends.prefix_cache import PrefixCache, common_prefix
from xin.backends.transformers.forward import Forward
from xin.backends.transformers.out_of_memory import is_out_of_memory
from xin.backends.transformers.pace import ALONE_TARGET_S, BURST_TARGET_S, STREAMING_TARGET_S, Pace
from xin.backends.transformers.row_cache import RowCache, RowState
from xin.backends.transformers.sampler import Sampler
from xin.backends.transformers.sequence import Choice, Reading
from xin.backends.transformers.sight import Sight
from xin.backends.transformers.vocabulary import Vocabulary
from xin.errors import OutOfMemory, XinError
from xin.worker.frames import TokenLogprob

KEEP_AT_LEAST = 16  # tokens that are worth parking, or copying from another row
TOGETHER_S = 0.1  # requests that arrive within this time are a burst
GATHER_S = 1.5  # a burst waits for prompts that take no longer …
GATHER_PASSES = 10  # … or no longer than so many decodes
NOTED_AT_ONCE = 256  # tokens of a pass that gives all of its logits


class Scheduler:
    """All generations of one model. Not thread-safe: the step thread owns it."""

    def __init__(
        self,
        forward: Forward,
        vocabulary: Vocabulary,
        cache: PrefixCache,
        *,
        window: int,
        n_parallel: int,
        n_batch: int,
        kv_cells: int,
        cell_bytes: int,
        devices: Sequence[torch.device],
    ) -> None:
        self._forward = forward
        self._vocabulary = vocabulary
        self._cache = cache
        self._window = window
        self._n_parallel = n_parallel
        self._kv_cells = kv_cells
        self._cell_bytes = cell_bytes
        self._pace = Pace(n_batch)
        self._devices = devices
        self._batch = self._new_cache()
        self._running: list[Choice] = []  # the batch's rows, in their order
        self._reading: list[Reading] = []
        self._waiting: deque[Reading] = deque()
        self._arrivals = 0
        self._reads = 0
        self._decoded_last = False

    # -- the contract's verbs

    def submit(self, request: Request) -> None:
        """Choices share the reading of their prompt, as many at a time as may decode together."""
        choices = [self._choice(request, index) for index in range(request.n)]
        if request.prompt_logprobs:
            choices[0].prompt_logprobs = []
        for first in range(0, request.n, self._n_parallel):
            group = choices[first : first + self._n_parallel]
            self._waiting.append(Reading(group, request.tokens, wants_logprobs=request.prompt_logprobs and not first))

    def cancel(self, request_id: int, index: int | None) -> None:
        with torch.inference_mode():  # what it made can only be changed in it
            self._cancel(request_id, index)

    def _cancel(self, request_id: int, index: int | None) -> None:
        def meant(choice: Choice) -> bool:
            return choice.request.id == request_id and index in (None, choice.index)

        for choice in [c for c in self._running if meant(c)]:
            self._leave(choice)
        for reading in [*self._reading, *self._waiting]:
            reading.choices = [c for c in reading.choices if not meant(c)]
        for reading in [r for r in self._reading if not r.choices]:
            self._give_up(reading)
        self._waiting = deque(r for r in self._waiting if r.choices)

    def busy(self) -> bool:
        return bool(self._running or self._reading or self._waiting)

    def load_now(self) -> Load:
        running = {c.request.id for c in self._running} | {r.request.id for r in self._reading}
        return Load(
            running=len(running),
            waiting=len({r.request.id for r in self._waiting} - running),
            kv_used=sum(self._batch.lengths) + sum(r.computed for r in self._reading),
            kv_total=self._kv_cells,
            cached_sequences=len(self._cache),
        )

    def step(self) -> list[Output]:
        with torch.inference_mode():
            return self._step()

    def _step(self) -> list[Output]:
        try:
            self._admit()
            gathers = bool(self._running) and self._gathers()
            reads = bool(self._reading) and (self._decoded_last or not self._running or gathers)
            self._decoded_last = not reads
            if reads:
                return self._read(streaming=bool(self._running) and not gathers)
            return self._decode() if self._running else []
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            message = f"the keys and values do not fit in memory: {exc}"
            return self._fail(OutOfMemory(message, "launch with a smaller --kv-cells", param="kv_cells"))

    def close(self) -> None:
        self._running, self._reading, self._waiting = [], [], deque()
        self._batch = self._new_cache()

    def _new_cache(self) -> RowCache:
        return RowCache(self._devices)

    # -- admission

    def _choice(self, request: Request, index: int) -> Choice:
        self._arrivals += 1
        return Choice(
            request=request,
            index=index,
            tokens=list(request.tokens),
            sampler=Sampler(request.sampling, self._vocabulary, index),
            left=request.max_tokens,
            arrival=self._arrivals,
            matcher=request.compiled.matcher() if request.compiled is not None else None,
        )

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0]):
            reading = self._waiting.popleft()
            self._find_prefix(reading)
            self._reading.append(reading)

    def _fits(self, reading: Reading) -> bool:
        """May it start? A running choice is never pushed out for a newcomer."""
        rows = len(self._running) + sum(len(r.choices) for r in self._reading)
        if not rows:
            return True
        rows += len(reading.choices)
        longest = max(len(r.tokens) for r in [*self._reading, reading])
        width = max(self._batch.width, longest + min(reading.choices[0].left, 64))
        return rows <= self._n_parallel and rows * width <= self._kv_cells

    def _find_prefix(self, reading: Reading) -> None:
        """Begin with the longest prefix that is parked or that a running row holds."""
        reading.computed = reading.cached = 0
        reading.cache, reading.row, reading.notes = None, 0, []
        if reading.wants_logprobs:  # whoever wants the prompt's logits must compute it
            return
        parked, shared, tokens = self._cache.best(reading.tokens, whole_only=False)
        state: RowState | None = None
        row, here = self._best_row(reading.tokens)
        if reading.sight is not None:  # all of its images or none of them
            shared, here = _outside(reading.sight, tokens, shared), _outside(reading.sight, reading.tokens, here)
        if here >= max(shared, KEEP_AT_LEAST):
            shared, state = here, self._batch.state(row, here)
        elif parked is not None and len(tokens) + reading.choices[0].left <= self._window:
            state = parked.state.first(shared)
            reading.tokens = tokens
        if state is not None:
            reading.cache = self._new_cache()
            reading.cache.add(state)
            reading.computed = reading.cached = shared

    def _gathers(self) -> bool:
        """Do those that came together with a prompt wait for it, with their first token said?

        A burst of short prompts is read through and then decoded together: faster for the last and for all together.
        """
        if not all(choice.left >= choice.request.max_tokens - 1 for choice in self._running):
            return False
        first = min(choice.request.arrived_at for choice in self._running)
        late = [r for r in self._reading if r.request.arrived_at - first < TOGETHER_S]
        longest = max(GATHER_S, GATHER_PASSES * self._pace.pass_seconds)
        return bool(late) and self._pace.seconds(sum(r.pending for r in late)) < longest

    def _best_row(self, tokens: list[int]) -> tuple[int, int]:
        wanted = np.array(tokens, dtype=np.int32)
        best = (0, 0)
        for row, choice in enumerate(self._running):
            have = np.array(choice.tokens[: self._batch.lengths[row]], dtype=np.int32)
            shared = min(common_prefix(have, wanted), len(wanted) - 1)
            if shared > best[1]:
                best = (row, shared)
        return best

    # -- one decode

    def _decode(self) -> list[Output]:
        if room := self._make_room():
            return room
        started = time.perf_counter()
        logits = self._forward.run(self._batch, [[choice.tokens[-1]] for choice in self._running])
        self._pace.record_decode(time.perf_counter() - started)
        outputs = [self._advance(*pair) for pair in zip(self._running, logits[:, -1], strict=True)]
        for choice, output in zip(list(self._running), outputs, strict=True):
            if output.finish_reason:
                self._leave(choice)
        self._forget_failed(outputs)
        return outputs

    def _forget_failed(self, outputs: list[Output]) -> None:
        for output in outputs:
            if output.error is not None:
                self.cancel(output.request_id, None)

    def _make_room(self) -> list[Output]:
        """Where the next column does not fit, the youngest goes back to waiting, to be computed anew later."""
        while len(self._running) * (self._batch.width + 1) > self._kv_cells:
            if len(self._running) == 1:
                message = f"the {self._kv_cells} cells of the cache are full"
                return self._fail(OutOfMemory(message, "launch with a larger --kv-cells", param="kv_cells"))
            youngest = max(self._running, key=lambda c: c.arrival)
            self._drop_row(youngest)
            self._waiting.appendleft(Reading([youngest], list(youngest.tokens)))
        return []

    def _leave(self, choice: Choice) -> None:
        """It leaves the batch; what it computed is parked when that is worth it."""
        self._park(self._batch, self._running.index(choice), choice.tokens)
        self._drop_row(choice)

    def _drop_row(self, choice: Choice) -> None:
        row = self._running.index(choice)
        self._batch.remove(row)
        self._running[row] = self._running[-1]
        self._running.pop()

    def _park(self, cache: RowCache, row: int, tokens: list[int]) -> None:
        length = cache.lengths[row]
        if length >= KEEP_AT_LEAST and self._cache.wants(tokens[:length], length * self._cell_bytes):
            self._cache.park(tokens[:length], cache.state(row, on_host=True))

    # -- one slice of the prompts

    def _read(self, streaming: bool) -> list[Output]:
        """The oldest prompt and the one with the shortest rest take turns, so that neither long nor short ones starve.

        Prompts that have just come and are of like length are read in one pass.
        """
        self._reads += 1
        chosen = self._reading[0] if self._reads % 2 else min(self._reading, key=lambda r: r.pending)
        budget = self._pace.chunk(STREAMING_TARGET_S if streaming else ALONE_TARGET_S, beside=streaming)
        group = self._alike(chosen, budget if streaming else self._pace.chunk(BURST_TARGET_S))
        started = time.perf_counter()
        if len(group) > 1:
            cache = self._new_cache()
            cache.open(len(group))
            logits = self._forward.run(cache, [r.tokens for r in group])
            for row, reading in enumerate(group):
                reading.cache, reading.row, reading.computed = cache, row, len(reading.tokens)
            done = list(zip(group, logits[:, -1], strict=True))
            read = len(group) * max(len(r.tokens) for r in group)
        else:
            read, sight = chosen.piece(min(budget, NOTED_AT_ONCE) if chosen.wants_logprobs else budget)
            if streaming and chosen.choices[0].left > 1:
                rows = len(self._running) + len(chosen.choices)
                self._batch.prepare(rows, len(chosen.tokens) + 1, share=read / max(chosen.pending, 1))
            last = self._read_slice(chosen, read, sight)
            done = [] if chosen.pending else [(chosen, last)]
        self._pace.record(time.perf_counter() - started, read)
        return [output for reading, row in done for output in self._finish(reading, row)]

    def _alike(self, chosen: Reading, budget: int) -> list[Reading]:
        if chosen.computed or chosen.wants_logprobs or len(chosen.tokens) > budget or chosen.sight is not None:
            return [chosen]
        length = len(chosen.tokens)
        group = [chosen]
        for other in self._reading:
            if other is chosen or other.computed or other.wants_logprobs or not length <= 2 * len(other.tokens):
                continue
            if other.sight is not None:
                continue
            longest = max(len(r.tokens) for r in [*group, other])
            if longest <= 2 * length and longest * (len(group) + 1) <= budget:
                group.append(other)
        return group

    def _read_slice(self, reading: Reading, count: int, sight: Sight | None) -> Any:
        """Read `count` tokens more; the logits after the last."""
        if reading.cache is None:
            reading.cache = self._new_cache()
            reading.cache.open(1)
        piece = reading.tokens[reading.computed : reading.computed + count]
        keep = count if reading.wants_logprobs else 1
        logits = self._forward.run(reading.cache, [piece], keep=keep, sight=sight)[0]
        if reading.wants_logprobs:
            self._note(reading, logits)
        reading.computed += count
        return logits[-1]

    def _note(self, reading: Reading, logits: Any) -> None:
        """The logprob of each prompt token that these rows tell of."""
        alternatives = reading.request.logprobs or 0
        if not reading.notes:
            first = reading.tokens[0]
            reading.notes.append(TokenLogprob(first, self._vocabulary.piece(first, True), None))
        following = reading.tokens[reading.computed + 1 : reading.computed + 1 + len(logits)]
        for row, token in zip(logits, following, strict=False):
            reading.notes.append(token_logprob(row, token, alternatives, self._vocabulary))

    def _finish(self, reading: Reading, row: Any) -> list[Output]:
        """The prompt is read: the first token of each choice, which joins the batch if it goes on."""
        self._reading.remove(reading)
        assert reading.cache is not None
        cache, outputs, joined = reading.cache, [], 0
        for choice in reading.choices:
            choice.tokens = list(reading.tokens)
            if not choice.announced:
                choice.cached = reading.cached
            if choice.prompt_logprobs is not None:
                choice.prompt_logprobs = reading.notes
            output = self._advance(choice, row.copy())
            outputs.append(output)
            if not (output.finish_reason or output.error):
                self._batch.add(cache.view(reading.row))
                self._running.append(choice)
                joined += 1
        if not joined:
            self._park(cache, reading.row, reading.tokens)
        self._forget_failed(outputs)
        return outputs

    def _give_up(self, reading: Reading) -> None:
        self._reading.remove(reading)
        if reading.cache is not None and len(reading.cache.lengths) == 1:
            self._park(reading.cache, 0, reading.tokens)

    # -- one token

    def _advance(self, choice: Choice, row: Any) -> Output:
        try:
            return self._next(choice, row)
        except XinError as exc:  # a constraint that cannot go on ends its own request only
            return Output(choice.request.id, choice.index, error=exc)

    def _next(self, choice: Choice, row: Any) -> Output:
        request = choice.request
        output = Output(request.id, choice.index)
        if not choice.announced:
            choice.announced = True
            output.cached_tokens, output.prompt_logprobs = choice.cached, choice.prompt_logprobs
        if choice.left <= 0:
            output.finish_reason = "length"
            return output
        before = row.copy() if request.logprobs is not None else None
        token = choice.sampler.pick(row, choice.matcher, choice.tokens)
        if token in self._vocabulary.end_ids or token in request.stop_token_ids:
            output.finish_reason = "stop"
            return output
        choice.tokens.append(token)
        choice.left -= 1
        output.piece, output.tokens = self._vocabulary.piece(token, token in request.shown), 1
        if before is not None:
            output.logprobs = [token_logprob(before, token, request.logprobs or 0, self._vocabulary)]
        if choice.matcher is not None and choice.matcher.finished():
            output.finish_reason = "stop"
        elif choice.left <= 0:
            output.finish_reason = "length"
        return output

    def _fail(self, error: XinError) -> list[Output]:
        """Everything that runs or is being read ends with this error."""
        choices = [*self._running, *(choice for reading in self._reading for choice in reading.choices)]
        self._running, self._reading = [], []
        self._batch = self._new_cache()
        return [Output(choice.request.id, choice.index, error=error) for choice in choices]


def _outside(sight: Sight, tokens: list[int], length: int) -> int:
    """The longest beginning of `tokens`, at most `length`, that ends outside of the images."""
    first, last = sight.span(tokens)
    return first if first < length < last else length

"""Continuous batching: each step is one llama_decode that mixes the next token of every running sequence with a
chunk of the waiting prompts, sized by time. Prefixes that are in memory, or being computed by another, are shared.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xin.backends.base import Load, Output, Request
from xin.backends.llama_cpp.batch import Batch
from xin.backends.llama_cpp.burst import Bursts, gathers, rests, waits
from xin.backends.llama_cpp.context import Context
from xin.backends.llama_cpp.draft_model import DraftModel
from xin.backends.llama_cpp.drafter import Drafter
from xin.backends.llama_cpp.image_places import Placed, located, whole
from xin.backends.llama_cpp.pace import Pace
from xin.backends.llama_cpp.reader import Reader
from xin.backends.llama_cpp.sampler import Candidates, Sampler
from xin.backends.llama_cpp.sequence import Sequence
from xin.backends.llama_cpp.vocabulary import Vocabulary
from xin.backends.logprob import token_logprob
from xin.backends.prefix_cache import PrefixCache, common_prefix
from xin.errors import InternalError, OutOfMemory, XinError
from xin.worker.frames import TokenLogprob

if TYPE_CHECKING:
    from xin.backends.llama_cpp.projector import Projector

SHARE_AT_LEAST = 16  # waiting for another's prefix pays from about this many tokens on
FIRST_GUESS_S = 0.004


class Scheduler:
    """All generations of one context. Not thread-safe: the step thread owns it."""

    def __init__(
        self,
        context: Context,
        vocabulary: Vocabulary,
        cache: PrefixCache,
        *,
        window: int,
        n_parallel: int,
        n_batch: int,
        prompt_lookup: bool = False,
        draft_model: DraftModel | None = None,
        projector: Projector | None = None,
        open_reader: Callable[[Any], Context | None] | None = None,
    ) -> None:
        self._context = context
        self.deliver: Callable[[list[Output]], None] | None = None  # takes what cannot wait for the end of a step
        self._vocabulary = vocabulary
        self._cache = cache
        self._window = window
        self._n_batch = n_batch
        self._batch = Batch(n_batch)
        self._candidates = Candidates(vocabulary.size)
        self._pace = Pace(FIRST_GUESS_S)
        self._reader = Reader(context, self._pace, n_batch, open_reader)
        most_rows = min(n_batch, context.max_outputs)
        self._drafter = Drafter(prompt_lookup and context.can_rewind, window, most_rows, draft_model)
        self._projector = projector
        self._slots = list(range(n_parallel))[::-1]
        self._n_parallel = n_parallel
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._arrivals = 0
        self._bursts = Bursts()
        self._in_step: set[int] = set()  # requests in the decode that is going on
        self._may_break = False  # it may end in the middle though several share it
        self._broke = False  # the one before did

    # -- the contract's verbs

    def submit(self, request: Request) -> None:
        burst = self._bursts.of(request.arrived_at)
        for index in range(request.n):
            sampler = Sampler(request.sampling, self._vocabulary, self._candidates, request.tokens, self._window, index)
            matcher = request.compiled.matcher() if request.compiled is not None else None
            self._arrivals += 1
            self._waiting.append(
                Sequence(
                    request=request,
                    index=index,
                    tokens=list(request.tokens),
                    sampler=sampler,
                    left=request.max_tokens,
                    matcher=matcher,
                    prompt_length=len(request.tokens),
                    arrival=self._arrivals,
                    arrived_at=request.arrived_at,
                    burst=burst,
                    prompt_logprobs=[] if request.prompt_logprobs and index == 0 else None,
                    images=list(request.seen.images) if request.seen is not None else [],
                )
            )

    def cancel(self, request_id: int, index: int | None) -> None:
        def meant(sequence: Sequence) -> bool:
            return sequence.request.id == request_id and index in (None, sequence.index)

        for sequence in [s for s in self._running if meant(s)]:
            self._retire(sequence)
        for sequence in [s for s in self._waiting if meant(s)]:
            self._waiting.remove(sequence)
            sequence.sampler.close()

    def interrupt(self, request_id: int) -> None:
        """From another thread. A step that streams share goes on: it is worth more to them than this one's slot.

        One of prompts alone is done again without it; never twice in a row, or who cancels often would starve others.
        """
        if self._in_step == {request_id} or (request_id in self._in_step and self._may_break):
            self._context.interrupt()
        self._reader.interrupt(request_id)

    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    def load_now(self) -> Load:
        return Load(
            running=len({s.request.id for s in self._running}),
            waiting=len({s.request.id for s in self._waiting}),
            kv_used=self._cells_used(),
            kv_total=self._context.cells,
            cached_sequences=len(self._cache),
        )

    def step(self) -> list[Output]:
        if not self._running and gathers(self._waiting, self._n_parallel, self._pace.seconds_per_token):
            return []
        self._admit()
        if self._projector is not None and (failed := self._read_image(self._projector)):
            return failed
        self._reader.take(self._running)
        return self._advance_running() if self._reader.sequence is None else self._step_beside()

    def _advance_running(self) -> list[Output]:
        """One decode for all that run, but for what the reader reads."""
        streams = self._compose()
        if not self._batch.size:
            return []
        prompt = sum(s.fed for s in self._running) - streams
        drafted = self._batch.size - streams - prompt
        started = time.perf_counter()
        self._context.go_on()
        self._may_break = not streams and not self._broke
        self._in_step = {s.request.id for s in self._running if s.fed}
        result = self._context.decode(self._batch.struct())
        self._in_step = set()
        self._broke = result == 2
        if result == 2:
            return self._interrupted()
        if result == 1:
            if drafted:
                self._drafter.pause()
                return []
            return self._make_room()
        if result != 0:
            return self._fail(InternalError(f"llama_decode failed with code {result}"))
        outputs = self._collect()
        took = time.perf_counter() - started
        if not drafted:
            self._pace.record(took, streams, prompt)
        if not prompt:
            self._drafter.record(took, streams, drafted)
        return outputs

    def close(self) -> None:
        for sequence in [*self._running, *self._waiting]:
            sequence.sampler.close()
        self._running, self._waiting = [], deque()
        self._reader.close()
        if self._drafter.model is not None:
            self._drafter.model.close()

    def set_threads(self, n: int) -> None:
        self._context.set_threads(n)
        self._reader.set_threads(n)
        if self._drafter.model is not None:
            self._drafter.model.set_threads(n)

    def _step_beside(self) -> list[Output]:
        """A step of what the reader reads, with steps of the others in between."""
        outputs: list[Output] = []

        def others() -> None:
            made = self._advance_running()
            if self.deliver is None:
                outputs.extend(made)
            elif made:
                self.deliver(made)

        self._reader.step(others)
        return outputs

    # -- admission

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._n_parallel:
            sequence = self._waiting[0]
            if not self._fits(sequence):
                return
            self._waiting.popleft()
            self._place(sequence)
            self._running.append(sequence)

    def _read_image(self, projector: Projector) -> list[Output]:
        """One image at most a step, in a pass of its own; gives the error of one that cannot be read."""
        for sequence in self._running:
            image = sequence.image
            if image is None or sequence.leader is not None or image.start != sequence.computed:
                continue
            self._context.go_on()
            try:
                if not projector.read(self._context, image, sequence.slot):
                    words = (
                        f"no room for an image of {image.part.cells} tokens among the context's {self._context.cells}"
                    )
                    raise OutOfMemory(words, "launch with a larger --kv-cells", param="kv_cells")
            except XinError as exc:
                self._context.cut(sequence.slot, sequence.computed)
                self.cancel(sequence.request.id, None)
                return [Output(sequence.request.id, sequence.index, error=exc)]
            sequence.computed = image.end
            return []
        return []

    def _fits(self, sequence: Sequence) -> bool:
        """May it start? A running sequence is never pushed out for a newcomer."""
        if not self._running or not self._context.unified:
            return True
        need = len(sequence.tokens) + min(sequence.left, 64)
        short = self._cells_used() + need - self._context.cells
        return short <= 0 or short <= self._leader(sequence)[1]

    def _cells_used(self) -> int:
        return sum(sequence.cells for sequence in self._running)

    def _place(self, sequence: Sequence) -> None:
        """Give it a slot and the longest prefix there is: parked, computed by a running one, or being computed."""
        sequence.computed = sequence.cached = 0
        reuse = sequence.prompt_logprobs is None  # whoever wants the prompt's logits must compute it
        parked, shared, tokens = (None, 0, sequence.tokens)
        if reuse:
            parked, shared, tokens = self._cache.best(sequence.tokens, whole_only=not self._context.can_rewind)
        if tokens != sequence.tokens and len(tokens) + sequence.left > self._window:
            parked, shared, tokens = (None, 0, sequence.tokens)
        leader, ahead = self._leader(sequence) if reuse else (None, 0)
        placed: list[Placed] = []
        if sequence.images:  # neither prefix may end within one
            placed = located(tokens, [image.part for image in sequence.images])
            shared, ahead = whole(placed, shared), whole(sequence.images, ahead)
        sequence.slot = self._slots.pop()
        if leader is not None and ahead >= shared + SHARE_AT_LEAST:
            sequence.leader, sequence.shared = leader, ahead
        elif parked is not None and self._context.restore(sequence.slot, parked.state):
            self._context.cut(sequence.slot, shared)
            sequence.prompt_length += len(tokens) - len(sequence.tokens)
            sequence.tokens, sequence.lookup, sequence.images = tokens, None, placed
            sequence.computed = sequence.cached = shared

    def _leader(self, sequence: Sequence) -> tuple[Sequence | None, int]:
        best: tuple[Sequence | None, int] = (None, 0)
        if not self._context.can_rewind:  # a part of a sequence can't be copied there
            return best
        wanted = np.array(sequence.tokens, dtype=np.int32)
        for other in self._running:
            shared = min(common_prefix(np.array(other.tokens, dtype=np.int32), wanted), len(wanted) - 1)
            if shared > best[1]:
                best = (other, shared)
        return best

    def _forget(self, slot: int) -> None:
        self._context.remove(slot)
        self._drafter.forget(slot)
        self._slots.append(slot)

    # -- one batch

    def _compose(self) -> int:
        """Fills the batch; returns how many sequences decode in it."""
        self._batch.clear()
        self._catch_up()
        prefilling: list[Sequence] = []
        decoding: list[Sequence] = []
        for sequence in self._running:
            sequence.row, sequence.fed, sequence.draft = -1, 0, []
            if sequence.leader is None and sequence is not self._reader.sequence:
                (prefilling if sequence.prefilling else decoding).append(sequence)
        if decoding and prefilling and self._reader.sequence is None and rests(decoding, prefilling):
            decoding = []
        if decoding and not prefilling and self._reader.sequence is None:
            self._drafter.draft(decoding, self._context.cells - self._cells_used())
        for sequence in decoding:
            sequence.fed = 1
            sequence.row = self._batch.add(sequence.tokens[-1], sequence.computed, sequence.slot)
            for ahead, guess in enumerate(sequence.draft, 1):
                self._batch.add(guess, sequence.computed + ahead, sequence.slot)
        if prefilling:
            streams = len(decoding)
            due = {
                id(s): s.pending - waits(s, prefilling, self._running, streams) if s.image is None else s.readable
                for s in prefilling
            }
            share = 1.0 if self._reader.sequence is None else 0.5
            self._feed([s for s in prefilling if due[id(s)]], due, self._pace.chunk(streams, self._n_batch, share))
            self._finish(prefilling, streams)
        return len(decoding)

    def _catch_up(self) -> None:
        """Followers whose prefix is ready copy it; those whose leader has gone go on by themselves."""
        for sequence in self._running:
            leader = sequence.leader
            if leader is None:
                continue
            if leader.slot < 0:  # its cells are parked or gone: look again
                sequence.leader = None
                self._slots.append(sequence.slot)
                self._running.remove(sequence)
                self._place(sequence)
                self._running.append(sequence)
                return self._catch_up()
            if leader.computed >= sequence.shared:
                self._context.copy(leader.slot, sequence.slot, sequence.shared)
                sequence.computed = sequence.cached = sequence.shared
                sequence.leader = None
        return None

    def _feed(self, prefilling: list[Sequence], due: dict[int, int], budget: int) -> None:
        """The oldest prompt gets half, the shortest rests come next, so that neither long nor short ones starve."""
        if not prefilling:
            return
        oldest = min(prefilling, key=lambda s: s.arrival)
        share = {id(oldest): min(due[id(oldest)], budget if len(prefilling) == 1 else max(1, budget // 2))}
        left = budget - share[id(oldest)]
        for sequence in sorted(prefilling, key=lambda s: s.pending):
            given = share.get(id(sequence), 0)
            more = min(due[id(sequence)] - given, left)
            share[id(sequence)] = given + more
            left -= more
        for sequence in prefilling:
            count, rest = share[id(sequence)], due[id(sequence)]
            if 0 < rest - count <= budget // 4 and self._batch.size + rest <= self._n_batch:
                count = rest  # a short rest costs less now than as a step of its own
            if count:
                self._put(sequence, count)

    def _finish(self, prefilling: list[Sequence], streams: int) -> None:
        """Last tokens whose wait ends with this very step go into it, too: no step of their own for them."""
        for sequence in prefilling:
            if (
                sequence.pending - sequence.fed == 1
                and sequence.prompt_logprobs is None
                and self._batch.size < self._n_batch
                and not waits(sequence, prefilling, self._running, streams)
            ):
                at = sequence.computed + sequence.fed
                sequence.row = self._batch.add(sequence.tokens[at], at, sequence.slot)
                sequence.fed += 1

    def _put(self, sequence: Sequence, count: int) -> None:
        wants_rows = sequence.prompt_logprobs is not None
        if wants_rows:
            count = min(count, self._context.max_outputs - self._batch.outputs)
            if count <= 0:
                return
        start = sequence.computed
        tokens = sequence.tokens[start : start + count]
        sequence.fed = count
        sequence.row = self._batch.extend(
            tokens, start, sequence.slot, last=count == sequence.pending, all_rows=wants_rows
        )

    # -- after the decode

    def _collect(self) -> list[Output]:
        outputs: list[Output] = []
        rows = self._context.logits(self._batch.outputs) if self._batch.outputs else None
        for sequence in list(self._running):
            if not sequence.fed:
                continue
            sequence.computed += sequence.fed
            if rows is None or (sequence.pending and sequence.prompt_logprobs is None):
                continue
            row = sequence.row
            if sequence.prompt_logprobs is not None and sequence.computed - sequence.fed < sequence.prompt_length:
                self._note_prompt(sequence, rows)
                row += sequence.fed - 1
                if sequence.pending:
                    continue
            try:
                self._advance_drafted(sequence, rows, row, outputs)
            except XinError as exc:  # a constraint that cannot go on ends its own request only
                outputs.append(Output(sequence.request.id, sequence.index, error=exc))
                self.cancel(sequence.request.id, None)
        return outputs

    def _advance_drafted(self, sequence: Sequence, rows: Any, row: int, outputs: list[Output]) -> None:
        """Its next token, and one more for each guess of its draft that was right; the rest is forgotten."""
        outputs.append(self._advance(sequence, rows[row]))
        for ahead, guess in enumerate(sequence.draft, 1):
            if sequence.slot < 0 or sequence.tokens[-1] != guess:
                break
            sequence.computed += 1
            self._drafter.accepted += 1
            outputs.append(self._advance(sequence, rows[row + ahead]))
        if sequence.draft and sequence.slot >= 0:
            self._context.cut(sequence.slot, sequence.computed)

    def _advance(self, sequence: Sequence, row: Any) -> Output:
        request = sequence.request
        output = Output(request.id, sequence.index)
        if not sequence.announced:
            sequence.announced = True
            output.cached_tokens = sequence.cached
            output.prompt_logprobs = sequence.prompt_logprobs
        if sequence.left <= 0:
            return self._end(sequence, output, "length")
        before = row.copy() if request.logprobs is not None else None
        token = sequence.sampler.pick(row, sequence.matcher)
        if token in self._vocabulary.end_ids or token in request.stop_token_ids:
            return self._end(sequence, output, "stop")
        sequence.tokens.append(token)
        sequence.left -= 1
        output.piece = self._vocabulary.piece(token, token in request.shown)
        output.tokens = 1
        if before is not None:
            output.logprobs = [token_logprob(before, token, request.logprobs or 0, self._vocabulary)]
        if sequence.matcher is not None and sequence.matcher.finished():
            return self._end(sequence, output, "stop")
        if sequence.left <= 0:
            return self._end(sequence, output, "length")
        return output

    def _end(self, sequence: Sequence, output: Output, reason: Any) -> Output:
        output.finish_reason = reason
        self._retire(sequence)
        return output

    def _note_prompt(self, sequence: Sequence, rows: Any) -> None:
        notes = sequence.prompt_logprobs
        assert notes is not None
        if not notes:
            first = sequence.tokens[0]
            notes.append(TokenLogprob(first, self._vocabulary.piece(first, True), None))
        start = sequence.computed - sequence.fed
        for i in range(sequence.fed):
            following = start + i + 1
            if following < sequence.prompt_length:
                token = sequence.tokens[following]
                row = rows[sequence.row + i]
                notes.append(token_logprob(row, token, sequence.request.logprobs or 0, self._vocabulary))

    def _retire(self, sequence: Sequence) -> None:
        """It leaves the batch; what it computed is parked when that is worth it."""
        self._reader.give_back(sequence)
        self._running.remove(sequence)
        sequence.sampler.close()
        slot, sequence.slot = sequence.slot, -1
        if sequence.leader is None and sequence.computed >= SHARE_AT_LEAST:
            tokens = sequence.tokens[: sequence.computed]
            if self._cache.wants(tokens, self._context.state_bytes(slot)):
                self._cache.park(tokens, self._context.save(slot))
        self._forget(slot)

    # -- when the cells run out

    def _make_room(self) -> list[Output]:
        """No cells for the batch: the youngest goes back to waiting, to be computed anew later."""
        if len(self._running) == 1:
            return self._fail(
                OutOfMemory(
                    f"the context of {self._context.cells} cells is full",
                    "launch with a larger --kv-cells",
                    param="kv_cells",
                )
            )
        youngest = max(self._running, key=lambda s: s.arrival)
        self._reader.drop(youngest)
        self._running.remove(youngest)
        slot, youngest.slot = youngest.slot, -1
        self._forget(slot)
        youngest.computed, youngest.leader = 0, None
        self._waiting.appendleft(youngest)
        return []

    def _interrupted(self) -> list[Output]:
        """Nothing of the step counts; the request that was interrupted is cancelled next."""
        for sequence in self._running:
            if sequence.fed:
                self._context.cut(sequence.slot, sequence.computed)
        return []

    def _fail(self, error: XinError) -> list[Output]:
        outputs = []
        for sequence in list(self._running):
            self._reader.drop(sequence)
            self._running.remove(sequence)
            sequence.sampler.close()
            slot, sequence.slot = sequence.slot, -1
            self._forget(slot)
            outputs.append(Output(sequence.request.id, sequence.index, error=error))
        return outputs

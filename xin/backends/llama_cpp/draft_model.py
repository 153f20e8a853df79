"""Speculative decoding with a small second model: it says what it would say, and the model's own step checks it.

Source: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023; here a guess counts as
right when the request's own sampler chooses the same token: a draft changes how fast an answer comes, never which.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from xin.backends.llama_cpp.batch import Batch, warm_up
from xin.backends.llama_cpp.context import Context
from xin.backends.llama_cpp.context_params import cell_bytes, context_params
from xin.backends.llama_cpp.model import Model
from xin.backends.llama_cpp.options import Options
from xin.errors import BadRequest, LoadFailed, XinError

if TYPE_CHECKING:
    from xin.backends.llama_cpp.sequence import Sequence
    from xin.backends.llama_cpp.vocabulary import Vocabulary

FIRST_ACCURACY = 0.7  # share of guesses that come true, before any was seen
MOST = 15  # tokens of one draft
LEAST_SURE = 0.4  # a guess that the small model itself gives less ends its draft
READ_S = 0.05  # so long at most it reads what it has not seen yet, between two steps
PADDING = 128  # ids by which two vocabularies may differ at their end
_FIRST_READ = 64  # tokens, before the reading was timed
_SMOOTHING = 0.1
_FORGET = 0.005  # an accuracy that is too low to draft at is doubted, a little with every step
log = logging.getLogger("xin.llama_cpp")


@dataclass(slots=True)
class _Followed:
    """A sequence as far as the small model has read it: `base` of its tokens, and behind them its own guesses."""

    owner: Sequence
    base: int = 0
    guesses: list[int] = field(default_factory=list)
    accuracy: float = FIRST_ACCURACY


class DraftModel:
    """Owns the small model and its context, in which each sequence has the slot that it has in the large one's."""

    def __init__(self, name: str, model: Model, context: Context, options: Options, large: Vocabulary) -> None:
        self.name = name
        self.size_bytes = model.size_bytes + context.cells * cell_bytes(model, options)
        self._model = model
        self._context = context
        self._batch = Batch(options.n_batch)
        self._end_ids = large.end_ids
        self._size = min(large.size, model.vocabulary.size)
        self._trained = model.trained_context
        self._followed: dict[int, _Followed] = {}  # by slot
        self._token_s: float | None = None  # seconds to read one token among many
        warm_up(context, model.vocabulary.bos)

    @classmethod
    def load(cls, options: Options, *, model: Model, home: Context, window: int, threads: int) -> DraftModel:
        """For the large `model`, whose context is `home`. Errors name the option."""
        path = options.draft_model
        assert path is not None
        name = Path(path).name
        if not home.can_rewind:
            raise BadRequest(
                "draft_model: guesses of this model cannot be taken back", "leave draft_model out", param="draft_model"
            )
        try:
            small = draft_options(options, window=window, cells=home.cells, on_gpu=model.gpu_layers != 0)
            made = Model(path, small, lambda fraction, stage: None)
        except XinError as exc:
            raise type(exc)(f"draft_model: {exc.message}", exc.hint, param="draft_model") from exc
        try:
            if not made.can_rewind:
                raise BadRequest(
                    f"draft_model: the memory of {name} cannot be rewound",
                    "use another",
                    param="draft_model",
                )
            if difference := differs(model.vocabulary, made.vocabulary):
                raise LoadFailed(
                    f"draft_model: {name} has another vocabulary: {difference}",
                    "use a smaller model of the same family",
                    param="draft_model",
                )
            context = Context(made.pointer, context_params(made, small, threads), made.vocabulary.size, can_rewind=True)
            return cls(name, made, context, small, model.vocabulary)
        except XinError:
            made.close()
            raise

    def accuracy(self, sequence: Sequence) -> float:
        """How likely each guess at `sequence` is right."""
        return self._follow(sequence).accuracy

    def room(self, sequence: Sequence) -> int:
        """How many tokens it can guess at: none of a text that is longer than it was trained for."""
        return min(MOST, self._trained - len(sequence.tokens)) if self._trained else MOST

    def draft(self, asked: Many[tuple[Sequence, int]]) -> None:
        """Sets `draft` of each, at most so many tokens; [] while it still reads what stands there."""
        budget = self._readable()
        going: list[tuple[_Followed, int, int]] = []  # who is guessed at, how far, and the row of its logits
        read: list[tuple[_Followed, int]] = []
        self._batch.clear()
        for sequence, most in asked:
            followed = self._follow(sequence)
            pending = sequence.tokens[followed.base :]
            part = pending[:budget]
            if not part or max(part) >= self._size or sequence.images:
                continue
            budget -= len(part)
            whole = len(part) == len(pending)
            row = self._batch.extend(part, followed.base, sequence.slot, last=whole)
            read.append((followed, len(part)))
            if whole:
                going.append((followed, most, row))
        if not read or not self._decode():
            return
        for followed, count in read:
            followed.base += count
        while going:
            going = self._guess(going)
            if going and not self._decode():
                return

    def forget(self, slot: int) -> None:
        """Its sequence has left."""
        if self._followed.pop(slot, None) is not None:
            self._context.remove(slot)

    def set_threads(self, n: int) -> None:
        self._context.set_threads(n)

    def close(self) -> None:
        self._context.close()
        self._model.close()

    def _guess(self, going: list[tuple[_Followed, int, int]]) -> list[tuple[_Followed, int, int]]:
        """The next guess for each; fills the batch with those that get one more."""
        rows = self._context.logits(self._batch.outputs)
        chosen = [_best(rows[row]) for _, _, row in going]
        self._batch.clear()
        further = []
        for (followed, most, _), (token, sureness) in zip(going, chosen, strict=True):
            if sureness < LEAST_SURE or token >= self._size or token in self._end_ids:
                continue
            at = followed.base + len(followed.guesses)
            followed.guesses.append(token)
            followed.owner.draft.append(token)
            if len(followed.guesses) < most:
                further.append((followed, most, self._batch.add(token, at, followed.owner.slot)))
        return further

    def _follow(self, sequence: Sequence) -> _Followed:
        """Takes in what the text has grown by: what of the guesses was right, and what must be forgotten."""
        followed = self._followed.get(sequence.slot)
        if followed is None or followed.owner is not sequence:
            self._context.remove(sequence.slot)
            followed = self._followed[sequence.slot] = _Followed(sequence)
        if not followed.guesses:
            followed.accuracy += _FORGET * (FIRST_ACCURACY - followed.accuracy)
            return followed
        said = sequence.tokens[followed.base : followed.base + len(followed.guesses)]
        right = 0
        for guess, token in zip(followed.guesses, said, strict=False):
            followed.accuracy += _SMOOTHING * ((guess == token) - followed.accuracy)
            if guess != token:
                break
            right += 1
        followed.base += min(right, len(followed.guesses) - 1)  # the last one was never read
        followed.guesses = []
        self._context.cut(sequence.slot, followed.base)
        return followed

    def _readable(self) -> int:
        """How many tokens it may read now."""
        most = _FIRST_READ if self._token_s is None else max(_FIRST_READ, int(READ_S / self._token_s))
        return min(most, self._batch.capacity)

    def _decode(self) -> bool:
        """False: there was no room, or worse. It then knows nothing any more, and reads again."""
        began = time.perf_counter()
        result = self._context.decode(self._batch.struct())
        if result == 0:
            if self._batch.size >= _FIRST_READ:
                self._token_s = (time.perf_counter() - began) / self._batch.size
            return True
        if result < 0:
            log.warning("the draft model failed with code %d: it begins anew", result)
        self._context.clear()
        for followed in self._followed.values():
            followed.owner.draft = []
        self._followed.clear()
        return False


def draft_options(options: Options, *, window: int, cells: int | None, on_gpu: bool) -> Options:
    """How the small model is loaded beside a large one: as many tokens, on the CPU where the large one is."""
    return replace(
        options,
        draft_model=None,
        lora=[],
        chat_template=None,
        context_length=window,
        kv_cells=cells,
        n_gpu_layers=None if on_gpu else 0,
    )


def differs(large: Vocabulary, small: Vocabulary) -> str:
    """What keeps ids of one from meaning the same in the other; "" when nothing does."""
    if abs(large.size - small.size) > PADDING:
        return f"{small.size} tokens instead of {large.size}"
    for name in ("bos", "eos", "eot"):
        ours, theirs = getattr(large, name), getattr(small, name)
        if ours != theirs and min(ours, theirs) >= 0:
            return f"{name.upper()} is token {theirs} instead of {ours}"
    for token, (ours, theirs) in enumerate(zip(large.pieces, small.pieces, strict=False)):
        if ours != theirs:
            return f"token {token} is {theirs!r} instead of {ours!r}"
    return ""


def _best(row: npt.NDArray[np.float32]) -> tuple[int, float]:
    """The likeliest token and its probability."""
    token = int(row.argmax())
    odds: Any = np.exp(row - row[token])
    return token, 1.0 / float(odds.sum())

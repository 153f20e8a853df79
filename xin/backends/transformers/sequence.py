"""A prompt that is being read, and a choice that is being written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xin.backends.base import Request
from xin.backends.transformers.row_cache import RowCache
from xin.backends.transformers.sampler import Sampler
from xin.backends.transformers.sight import Sight
from xin.worker.frames import TokenLogprob


@dataclass(slots=True, eq=False)
class Choice:
    """`tokens` is prompt then reply; all but the last have their keys and values in the batch's cache."""

    request: Request
    index: int
    tokens: list[int]
    sampler: Sampler
    left: int
    arrival: int
    matcher: Any | None = None
    cached: int = 0
    announced: bool = False
    prompt_logprobs: list[TokenLogprob] | None = None


@dataclass(slots=True, eq=False)
class Reading:
    """A prompt and the choices that will answer it: it is computed once for all of them, in row `row` of `cache`."""

    choices: list[Choice]
    tokens: list[int]
    wants_logprobs: bool = False
    computed: int = 0
    cached: int = 0
    cache: RowCache | None = None
    row: int = 0
    notes: list[TokenLogprob] = field(default_factory=list)

    @property
    def sight(self) -> Sight | None:
        """Its images, until they have been read."""
        seen = self.request.seen
        if seen is None or self.computed >= seen.images.span(self.tokens)[1]:
            return None
        sight: Sight = seen.images
        return sight

    def piece(self, most: int) -> tuple[int, Sight | None]:
        """How many tokens to read next, and the images among them: those are one piece, however long."""
        sight = self.sight
        if sight is None:
            return min(self.pending, most), None
        first, last = sight.span(self.tokens)
        if self.computed < first:
            return min(first - self.computed, most), None
        return last - self.computed, sight

    @property
    def request(self) -> Request:
        return self.choices[0].request

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

"""A prompt that is being read, and a choice that is being written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xin.backends.base import Request
from xin.backends.transformers.row_cache import RowCache
from xin.backends.transformers.sampler import Sampler
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
    def request(self) -> Request:
        return self.choices[0].request

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

"""One choice of one request on its way through the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xin.backends.base import Request
from xin.backends.llama_cpp.image_places import Placed
from xin.backends.llama_cpp.lookup import Lookup
from xin.backends.llama_cpp.sampler import Sampler
from xin.worker.frames import TokenLogprob


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` is prompt then reply; the first `computed` of them have their keys and values in the cache."""

    request: Request
    index: int
    tokens: list[int]
    sampler: Sampler
    left: int
    matcher: Any | None = None
    slot: int = -1
    computed: int = 0
    cached: int = 0
    prompt_length: int = 0
    arrival: int = 0
    arrived_at: float = 0.0
    burst: int = 0  # those who came together have the same number
    leader: Sequence | None = None  # who computes the prefix that this one will share
    shared: int = 0  # how long that prefix is
    row: int = -1  # first row of logits in the running batch
    fed: int = 0  # tokens in the running batch
    prompt_logprobs: list[TokenLogprob] | None = None
    announced: bool = False
    movable: bool = True  # may the reader have it? Not when there was no room for what it had read
    lookup: Lookup | None = None
    draft: list[int] = field(default_factory=list)  # guesses that ride in the running batch behind its own token
    images: list[Placed] = field(default_factory=list)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def image(self) -> Placed | None:
        """The next that is not computed yet."""
        return next((image for image in self.images if image.start >= self.computed), None) if self.images else None

    @property
    def readable(self) -> int:
        """How many tokens follow before the next image."""
        image = self.image
        return self.pending if image is None else image.start - self.computed

    @property
    def cells(self) -> int:
        """What it takes of the context; images in two dimensions take more cells than positions."""
        if not self.images:
            return self.computed
        read = [image.part for image in self.images if image.end <= self.computed]
        return self.computed + sum(part.cells - len(part.ids) for part in read)

    @property
    def said(self) -> int:
        """Tokens of the reply."""
        return len(self.tokens) - self.prompt_length

    @property
    def unread(self) -> int:
        """How much of the prompt it has to compute itself, in all."""
        return self.prompt_length - max(self.cached, self.shared if self.leader is not None else 0)

    @property
    def prefilling(self) -> bool:
        return self.computed < self.prompt_length or self.pending > 1

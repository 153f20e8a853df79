"""The model's one sequence: what of it is in the caches, and how a prompt gets there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xin.backends.chatglm_cpp.model_file import CHATGLM

_AT_ONCE = 2048  # prompt tokens of the first pass: its memory grows with their square
_WORTH = 4  # a pass over many tokens takes less time than so many passes over one


class Reader:
    """The library reads a prompt in one pass from the beginning, and anything after that a token at a time.

    ChatGLM's first family attends to its whole prompt from each token of it, so there nothing read before can be kept.
    `kept`: how many tokens of the prompt were still there from before.
    """

    def __init__(self, model: Any, family: int) -> None:
        self._model = model
        self._is_causal = family != CHATGLM
        self._held: list[int] = []
        self._asked = 0
        self.kept = 0

    def read(self, tokens: list[int], config: Any) -> Iterator[None]:
        """All of a prompt but what next() reads, a pass a turn."""
        self._asked = len(tokens)
        self.kept = self._shared(tokens)
        self._held = tokens[: self.kept]
        if not self.kept and self._is_causal and len(tokens) > _AT_ONCE:
            self._pass(tokens[:_AT_ONCE], config)
            yield
        while self._held and len(self._held) < len(tokens) - 1:
            self._pass(tokens[: len(self._held) + 1], config)
            yield

    def next(self, tokens: list[int], config: Any) -> int:
        """The token that follows all of these."""
        return self._pass(list(tokens), config)

    def forget(self) -> None:
        self._held = []

    def _pass(self, tokens: list[int], config: Any) -> int:
        token: int = self._model.generate_next_token(tokens, None, config, len(self._held), self._asked)
        self._held = tokens
        return token

    def _shared(self, tokens: list[int]) -> int:
        """How many tokens at the beginning need not be read again; 0 where one pass over all is faster."""
        if not self._is_causal:
            return 0
        most = min(len(self._held), len(tokens) - 1)
        shared = next((i for i in range(most) if self._held[i] != tokens[i]), most)
        return shared if (len(tokens) - shared) * _WORTH <= len(tokens) else 0

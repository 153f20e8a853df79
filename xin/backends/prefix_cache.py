"""Parked sequences: the longest prefix of a new prompt that was computed before, and what to forget first.

They are kept in the host's memory, not in the context: there every cell costs every running stream a look at its mask.

History that a client sends back is tokenised anew and may be cut into other tokens than those that were generated.
Where the bytes are equal the generated ids are spliced in, so that their keys and values still count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xin.backends.vocabulary import Pieces


@dataclass(slots=True, eq=False)
class Parked:
    """A sequence that has ended; `state` holds its keys and values, in the host's memory, and has `nbytes`."""

    tokens: npt.NDArray[np.int32]
    state: Any
    used: float = field(default_factory=time.monotonic)


def common_prefix(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> int:
    """Length of the longest common prefix."""
    size = min(len(left), len(right))
    differs = np.flatnonzero(left[:size] != right[:size])
    return int(differs[0]) if len(differs) else size


class PrefixCache:
    """At most `capacity` parked sequences of `limit_bytes` together, the least recently used forgotten first."""

    def __init__(self, capacity: int, limit_bytes: int, vocabulary: Pieces) -> None:
        self.capacity = capacity
        self._limit_bytes = limit_bytes
        self._vocabulary = vocabulary
        self._parked: list[Parked] = []

    def __len__(self) -> int:
        return len(self._parked)

    def wants(self, tokens: list[int], size_bytes: int) -> bool:
        """Is it worth keeping: does it fit, and does it say more than what is here?"""
        if not self.capacity or size_bytes > self._limit_bytes:
            return False
        new = np.array(tokens, dtype=np.int32)
        for parked in self._parked:
            if common_prefix(parked.tokens, new) == len(new):
                parked.used = time.monotonic()
                return False
        return True

    def park(self, tokens: list[int], state: Any) -> None:
        """Keep it; what says no more than it does is dropped, then the oldest."""
        new = Parked(np.array(tokens, dtype=np.int32), state)
        self._parked = [p for p in self._parked if common_prefix(p.tokens, new.tokens) < len(p.tokens)]
        self._parked.append(new)
        while len(self._parked) > self.capacity or sum(p.state.nbytes for p in self._parked) > self._limit_bytes:
            self._parked.remove(min(self._parked, key=lambda p: p.used))

    def best(self, prompt: list[int], *, whole_only: bool) -> tuple[Parked | None, int, list[int]]:
        """(parked, shared tokens, the prompt with spliced ids). `whole_only`: only all of a parked sequence will do."""
        wanted = np.array(prompt, dtype=np.int32)
        best: tuple[Parked | None, int, list[int]] = (None, 0, prompt)
        for parked in self._parked:
            shared = common_prefix(parked.tokens, wanted)
            tokens = prompt
            if 8 <= shared < min(len(parked.tokens), len(wanted)):
                shared, tokens = self._splice(parked.tokens, wanted, shared)
            shared = min(shared, len(tokens) - 1)  # the last token is computed again for its logits
            if whole_only and shared < len(parked.tokens):
                continue
            if shared > best[1]:
                best = (parked, shared, tokens)
        if best[0] is not None:
            best[0].used = time.monotonic()
        return best

    def _splice(self, parked: npt.NDArray[np.int32], wanted: npt.NDArray[np.int32], at: int) -> tuple[int, list[int]]:
        """Walk both from where they differ; keep parked ids up to the last place where their bytes end together."""
        piece = self._vocabulary.piece
        left = right = at
        left_text = right_text = b""
        meet = (at, at)
        while True:
            if len(left_text) <= len(right_text):
                if left == len(parked):
                    break
                left_text += piece(int(parked[left]), True)
                left += 1
            else:
                if right == len(wanted):
                    break
                right_text += piece(int(wanted[right]), True)
                right += 1
            size = min(len(left_text), len(right_text))
            if left_text[:size] != right_text[:size]:
                break
            left_text, right_text = left_text[size:], right_text[size:]
            if not left_text and not right_text:
                meet = (left, right)
                more = common_prefix(parked[left:], wanted[right:])
                left, right = left + more, right + more
                meet = (left, right)
        if meet[0] == at:
            return at, wanted.tolist()
        return meet[0], [*parked[: meet[0]].tolist(), *wanted[meet[1] :].tolist()]

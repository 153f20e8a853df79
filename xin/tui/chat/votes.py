"""Which answer was best: candidates of a turn, names hidden until then, and what a vote keeps."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xin.sessions.records import NONE, TIE, Standing

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS = {TIE: "a tie", NONE: "none is good"}


@dataclass(slots=True)
class Candidate:
    """One pane's answer to the turn's question, with its figures where they are known."""

    pane: int
    model: str
    node: str = ""
    state: str = "done"
    ttft_ms: float | None = None
    thinking_ms: float | None = None
    tokens_per_second: float | None = None
    completion_tokens: int = 0
    exact: bool = True
    system: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """From sending to the end. The rate counts from the first token of any kind, thinking included."""
        if self.ttft_ms is None or not self.tokens_per_second:
            return None if self.ttft_ms is None else self.ttft_ms / 1e3
        first = (self.ttft_ms - (self.thinking_ms or 0)) / 1e3
        return first + max(self.completion_tokens - 1, 0) / self.tokens_per_second


class Blind:
    """Names and places of panes while a vote is blind: a letter each, in an order that tells nothing."""

    def __init__(self, panes: Iterable[int], *, seed: int | None = None) -> None:
        self.order = list(panes)
        random.Random(seed).shuffle(self.order)

    def name(self, pane: int) -> str:
        """A, B, C … by place; a pane that came later has none."""
        if pane not in self.order:
            return "?"
        return LETTERS[self.order.index(pane) % len(LETTERS)]

    def arranged(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        known = {candidate.pane: candidate for candidate in candidates}
        late = [one for pane, one in known.items() if pane not in self.order]
        return [known[pane] for pane in self.order if pane in known] + late


def ballot(candidates: Sequence[Candidate], question: str) -> list[dict[str, Any]]:
    """What the session keeps of each: enough to see later under which conditions it won or lost."""
    asked = hashlib.sha256(question.encode(errors="replace")).hexdigest()[:16]
    return [
        {
            "model": one.model,
            "node": one.node,
            "pane": one.pane,
            "prompt_sha256": asked,
            "system_sha256": hashlib.sha256(one.system.encode(errors="replace")).hexdigest()[:16] if one.system else "",
            "sampling": dict(one.sampling),
            "ttft_ms": one.ttft_ms,
            "tokens_per_second": one.tokens_per_second,
            "completion_tokens": one.completion_tokens,
        }
        for one in candidates
    ]


def record_of(standings: Iterable[Standing], model: str) -> str:
    """`3 won 1 lost 2 tied`, or nothing."""
    found = next((one for one in standings if one.model == model), None)
    return f"{found.wins} won  {found.losses} lost  {found.ties} tied" if found else ""

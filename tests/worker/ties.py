"""When may the same greedy request give another token in company than alone? Only at a tie that rounding can tip."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from xin.worker.frames import Delta

Step = tuple[Hashable, dict[Hashable, float]]  # the token chosen, and the logprobs of the likeliest ones


def assert_same_or_tied(name: str, solo: Sequence[Step], company: Sequence[Step]) -> bool:
    """True when all tokens are equal. Else the solo run's top-2 gap at the first other token must be at most twice the
    largest logprob difference on the equal prefix (rounding differs with the shape of a batch); it is printed."""
    assert solo and company
    largest = 0.0
    for place, ((mine, alone), (theirs, together)) in enumerate(zip(solo, company, strict=False)):
        if mine != theirs:
            first, second = sorted(alone.values(), reverse=True)[:2]
            print(f"{name}: token {place} differs, top-2 gap {first - second:.4f}, largest difference {largest:.4f}")
            assert first - second <= 2 * largest, f"{name}: {mine!r} became {theirs!r} without a tie"
            return False
        largest = max([largest, *(abs(alone[t] - value) for t, value in together.items() if t in alone)])
    return True


def steps_of(deltas: list[Delta]) -> list[Step]:
    notes = [note for delta in deltas for note in delta.logprobs or []]
    return [(note.token_id, {token: value for token, _, value in note.top}) for note in notes]

"""When may the same greedy request give another token in company than alone? Only at a tie that rounding can tip."""

from __future__ import annotations

from xin.worker.frames import Delta, TokenLogprob


def assert_same_or_tied(name: str, solo: list[Delta], company: list[Delta]) -> bool:
    """True when all tokens are equal. Else the solo run's top-2 gap at the first other token must be at most twice the
    largest logprob difference on the equal prefix (rounding differs with the shape of a batch); it is printed."""
    largest = 0.0
    for place, (mine, theirs) in enumerate(zip(tokens(solo), tokens(company), strict=False)):
        if mine.token_id != theirs.token_id:
            gap = mine.top[0][2] - mine.top[1][2]
            print(f"{name}: token {place} differs, top-2 gap {gap:.4f}, largest difference before {largest:.4f}")
            assert gap <= 2 * largest, f"{name}: {mine.piece!r} became {theirs.piece!r} without a tie"
            return False
        known = {token: value for token, _, value in mine.top}
        largest = max([largest, *(abs(known[t] - value) for t, _, value in theirs.top if t in known)])
    return True


def tokens(deltas: list[Delta]) -> list[TokenLogprob]:
    return [note for delta in deltas for note in delta.logprobs or []]

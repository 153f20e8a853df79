"""When may the same greedy request give another token in company than alone? Only at a tie that rounding can tip."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from xin.worker.frames import Delta

Step = tuple[Hashable, dict[Hashable, float]]  # the token chosen, and the logprobs of the likeliest ones
Pair = tuple[Sequence[Step], Sequence[Step]]  # alone, in company


def assert_same_or_tied(pairs: Mapping[str, Pair]) -> int:
    """How many runs are equal to the end. Where one is not, the solo run's top-2 gap at the first other token must be
    at most twice the largest logprob difference seen after the equal prefixes of all that ran together, since rounding
    differs with the shape of the batches that they shared. Each such place is printed."""
    assert pairs and all(alone and together for alone, together in pairs.values())
    equal = {name: _equal_prefix(*pair) for name, pair in pairs.items()}
    largest = max(_largest_difference(pairs[name], length + 1) for name, length in equal.items())
    for name, (alone, together) in pairs.items():
        place = equal[name]
        if place == min(len(alone), len(together)):
            continue
        first, second = sorted(alone[place][1].values(), reverse=True)[:2]
        print(f"{name}: token {place} differs, top-2 gap {first - second:.4f}, largest difference {largest:.4f}")
        assert first - second <= 2 * largest, f"{name}: {alone[place][0]!r} became {together[place][0]!r}: no tie"
    return sum(equal[name] == min(map(len, pair)) for name, pair in pairs.items())


def steps_of(deltas: list[Delta]) -> list[Step]:
    notes = [note for delta in deltas for note in delta.logprobs or []]
    return [(note.token_id, {token: value for token, _, value in note.top}) for note in notes]


def _equal_prefix(alone: Sequence[Step], together: Sequence[Step]) -> int:
    same = (mine == theirs for (mine, _), (theirs, _) in zip(alone, together, strict=False))
    return next((i for i, equal in enumerate(same) if not equal), min(len(alone), len(together)))


def _largest_difference(pair: Pair, length: int) -> float:
    differences = [
        abs(alone[token] - value)
        for (_, alone), (_, together) in zip(pair[0][:length], pair[1][:length], strict=True)
        for token, value in together.items()
        if token in alone
    ]
    return max(differences, default=0.0)

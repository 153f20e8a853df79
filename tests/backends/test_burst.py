"""Who came together: one after another without a long pause, and not for ever."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xin.backends.llama_cpp.burst import ALIKE, BURST_S, TOGETHER_S, Bursts, rests


def numbers(*arrivals: float) -> list[int]:
    bursts = Bursts()
    return [bursts.of(at) for at in arrivals]


def test_a_pause_ends_a_burst_and_a_slow_row_is_one():
    assert numbers(5.0, 5.02, 5.09, 5.3, 5.31) == [1, 1, 1, 2, 2]
    assert numbers(*(0.04 * i for i in range(10))) == [1] * 10
    assert numbers(1.0, 1.0, 1.0) == [1, 1, 1]


def test_who_keeps_coming_is_not_one_burst_for_ever():
    assert max(numbers(*(0.05 * i for i in range(100)))) >= 100 * 0.05 / (BURST_S + TOGETHER_S)


@given(st.lists(st.floats(0, 0.3), max_size=60))
def test_no_burst_is_longer_than_it_may_be_and_numbers_rise(gaps: list[float]):
    at, arrivals = 0.0, []
    for gap in gaps:
        at += gap
        arrivals.append(at)
    found = numbers(*arrivals)
    assert found == sorted(found)
    for number in set(found):
        times = [time for time, one in zip(arrivals, found, strict=True) if one == number]
        assert times[-1] - times[0] < BURST_S
        assert all(later - earlier < TOGETHER_S for earlier, later in pairwise(times))


def one(burst: int = 1, said: int = 0, unread: int = 60) -> Any:
    return SimpleNamespace(burst=burst, said=said, unread=unread)


def test_who_was_a_moment_ahead_rests_until_its_burst_is_read():
    assert rests([one(said=1)], [one(), one()])
    assert rests([one(said=1), one(said=1)], [one()])
    assert not rests([one(said=2)], [one()])
    assert not rests([one(said=1, burst=1)], [one(burst=2)])
    assert not rests([one(said=1), one(said=30)], [one()])
    assert not rests([one(said=1, unread=60)], [one(unread=60 * ALIKE + 1)])

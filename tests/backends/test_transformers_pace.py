"""How much of a prompt a step reads, by what its passes took."""

from __future__ import annotations

from xin.backends.transformers.pace import ALONE_TARGET_S, FEWEST, LONGEST_GAP_S, STREAMING_TARGET_S, Pace


def measured(pass_seconds: float, seconds_per_token: float, most: int = 2048) -> Pace:
    pace = Pace(most)
    for _ in range(60):
        pace.record_decode(pass_seconds)
        pace.record(pass_seconds + 100 * seconds_per_token, 100)
    return pace


def test_a_slice_and_its_pass_take_the_target() -> None:
    pace = measured(0.06, 0.002)
    assert pace.chunk(STREAMING_TARGET_S) in (49, 50) and pace.chunk(ALONE_TARGET_S) in (119, 120)
    assert pace.seconds(pace.chunk(STREAMING_TARGET_S)) <= STREAMING_TARGET_S < ALONE_TARGET_S


def test_where_a_pass_alone_is_too_long_half_of_the_time_goes_to_tokens() -> None:
    pace = measured(0.5, 0.005)
    assert pace.chunk(STREAMING_TARGET_S) in (99, 100) and pace.chunk(STREAMING_TARGET_S) == pace.chunk(ALONE_TARGET_S)


def test_beside_streams_the_slice_and_their_own_pass_fit_the_longest_gap_where_they_can() -> None:
    for passes in (0.01, 0.06, 0.12, 0.15):
        pace = measured(passes, 0.002)
        tokens = pace.chunk(STREAMING_TARGET_S, beside=True)
        assert tokens >= passes / 0.002 / 2 - 1
        assert passes + pace.seconds(tokens) <= LONGEST_GAP_S + 0.002
    slow = measured(0.5, 0.005)
    assert slow.chunk(STREAMING_TARGET_S, beside=True) in (49, 50)


def test_there_is_a_least_and_a_most() -> None:
    assert measured(0.01, 0.5).chunk(STREAMING_TARGET_S) == FEWEST
    assert measured(0.001, 1e-6, most=512).chunk(STREAMING_TARGET_S) == 512

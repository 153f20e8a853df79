"""How long a step beside running streams may be: by what steps took, and by how much that varies."""

import pytest

from xin.backends.llama_cpp.pace import FLASH_TILE, STREAMING_LEAST_S, STREAMING_LIMIT_S, Pace


def paced(*per_token: float, times: int = 40) -> Pace:
    """After steps alone and beside streams that cost so much."""
    pace = Pace(first_guess_s=0.008)
    for decoding in (0, 3):
        for _ in range(times):
            for seconds in per_token:
                pace.chunk(decoding, 512)
                pace.record(20 * seconds, 20)
    return pace


def test_on_a_steady_machine_a_step_uses_nearly_the_whole_limit() -> None:
    tokens = paced(0.008).chunk(decoding=3, limit=512)
    assert 0.9 * STREAMING_LIMIT_S < (tokens + 3) * 0.008 <= STREAMING_LIMIT_S


def test_on_a_restless_machine_steps_are_shorter_but_prompts_get_on() -> None:
    steady, restless = paced(0.008), paced(0.006, 0.010)
    assert restless.chunk(3, 512) < steady.chunk(3, 512)
    wild = paced(0.001, 0.030)
    assert (wild.chunk(3, 512) + 4) * wild.seconds_per_token >= STREAMING_LEAST_S


def test_alone_a_prompt_is_read_by_tiles_of_flash_attention_unless_that_takes_too_long() -> None:
    assert paced(0.007).chunk(decoding=0, limit=512) == FLASH_TILE
    assert paced(0.0001).chunk(decoding=0, limit=512) == 512
    assert paced(0.05).chunk(decoding=0, limit=512) == 6


@pytest.mark.parametrize("decoding", [1, 30])
def test_a_slow_machine_still_reads_as_many_prompt_tokens_as_it_decodes(decoding: int) -> None:
    assert paced(1.0).chunk(decoding, 512) == max(4, decoding)


def test_a_decode_step_says_nothing_about_prompts() -> None:
    pace = paced(0.008)
    pace.record(1.0, 4)
    assert pace.seconds_per_token == pytest.approx(0.008)


def test_steps_beside_streams_are_counted_by_themselves_and_the_first_is_careful() -> None:
    pace = Pace(first_guess_s=0.008)
    for _ in range(40):
        pace.chunk(0, 512)
        pace.record(64 * 0.006, 64)
    first = pace.chunk(3, 512)
    assert (first + 3) * 0.006 * 1.3 < STREAMING_LIMIT_S
    for _ in range(40):
        pace.chunk(3, 512)
        pace.record(20 * 0.007, 20)
    assert pace.chunk(3, 512) > first
    assert pace.seconds_per_token == pytest.approx(0.006)

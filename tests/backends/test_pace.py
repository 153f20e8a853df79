"""How long a step beside running streams may be: by what steps took, and by how much that varies."""

import pytest

from xin.backends.llama_cpp.pace import FLASH_TILE, MIN_CHUNK, STREAMING_LEAST_S, STREAMING_LIMIT_S, Pace

DECODING_S = 0.01  # of a step, for each stream


def seconds(streams: int, prompt: int, per_token: float = 0.008) -> float:
    return streams * DECODING_S + prompt * per_token


def paced(*per_token: float, times: int = 40) -> Pace:
    """After steps of prompts alone, of three streams alone, and of both, at each of these prices in turn."""
    pace = Pace(first_guess_s=0.008)
    for streams, prompt in ((0, 20), (3, 0), (3, 20)):
        for _ in range(times):
            for price in per_token:
                pace.record(seconds(streams, prompt, price), streams, prompt)
    return pace


def test_on_a_steady_machine_a_step_uses_nearly_the_whole_limit() -> None:
    tokens = paced(0.008).chunk(streams=3, limit=512)
    assert 0.9 * STREAMING_LIMIT_S < seconds(3, tokens) <= STREAMING_LIMIT_S


def test_on_a_restless_machine_steps_are_shorter_but_prompts_get_on() -> None:
    steady, restless = paced(0.008), paced(0.006, 0.010)
    assert restless.chunk(3, 512) < steady.chunk(3, 512)
    wild = paced(0.001, 0.030)
    assert seconds(3, wild.chunk(3, 512) + 1, 0.030) >= STREAMING_LEAST_S


def test_one_step_that_was_held_up_makes_the_next_ones_shorter_for_a_while_only() -> None:
    pace = paced(0.008)
    before = pace.chunk(3, 512)
    pace.record(5.0, 3, before)
    assert pace.chunk(3, 512) == MIN_CHUNK
    for _ in range(60):
        prompt = pace.chunk(3, 512)
        pace.record(seconds(3, prompt), 3, prompt)
    assert pace.chunk(3, 512) >= before - 1


def test_streams_that_take_most_of_a_step_do_not_make_prompt_tokens_dear() -> None:
    few, many = paced(0.008), paced(0.008)
    for _ in range(40):
        many.record(seconds(16, 0), 16, 0)
        many.record(seconds(16, 5), 16, 5)
    assert many.chunk(3, 512) == pytest.approx(few.chunk(3, 512), abs=1)


def test_alone_a_prompt_is_read_by_tiles_of_flash_attention_unless_that_takes_too_long() -> None:
    assert paced(0.007).chunk(streams=0, limit=512) == FLASH_TILE
    assert paced(0.012).chunk(streams=0, limit=512) == FLASH_TILE
    assert paced(0.0001).chunk(streams=0, limit=512) == 512
    assert paced(0.03).chunk(streams=0, limit=512) == FLASH_TILE  # a long context makes each token so dear
    assert paced(0.05).chunk(streams=0, limit=512) == 40


@pytest.mark.parametrize("streams", [1, 30])
def test_a_slow_machine_still_reads_as_many_prompt_tokens_as_it_decodes(streams: int) -> None:
    assert paced(1.0).chunk(streams, 512) == max(MIN_CHUNK, streams)


def test_a_decode_step_and_a_prompts_last_token_say_nothing_about_prompts() -> None:
    pace = paced(0.008)
    pace.record(1.0, 4, 0)
    pace.record(1.0, 0, 1)
    assert pace.seconds_per_token == pytest.approx(0.008)


def test_the_first_step_beside_streams_is_careful() -> None:
    pace = Pace(first_guess_s=0.008)
    for _ in range(40):
        pace.record(64 * 0.006, 0, 64)
        pace.record(seconds(3, 0), 3, 0)
    first = pace.chunk(3, 512)
    assert seconds(3, first, 0.006 * 1.3) < STREAMING_LIMIT_S
    for _ in range(40):
        pace.record(seconds(3, 20, 0.007), 3, 20)
    assert pace.chunk(3, 512) > first
    assert pace.seconds_per_token == pytest.approx(0.006)

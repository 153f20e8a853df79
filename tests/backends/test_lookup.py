"""Prompt lookup: its guesses, its price, and that it changes how fast an answer comes, never which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xin.backends.base import Output, Request, Weights
from xin.backends.llama_cpp.lookup import NGRAM, Lookup
from xin.backends.llama_cpp.step_cost import StepCost
from xin.worker.frames import Constraint, Sampling

LIST = "\n".join(f"{number}. apple {number}" for number in range(1, 12))
PROMPT = f"Copy this list exactly:\n{LIST}\n\nThe copy:\n1. apple 1\n2. apple 2\n"


def test_what_followed_the_same_tokens_is_the_guess():
    lookup = Lookup([1, 2, 3, 4, 5, 6, 9, 1, 2, 3])
    assert lookup.guess(3) == [4, 5, 6]
    assert lookup.guess(1) == [4]
    assert lookup.guess(0) == []


def test_a_text_that_goes_round_goes_on_going_round():
    assert Lookup([7, 1, 2, 1, 2, 1, 2, 1]).guess(5) == [2, 1, 2, 1, 2]


def test_nothing_is_guessed_of_what_was_not_there():
    assert Lookup([1, 2, 3, 4]).guess(4) == []
    assert Lookup([1, 2]).guess(4) == []


def test_a_passage_is_followed_and_left_where_it_differs():
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]
    lookup = Lookup(tokens)
    tokens.append(4)
    lookup.follow()
    assert lookup.guess(2) == [5, 6]
    tokens += [5, 6]
    lookup.follow()
    right = lookup.accuracy  # of a passage that was right three times running
    tokens.append(99)
    lookup.follow()
    assert lookup.guess(2) == []
    assert lookup.accuracy < right


@given(st.lists(st.integers(0, 3), max_size=80), st.lists(st.integers(0, 3), max_size=40), st.integers(0, 12))
def test_a_guess_follows_an_earlier_equal_end_and_keeps_its_length(prompt: list[int], reply: list[int], most: int):
    lookup = Lookup(prompt)
    for token in reply:
        prompt.append(token)
        lookup.follow()
        assert 0.0 <= lookup.accuracy <= 1.0
        guess = lookup.guess(most)
        assert len(guess) <= most
        if guess:
            end = prompt[-NGRAM:]
            places = range(NGRAM, len(prompt))
            assert any(prompt[at - NGRAM : at] == end and prompt[at] == guess[0] for at in places)


def cost(plain: float, each: float) -> StepCost:
    made = StepCost()
    for _ in range(30):
        made.record(1, 0, plain)
        made.record(1, 4, plain + 4 * each)
    return made


def test_cheap_guesses_are_drafted_and_dear_ones_are_not():
    cheap, dear = cost(0.010, 0.0005), cost(0.010, 0.0100)
    assert cheap.draft(1, 0, 31, 0.95) >= 7
    assert cheap.draft(1, 0, 5, 0.95) == 5
    assert cheap.draft(1, 0, 31, 0.02) == 0
    assert dear.draft(1, 0, 31, 0.99) == 0
    assert cheap.of(1, 10) == pytest.approx(0.015, rel=0.05)


def test_a_price_that_was_never_seen_is_tried_then_known_and_long_after_doubted():
    made = StepCost()
    assert made.draft(1, 0, 31, 0.9) == 0  # not even a plain step was seen
    made.record(1, 0, 0.010)
    assert made.draft(1, 0, 31, 0.9) > 0
    for _ in range(20):
        made.record(1, 5, 0.060)
    assert made.draft(1, 0, 31, 0.9) == 0
    for _ in range(1000):
        made.record(1, 0, 0.010)
    assert made.draft(1, 0, 31, 0.9) > 0


def test_one_step_that_was_held_up_does_not_end_the_drafts():
    made = cost(0.010, 0.002)
    before = made.draft(1, 0, 15, 0.9)
    made.record(1, 3, 2.0)
    assert 0 < made.draft(1, 0, 15, 0.9) <= before


class AlwaysSeven(StepCost):
    def draft(self, streams: int, already: int, most: int, accuracy: float) -> int:
        return min(7, most)


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[Any]:
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    options = LlamaCppEngine.Options(context_length=512, n_parallel=2, kv_cells=512, prefix_cache=0, threads=1)
    made = LlamaCppEngine.load(Weights([str(smollm2)], "smollm2"), options, lambda fraction, stage: None)
    yield made
    made.close()


ids = iter(range(1, 10_000))


def generate(engine: Any, draft: bool, prompts: list[str], max_tokens: int = 24, **fields: Any) -> list[list[Output]]:
    """The outputs of each prompt; `draft`: guesses ride in every step that can take them."""
    drafter = engine._scheduler._drafter
    drafter._enabled, drafter._cost = draft, AlwaysSeven()
    return run(engine, prompts, fields.pop("sampling", Sampling(temperature=0.0)), max_tokens, **fields)


def run(engine: Any, prompts: Sequence[str], sampling: Sampling, max_tokens: int, **fields: Any) -> list[list[Output]]:
    """The outputs of each prompt, all of which are asked at once; what was drafted is counted anew."""
    drafter = engine._scheduler._drafter
    drafter.drafted = drafter.accepted = 0
    requests = [
        Request(next(ids), engine.tokenize(prompt, True, False), sampling, max_tokens, logprobs=2, **fields)
        for prompt in prompts
    ]
    for request in requests:
        engine.submit(request)
    found: dict[int, list[Output]] = {request.id: [] for request in requests}
    while engine.busy():
        for output in engine.step():
            assert output.error is None
            found[output.request_id].append(output)
    return [found[request.id] for request in requests]


def tokens(outputs: list[Output]) -> list[int]:
    return [one.token_id for output in outputs for one in output.logprobs or ()]


def assert_same_but_for_a_tie(drafted: list[Output], plain: list[Output], within: float = 0.05) -> None:
    """Rows computed together differ in their last bits: only where the best two are that close may the token differ."""
    ours, theirs = tokens(drafted), tokens(plain)
    for at, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            best, second = [logprob for _, _, logprob in (plain[at].logprobs or [])[0].top[:2]]
            assert best - second < within, f"token {at}: {one} for {other}, {best - second:.3f} apart"
            return
    assert len(ours) == len(theirs)


def test_an_answer_with_drafts_is_the_answer_without(engine: Any):
    (plain,) = generate(engine, False, [PROMPT])
    assert engine._scheduler._drafter.drafted == 0
    (drafted,) = generate(engine, True, [PROMPT])
    drafter = engine._scheduler._drafter
    assert drafter.accepted >= 10
    assert_same_but_for_a_tie(drafted, plain)


def test_what_was_guessed_wrongly_leaves_no_trace(engine: Any):
    prompt = "The old man had a dog. The old man had a boat. The old man had a house. One day the old man"
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    (plain,) = generate(engine, False, [prompt], max_tokens=40, sampling=sampling)
    (drafted,) = generate(engine, True, [prompt], max_tokens=40, sampling=sampling)
    drafter = engine._scheduler._drafter
    assert drafter.drafted > drafter.accepted
    assert_same_but_for_a_tie(drafted, plain)


def test_two_streams_with_drafts_do_not_mix(engine: Any):
    other = PROMPT.replace("apple", "pear")
    plain = [generate(engine, False, [prompt])[0] for prompt in (PROMPT, other)]
    for drafted, alone in zip(generate(engine, True, [PROMPT, other]), plain, strict=True):
        assert_same_but_for_a_tie(drafted, alone)


@pytest.mark.parametrize("most", [1, 10, 11])
def test_max_tokens_is_kept_to_the_token(engine: Any, most: int):
    (outputs,) = generate(engine, True, [PROMPT], max_tokens=most, sampling=Sampling(temperature=0.0, ignore_eos=True))
    assert sum(output.tokens for output in outputs) == most
    assert outputs[-1].finish_reason == "length"
    assert all(output.finish_reason is None for output in outputs[:-1])


def test_a_stop_token_within_a_draft_ends_the_answer(engine: Any):
    (free,) = generate(engine, True, [PROMPT])
    stop = tokens(free)[7]
    (outputs,) = generate(engine, True, [PROMPT], stop_token_ids=frozenset({stop}))
    assert outputs[-1].finish_reason == "stop"
    assert tokens(outputs) == tokens(free)[: tokens(free).index(stop)]


def test_a_seed_is_left_alone_and_gives_its_answer_again(engine: Any):
    sampling = Sampling(temperature=0.8, seed=5)
    first, again = (tokens(generate(engine, True, [PROMPT], sampling=sampling)[0]) for _ in range(2))
    assert first == again
    assert engine._scheduler._drafter.drafted == 0


def test_a_constraint_holds_with_drafts(engine: Any):
    constraint = Constraint("regex", r"(ab){12}")
    compiled = engine.compile(constraint)
    (outputs,) = generate(engine, True, ["ababab"], constraint=constraint, compiled=compiled)
    assert b"".join(output.piece for output in outputs) == b"ab" * 12


def test_drafts_never_cost_a_stream_its_last_cells(engine: Any):
    """Two streams that fill the 512 cells to the last one end as they would without drafts."""
    prompts = [PROMPT + "x " * 110, PROMPT + "y " * 110]
    room = 256 - max(len(engine.tokenize(prompt, True, False)) for prompt in prompts)
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    for outputs in generate(engine, True, prompts, max_tokens=room, sampling=sampling):
        assert sum(output.tokens for output in outputs) == room

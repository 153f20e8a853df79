"""Long prompts beside running streams: read by a second context, between whose layers the streams get on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from ties import assert_same_or_tied, steps_of

from xin.backends.base import Output, Request, Weights
from xin.backends.llama_cpp import engine as engine_module
from xin.worker.frames import Sampling

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
STORY = "The old mill stood where the river bends, and every spring the children came to see the wheel turn. "
ids = iter(range(1, 1000))


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[Any]:
    with_reader = engine_of(smollm2)
    yield with_reader
    with_reader.close()


@pytest.fixture(autouse=True)
def fresh(engine: Any) -> Iterator[None]:
    yield
    for sequence in [*engine._scheduler._running, *engine._scheduler._waiting]:
        engine.cancel(sequence.request.id)
    engine._scheduler.deliver = None
    engine._scheduler._cache._parked.clear()


def engine_of(smollm2: Path, **options: Any) -> Any:
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    made = LlamaCppEngine.Options(context_length=1024, n_parallel=3, threads=2, prompt_lookup=False, **options)
    return LlamaCppEngine.load(Weights([str(smollm2)], "smollm2"), made, lambda fraction, stage: None)


def request(engine: Any, text: str, tokens: int = 12) -> Request:
    return Request(next(ids), engine.tokenize(text, True, False), GREEDY, tokens, logprobs=5)


def of(outputs: list[Output], asked: Request) -> Any:
    """What was said to it, as `assert_same_or_tied` wants it."""
    return steps_of([output for output in outputs if output.request_id == asked.id])


def answer(engine: Any, asked: Request) -> Any:
    engine.submit(asked)
    outputs: list[Output] = []
    while engine.busy():
        outputs += engine.step()
    return of(outputs, asked)


def streaming(engine: Any, tokens: int = 300) -> tuple[Request, list[Output]]:
    """A stream that has begun, and what it has said."""
    stream = request(engine, "Once upon a time", tokens)
    engine.submit(stream)
    said: list[Output] = []
    while len(said) < 3:
        said += engine.step()
    return stream, said


def until_read(engine: Any) -> list[Output]:
    """Steps until the reader has something worth keeping."""
    outputs: list[Output] = []
    while engine._scheduler._reader.sequence is None or engine._scheduler._reader.done < 32:
        outputs += engine.step()
    return outputs


def test_the_streams_get_on_within_the_steps_of_the_long_prompt_and_both_answers_stay_what_they_were(engine: Any):
    long = request(engine, STORY * 20)
    alone = answer(engine, request(engine, STORY * 20))
    engine._scheduler._cache._parked.clear()
    tale = answer(engine, request(engine, "Once upon a time", 60))
    engine._scheduler._cache._parked.clear()
    stream, said = streaming(engine, 60)
    within: list[int] = []

    def deliver(outputs: list[Output]) -> None:
        said.extend(outputs)
        within.append(engine._scheduler._reader.done)

    engine.deliver_to(deliver)
    engine.submit(long)
    while engine.busy():
        said += engine.step()
    assert_same_or_tied({"long": (alone, of(said, long)), "stream": (tale, of(said, stream))})
    assert len(of(said, long)) == 12 and len(of(said, stream)) == 60
    chunks = len(set(within))
    assert chunks > 2 and len(within) > chunks, within  # more than once within a step of the reader's
    assert engine._scheduler._reader.sequence is None


def test_what_is_short_or_alone_is_read_as_ever(engine: Any):
    engine.submit(request(engine, STORY * 20, 2))
    while engine.busy():
        engine.step()
        assert engine._scheduler._reader.sequence is None
    streaming(engine)
    engine.submit(request(engine, STORY * 2, 2))
    for _ in range(20):
        engine.step()
        assert engine._scheduler._reader.sequence is None


def test_a_cancelled_prompt_frees_its_slot_and_what_was_read_of_it_is_kept(engine: Any):
    stream, _ = streaming(engine)
    long = request(engine, STORY * 20)
    engine.submit(long)
    until_read(engine)
    read = engine._scheduler._reader.done
    engine.cancel(long.id)
    assert engine._scheduler._reader.sequence is None and engine.load_now().running == 1
    again = request(engine, STORY * 20)
    engine.submit(again)
    outputs: list[Output] = []
    while not any(output.request_id == again.id for output in outputs):
        outputs += engine.step()
    first = next(output for output in outputs if output.request_id == again.id)
    assert first.cached_tokens is not None and first.cached_tokens >= read - 1
    assert any(output.request_id == stream.id for output in outputs)


def test_a_prompt_whose_sender_has_left_ends_in_the_middle_of_a_step(engine: Any):
    streaming(engine)
    long = request(engine, STORY * 20)
    engine.submit(long)
    until_read(engine)
    read = engine._scheduler._reader.done
    engine._scheduler._reader._due = 0.0
    engine.deliver_to(lambda outputs: engine.interrupt(long.id))
    engine.step()
    assert engine._scheduler._reader.done == read
    engine.cancel(long.id)
    engine._scheduler.deliver = None
    assert any(output.piece for _ in range(3) for output in engine.step())  # the stream goes on


def test_a_turn_of_a_conversation_takes_what_is_computed_along(engine: Any):
    first = request(engine, STORY * 8)
    answer(engine, first)
    longer = request(engine, STORY * 22)
    alone = answer(engine, request(engine, STORY * 22))
    engine._scheduler._cache._parked.clear()
    answer(engine, first)
    streaming(engine)
    outputs = []
    engine.submit(longer)
    handed = False
    while not any(output.request_id == longer.id and output.finish_reason for output in outputs):
        outputs += engine.step()
        reading = engine._scheduler._reader.sequence
        handed = handed or (reading is not None and reading.computed >= len(first.tokens) - 1)
    assert handed
    assert_same_or_tied({"longer": (alone, of(outputs, longer))})


def test_whoever_shares_a_prefix_that_is_being_read_waits_for_it(engine: Any):
    streaming(engine)
    long, alike = request(engine, STORY * 20 + "It was"), request(engine, STORY * 20 + "They were")
    engine.submit(long)
    until_read(engine)
    engine.submit(alike)
    outputs: list[Output] = []
    while not all(any(output.request_id == asked.id for output in outputs) for asked in (long, alike)):
        outputs += engine.step()
    first = next(output for output in outputs if output.request_id == alike.id)
    assert first.cached_tokens is not None and first.cached_tokens > 300


def test_what_fails_between_the_layers_is_not_swallowed(engine: Any):
    streaming(engine)
    engine.submit(request(engine, STORY * 20))
    until_read(engine)
    engine._scheduler._reader._due = 0.0

    def broken(outputs: list[Output]) -> None:
        raise RuntimeError("the pipe is closed")

    engine.deliver_to(broken)
    with pytest.raises(RuntimeError, match="pipe"):
        engine.step()


def test_where_ram_is_short_long_prompts_are_read_in_the_streams_steps_and_the_log_says_so(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(engine_module, "free_memory", lambda: 1_000_000)
    caplog.set_level(logging.INFO)
    engine = engine_of(smollm2)
    alone = answer(engine, request(engine, STORY * 10))
    engine._scheduler._cache._parked.clear()
    _, said = streaming(engine, 60)
    long = request(engine, STORY * 10)
    engine.submit(long)
    while engine.busy():
        said += engine.step()
        assert engine._scheduler._reader.sequence is None
    engine.close()
    assert_same_or_tied({"long": (alone, of(said, long))})
    assert "too little RAM" in caplog.text


def test_no_reader_by_option(smollm2: Path):
    engine = engine_of(smollm2, reader_cells=0)
    streaming(engine)
    engine.submit(request(engine, STORY * 10, 2))
    for _ in range(4):
        engine.step()
        assert engine._scheduler._reader.sequence is None
    engine.close()

"""A step that works for one request alone ends in the middle when that request is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xin.backends.base import Request, Weights
from xin.worker.frames import Sampling

GREEDY = Sampling(temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[Any]:
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    options = LlamaCppEngine.Options(context_length=1024, n_parallel=2, prefix_cache=0, threads=1)
    made = LlamaCppEngine.load(Weights([str(smollm2)], "smollm2"), options, lambda fraction, stage: None)
    yield made
    made.close()


ids = iter(range(1, 1000))


def request(engine: Any, text: str, tokens: int = 12) -> Request:
    return Request(next(ids), engine.tokenize(text, True, False), GREEDY, tokens)


def answer(engine: Any, asked: Request) -> bytes:
    engine.submit(asked)
    pieces = b""
    while engine.busy():
        pieces += b"".join(output.piece for output in engine.step() if output.request_id == asked.id)
    return pieces


@contextmanager
def keeping_on(act: Any) -> Iterator[None]:
    """`act` is called over and over from another thread."""
    over = threading.Event()

    def keep_on() -> None:
        while not over.wait(0.001):
            act()

    thread = threading.Thread(target=keep_on)
    thread.start()
    yield
    over.set()
    thread.join()


def step_while(engine: Any, act: Any) -> list[Any]:
    """One step that computes, with `act` called over and over from another thread meanwhile."""
    outputs: list[Any] = []
    with keeping_on(act):
        while engine._scheduler._running == [] and engine._scheduler._waiting:
            outputs = engine.step()
    return outputs


def test_an_interrupted_step_leaves_nothing_behind(engine: Any):
    before = answer(engine, request(engine, "The capital of France is"))
    long = request(engine, "one two three " * 250)
    engine.submit(long)
    assert step_while(engine, lambda: engine.interrupt(long.id)) == []
    [sequence] = engine._scheduler._running
    assert sequence.computed == 0 and sequence.fed > 0  # it was at work, and none of it counts
    engine.cancel(long.id)
    assert not engine.busy()
    assert answer(engine, request(engine, "The capital of France is")) == before


def test_one_that_is_not_cancelled_after_all_is_computed_anew(engine: Any):
    alone = answer(engine, request(engine, "one two three " * 60))
    again = request(engine, "one two three " * 60)
    engine.submit(again)
    assert step_while(engine, lambda: engine.interrupt(again.id)) == []
    pieces = b""
    while engine.busy():
        pieces += b"".join(output.piece for output in engine.step())
    assert pieces == alone


def test_a_step_of_prompts_is_done_again_once_for_one_that_leaves(engine: Any):
    first, second = request(engine, "one two three " * 30), request(engine, "red green blue " * 6)
    engine.submit(first)
    engine.submit(second)
    step_while(engine, lambda: engine.interrupt(first.id))
    assert sum(sequence.computed for sequence in engine._scheduler._running) == 0
    assert len(engine._scheduler._running) == 2
    with keeping_on(lambda: engine.interrupt(first.id)):
        engine.step()
    assert sum(sequence.computed for sequence in engine._scheduler._running) > 0  # not twice in a row
    engine.cancel(first.id)
    engine.cancel(second.id)
    assert not engine.busy()


def test_a_step_that_a_stream_shares_goes_on(engine: Any):
    stream, prompt = request(engine, "The capital of France is", 50), request(engine, "one two three " * 8)
    engine.submit(stream)
    said = 0
    while said < 3:  # with its first token alone it would rest for who came with it
        said += sum(output.tokens for output in engine.step())
    engine.submit(prompt)
    outputs: list[Any] = []
    with keeping_on(lambda: engine.interrupt(prompt.id)):
        for _ in range(4):
            outputs += engine.step()
    assert sum(output.tokens for output in outputs if output.request_id == stream.id) == 4
    engine.cancel(stream.id)
    engine.cancel(prompt.id)
    assert not engine.busy()

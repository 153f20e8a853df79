"""A step that works for one request alone ends in the middle when that request is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
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


def step_while(engine: Any, act: Any) -> list[Any]:
    """One step that computes, with `act` called over and over from another thread meanwhile."""
    over = threading.Event()

    def keep_on() -> None:
        while not over.is_set():
            act()
            time.sleep(0.001)

    thread = threading.Thread(target=keep_on)
    while engine._scheduler._running == [] and engine._scheduler._waiting:
        thread = thread if thread.is_alive() else threading.Thread(target=keep_on)
        if not thread.is_alive():
            thread.start()
        outputs: list[Any] = engine.step()
    over.set()
    thread.join()
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


def test_a_step_that_others_share_goes_on(engine: Any):
    first, second = request(engine, "one two three " * 30), request(engine, "red green blue " * 6)
    engine.submit(first)
    engine.submit(second)
    step_while(engine, lambda: engine.interrupt(first.id))
    assert sum(sequence.computed for sequence in engine._scheduler._running) > 0
    engine.cancel(first.id)
    engine.cancel(second.id)
    assert not engine.busy()

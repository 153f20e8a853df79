"""The engine contract: what a node may rely on, for every engine, in a real worker process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from ties import assert_same_or_tied, steps_of
from tiny_causal import write_chain
from tiny_chatglm import write_tiny
from worker_process import WorkerProcess

from xin.worker.frames import (
    Accepted,
    Cancel,
    Close,
    Deltas,
    Detokenize,
    Done,
    Embed,
    Failed,
    Generate,
    Result,
    Sampling,
    SetThreads,
    Stats,
    Tokenize,
)

GREEDY = Sampling(temperature=0.0)
LONG = "one two three four five six seven eight nine ten " * 12
ENGINES = ["echo", "llama.cpp", "transformers", "chatglm.cpp"]
WITHOUT_LOGPROBS = WITHOUT_EMBEDDINGS = {"chatglm.cpp"}


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chain(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def tiny_chatglm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "chatglm3.bin"
    write_tiny(path, "chatglm3", mode="random")
    return path


@pytest.fixture(scope="module", params=ENGINES)
def worker(request: pytest.FixtureRequest) -> Iterator[WorkerProcess]:
    engine: str = request.param
    with make(engine, request) as process:
        process.ready()
        yield process


def make(engine: str, request: pytest.FixtureRequest) -> WorkerProcess:
    if engine == "echo":
        return WorkerProcess("echo", tokens_per_second=200.0, ttft_ms=20.0)
    if engine == "transformers":
        folder: Path = request.getfixturevalue("tiny_llama")
        return WorkerProcess("transformers", [str(folder)], context_length=2048, n_parallel=4, n_batch=64)
    if engine == "chatglm.cpp":
        return WorkerProcess("chatglm.cpp", [str(request.getfixturevalue("tiny_chatglm"))])
    path: Path = request.getfixturevalue("smollm2")
    return WorkerProcess("llama.cpp", [str(path)], context_length=1024, n_parallel=4)


def chat(request_id: int, text: str = LONG, **fields: object) -> Generate:
    fields.setdefault("sampling", GREEDY)
    return Generate(request_id, messages=[{"role": "user", "content": text}], **fields)  # type: ignore[arg-type]


def test_a_generation_is_accepted_streamed_and_counted(worker: WorkerProcess) -> None:
    worker.send(chat(1, max_tokens=8))
    accepted = worker.until(Accepted, Failed)
    assert isinstance(accepted, Accepted) and accepted.prompt_tokens > 0
    tokens = 0
    while not isinstance(frame := worker.until(Deltas, Done), Done):
        tokens += sum(item.tokens for item in frame.items)
    assert tokens == frame.completion_tokens == 8
    assert frame.finish_reason == "length"


def test_temperature_zero_repeats_itself(worker: WorkerProcess) -> None:
    assert worker.text(chat(2, "Name three colours.", max_tokens=12)) == worker.text(
        chat(3, "Name three colours.", max_tokens=12)
    )


def test_choices_of_one_request_have_their_own_index(worker: WorkerProcess) -> None:
    found = worker.collect(chat(4, max_tokens=6, n=3))
    assert sorted(found) == [(4, 0), (4, 1), (4, 2)]
    assert all(done.completion_tokens == 6 for _, done in found.values())


def test_requests_run_together_without_cross_talk(worker: WorkerProcess) -> None:
    texts = [f"Tell me about the number {i}, please." for i in range(6)]
    if worker.engine in WITHOUT_LOGPROBS:
        texts = [f"{i}: {text}" for i, text in enumerate(texts[:3])]
        alone = [worker.text(chat(10 + i, text, max_tokens=10)) for i, text in enumerate(texts)]
        found = worker.collect(*(chat(20 + i, text, max_tokens=10) for i, text in enumerate(texts)))
        assert ["".join(delta.text for delta in found[(20 + i, 0)][0]) for i in range(3)] == alone
        assert len(set(alone)) > 1
        return
    solo = [worker.collect(chat(10 + i, text, max_tokens=16, logprobs=20)) for i, text in enumerate(texts)]
    both = worker.collect(*(chat(20 + i, text, max_tokens=16, logprobs=20) for i, text in enumerate(texts)))
    assert_same_or_tied(
        {text: (steps_of(solo[i][(10 + i, 0)][0]), steps_of(both[(20 + i, 0)][0])) for i, text in enumerate(texts)}
    )


def test_cancel_while_decoding_ends_the_request_at_once(worker: WorkerProcess) -> None:
    worker.send(chat(30, max_tokens=400))
    worker.until(Deltas)
    started = time.monotonic()
    worker.send(Cancel(30))
    done = worker.until(Done)
    assert done.finish_reason == "cancelled"
    assert time.monotonic() - started < 5
    assert worker.collect(chat(31, max_tokens=2))[(31, 0)][1].finish_reason in ("length", "stop")


def test_cancel_before_the_first_token_ends_the_request(worker: WorkerProcess) -> None:
    worker.send(chat(32, LONG * 3, max_tokens=8), Cancel(32))
    worker.send(chat(33, "hello", max_tokens=2))
    finished = {}
    while len(finished) < 2:
        frame = worker.until(Done, Failed)
        finished[frame.request_id] = frame
    assert finished[32].finish_reason == "cancelled"


def test_a_stop_string_ends_the_text_before_it(worker: WorkerProcess) -> None:
    whole = worker.text(chat(40, max_tokens=24))
    stop = whole.strip()[4:9]
    found, done = worker.collect(chat(41, max_tokens=24, stop=[stop]))[(41, 0)]
    text = "".join(delta.text for delta in found)
    assert stop not in text and whole.startswith(text)
    assert (done.finish_reason, done.stop_text) == ("stop", stop)


def test_a_prompt_over_the_window_is_refused_before_it_is_accepted(worker: WorkerProcess) -> None:
    worker.send(chat(50, LONG * 200))
    frame = worker.until(Accepted, Failed)
    assert isinstance(frame, Failed) and frame.code == "context_length_exceeded" and frame.request_id == 50


def test_tokens_there_and_back(worker: WorkerProcess) -> None:
    worker.send(Tokenize(60, text="Grüße, 世界 👩‍🚀!", add_special=False))
    tokens = worker.until(Result).tokens
    worker.send(Detokenize(61, tokens))
    assert worker.until(Result).text == "Grüße, 世界 👩‍🚀!"


def test_token_ids_outside_the_vocabulary_are_refused(worker: WorkerProcess) -> None:
    worker.send(Generate(62, tokens=[1, 10_000_000]))
    frame = worker.until(Accepted, Failed)
    assert isinstance(frame, Failed) and frame.param == "prompt"


def test_characters_split_over_tokens_arrive_whole(worker: WorkerProcess) -> None:
    found, _ = worker.collect(chat(63, "👩‍🚀 世界 Grüße " * 3, max_tokens=12))[(63, 0)]
    assert not any("\ufffd" in delta.text for delta in found[:-1])


def test_embeddings_are_vectors_of_one_size(worker: WorkerProcess) -> None:
    worker.send(Embed(70, texts=["a cat", "a dog"]))
    result = worker.until(Result, Failed)
    if worker.engine in WITHOUT_EMBEDDINGS:
        assert (result.code, result.param) == ("unsupported_parameter", "model")
        return
    assert len({len(vector) for vector in result.vectors}) == 1 and len(result.vectors) == 2


def test_stats_come_while_it_runs_and_say_idle_at_the_end(worker: WorkerProcess) -> None:
    worker.send(SetThreads(1), SetThreads(2), chat(80, max_tokens=4))
    while (stats := worker.until(Stats)).running:
        pass
    assert stats.waiting == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_worker_ends_on_close_and_when_its_pipe_closes(engine: str, request: pytest.FixtureRequest) -> None:
    with make(engine, request) as process:
        process.ready()
        process.send(chat(1, max_tokens=300))
        process.until(Deltas)
        process.send(Close())
        assert process.process.wait(10) == 0
    with make(engine, request) as process:
        process.ready()
        process.send(chat(1, max_tokens=300))
        process.until(Deltas)
        process.process.stdin.close()  # type: ignore[union-attr]
        assert process.process.wait(10) == 0

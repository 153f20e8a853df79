"""What only the llama.cpp engine promises: sampling, prefixes, constraints, memory. On the real small model."""

from __future__ import annotations

import json
import math
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from worker_process import WorkerProcess

from xin.worker.frames import (
    Accepted,
    Constraint,
    Delta,
    Deltas,
    Done,
    Embed,
    Failed,
    Generate,
    Result,
    Sampling,
    Tokenize,
)

GREEDY = Sampling(temperature=0.0)
PREFIX = "Here is a list of numbered facts. " + " ".join(f"Fact {i}: item {i} is number {i}." for i in range(30))


@pytest.fixture(scope="module")
def worker(smollm2: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess("llama.cpp", [str(smollm2)], context_length=1024, n_parallel=4) as process:
        process.ready()
        yield process


ids = iter(range(1, 10_000))


def ask(text: str = "What is the capital of France? Answer in one sentence.", **fields: Any) -> Generate:
    fields.setdefault("sampling", GREEDY)
    return Generate(next(ids), messages=[{"role": "user", "content": text}], **fields)


def complete(prompt: str, **fields: Any) -> Generate:
    fields.setdefault("sampling", GREEDY)
    return Generate(next(ids), prompt=prompt, **fields)


def run(worker: WorkerProcess, request: Generate) -> tuple[str, list[Delta], Done]:
    deltas, done = worker.collect(request)[(request.request_id, 0)]
    return "".join(delta.text for delta in deltas), deltas, done


def refusal(worker: WorkerProcess, request: Any) -> Failed:
    worker.send(request)
    frame = worker.until(Accepted, Failed, Result)
    assert isinstance(frame, Failed), frame
    return frame


def tokens_of(worker: WorkerProcess, text: str) -> list[int]:
    worker.send(Tokenize(next(ids), text=text, add_special=False))
    return list(worker.until(Result).tokens)


def test_the_real_model_answers(worker: WorkerProcess) -> None:
    text, _, done = run(worker, ask(max_tokens=32))
    assert text == "The capital of France is Paris."
    assert done.finish_reason == "stop"


def test_one_seed_gives_one_text_and_another_gives_another(worker: WorkerProcess) -> None:
    def sample(seed: int) -> str:
        return run(worker, ask("Tell me a story.", max_tokens=16, sampling=Sampling(temperature=1.5, seed=seed)))[0]

    assert sample(7) == sample(7)
    assert len({sample(seed) for seed in (7, 8, 9)}) > 1


def test_choices_with_a_seed_differ_from_one_another(worker: WorkerProcess) -> None:
    found = worker.collect(ask("Tell me a story.", max_tokens=12, n=3, sampling=Sampling(temperature=1.5, seed=3)))
    assert len({"".join(d.text for d in deltas) for deltas, _ in found.values()}) > 1


def test_logit_bias_forbids_and_forces(worker: WorkerProcess) -> None:
    (paris,) = tokens_of(worker, " Paris")
    text, _, _ = run(worker, ask(max_tokens=12, sampling=Sampling(temperature=0.0, logit_bias={paris: -100.0})))
    assert " Paris" not in text
    text, _, _ = run(worker, ask(max_tokens=4, sampling=Sampling(temperature=0.0, logit_bias={paris: 100.0})))
    assert text == " Paris" * 4


def test_ignore_eos_goes_on_to_max_tokens(worker: WorkerProcess) -> None:
    _, _, done = run(worker, ask(max_tokens=20, sampling=Sampling(temperature=0.0, ignore_eos=True)))
    assert (done.completion_tokens, done.finish_reason) == (20, "length")


def test_a_stop_token_ends_the_answer(worker: WorkerProcess) -> None:
    (of,) = tokens_of(worker, " of")
    text, _, done = run(worker, ask(max_tokens=12, stop_token_ids=[of]))
    assert (text, done.finish_reason) == ("The capital", "stop")


def test_penalties_change_a_text_that_repeats_itself(worker: WorkerProcess) -> None:
    prompt = "The cat sat on the mat. " * 12
    plain, _, _ = run(worker, complete(prompt, max_tokens=48))
    assert plain.count("cat") > 4
    for sampling in (
        Sampling(temperature=0.0, repeat_penalty=3.0, repeat_last_n=200),
        Sampling(temperature=0.0, presence_penalty=2.0, frequency_penalty=2.0),
    ):
        other, _, _ = run(worker, complete(prompt, max_tokens=48, sampling=sampling))
        assert other != plain


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=2.0, top_k=1, seed=1),
        Sampling(temperature=2.0, top_p=0.0001, seed=1),
        Sampling(temperature=2.0, min_p=1.0, seed=1),
    ],
)
def test_a_filter_that_leaves_one_token_is_greedy(worker: WorkerProcess, sampling: Sampling) -> None:
    assert run(worker, ask(max_tokens=6, sampling=sampling))[0] == run(worker, ask(max_tokens=6))[0]


def test_logprobs_are_of_the_models_own_distribution(worker: WorkerProcess) -> None:
    _, deltas, _ = run(worker, ask(max_tokens=5, logprobs=5, sampling=Sampling(temperature=0.0)))
    notes = [note for delta in deltas for note in delta.logprobs or []]
    assert len(notes) == 5
    for note in notes:
        values = [value for _, _, value in note.top]
        assert values == sorted(values, reverse=True)
        assert note.logprob == pytest.approx(values[0])
        assert 0 < sum(map(math.exp, values)) <= 1.0001


def test_echo_gives_the_prompts_own_logprobs(worker: WorkerProcess) -> None:
    prompt = "The capital of France is Paris"
    text, deltas, done = run(worker, complete(prompt, max_tokens=0, echo=True, logprobs=1))
    notes = [note for delta in deltas for note in delta.logprobs or []]
    assert text == prompt and done.completion_tokens == 0
    assert b"".join(note.piece for note in notes).decode() == prompt
    assert notes[0].logprob is None and all(note.logprob < 0 for note in notes[1:])
    paris = notes[-1]
    assert paris.piece == b" Paris" and paris.logprob > -4


def test_a_follow_up_turn_finds_its_history_in_the_cache(worker: WorkerProcess) -> None:
    messages = [{"role": "user", "content": PREFIX + " Say hello."}]
    answer, _, _ = run(worker, Generate(next(ids), messages=messages, sampling=GREEDY, max_tokens=12))
    run(worker, ask("Something else entirely, to use the slot.", max_tokens=4))
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And again."}]
    request = Generate(next(ids), messages=messages, sampling=GREEDY, max_tokens=2)
    worker.send(request)
    prompt_tokens = worker.until(Accepted).prompt_tokens
    cached = worker.until(Done).cached_tokens
    assert prompt_tokens - cached < 24


def test_history_cut_into_other_tokens_still_hits(worker: WorkerProcess) -> None:
    """The parked ids are of a token prompt that no tokenizer would make; the text of the next turn is the same."""
    head, rest = "zqx " + PREFIX[:80], PREFIX[80:300]
    text = head + rest
    odd = tokens_of(worker, head) + [t for part in re.findall(r"..?", rest) for t in tokens_of(worker, part)]
    assert odd != tokens_of(worker, text)
    worker.collect(Generate(next(ids), tokens=odd, sampling=GREEDY, max_tokens=1))
    _, _, done = run(worker, complete(text + " And what comes next?", max_tokens=1))
    assert done.cached_tokens > len(odd) - 8


def test_requests_that_arrive_together_compute_their_prefix_once(worker: WorkerProcess) -> None:
    requests = [complete(f"together {PREFIX} Question {i}:", max_tokens=2) for i in range(4)]
    found = worker.collect(*requests)
    cached = sorted(done.cached_tokens for _, done in found.values())
    assert cached[0] < 16 and all(count > 200 for count in cached[1:])


def test_more_work_than_cells_waits_or_is_computed_anew(smollm2: Path) -> None:
    """Four requests of ~200 tokens in 512 cells: all of them end, with the text they have alone."""
    options = {"context_length": 256, "n_parallel": 4, "kv_cells": 512, "prefix_cache": 2}
    with WorkerProcess("llama.cpp", [str(smollm2)], **options) as small:
        small.ready()
        prompts = [f"{i} " + " ".join(f"{i}{j}" for j in range(20)) for i in range(4)]
        sampling = Sampling(temperature=0.0, ignore_eos=True)
        alone = [run(small, complete(p, max_tokens=100, sampling=sampling))[0] for p in prompts[:1]]
        requests = [complete(p, max_tokens=100, sampling=sampling) for p in prompts]
        found = small.collect(*requests)
        assert all(done.completion_tokens == 100 for _, done in found.values())
        first = "".join(delta.text for delta in found[(requests[0].request_id, 0)][0])
        assert first[:20] == alone[0][:20]


def test_a_json_schema_is_kept(worker: WorkerProcess) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer", "maximum": 99}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    for seed in range(3):
        sampling = Sampling(temperature=1.0, seed=seed)
        constraint = Constraint("json_schema", json.dumps(schema))
        text, _, done = run(worker, ask("A city, as JSON.", max_tokens=80, sampling=sampling, constraint=constraint))
        value = json.loads(text)
        assert done.finish_reason == "stop"
        assert set(value) == {"city", "people"} and len(value["city"]) <= 12 and value["people"] <= 99


def test_a_regex_and_a_grammar_are_kept(worker: WorkerProcess) -> None:
    text, _, _ = run(worker, ask(max_tokens=20, constraint=Constraint("regex", r"[0-9]{3}-[a-z]{2}")))
    assert re.fullmatch(r"[0-9]{3}-[a-z]{2}", text)
    text, _, _ = run(worker, ask(max_tokens=20, constraint=Constraint("grammar", 'start: "yes" | "no"')))
    assert text in ("yes", "no")


def test_a_malformed_schema_is_refused_by_name(worker: WorkerProcess) -> None:
    failed = refusal(worker, ask(constraint=Constraint("json_schema", '{"type": "nonsense"}')))
    assert failed.param == "response_format"


def test_embeddings_are_of_unit_length_and_know_what_is_alike(worker: WorkerProcess) -> None:
    texts = ["A man is eating food.", "Someone is having a meal.", "The stock market fell sharply."]
    worker.send(Embed(next(ids), texts=texts))
    result = worker.until(Result)
    man, meal, stocks = (struct.unpack(f"<{len(v) // 4}f", v) for v in result.vectors)
    assert sum(x * x for x in man) == pytest.approx(1, abs=1e-4)
    assert cosine(man, meal) > cosine(man, stocks)
    assert result.prompt_tokens == sum(len(tokens_of(worker, text)) for text in texts)


def cosine(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_a_variable_that_the_template_does_not_know_is_refused(worker: WorkerProcess) -> None:
    assert refusal(worker, ask(template_kwargs={"enable_thinking": True})).param == "enable_thinking"


def test_a_model_without_infill_tokens_refuses_a_suffix(smollm2: Path, worker: WorkerProcess) -> None:
    worker.send(Generate(next(ids), prompt="def f(", suffix="return x", sampling=GREEDY, max_tokens=2))
    frame = worker.until(Accepted, Failed)
    assert isinstance(frame, Accepted) or frame.param == "suffix"
    if isinstance(frame, Accepted):
        worker.until(Done)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.gguf", b"hello, I am no model\n", "not a GGUF"),
        ("short.gguf", None, "truncated or damaged"),
        ("missing.gguf", b"", "does not exist"),
    ],
)
def test_a_broken_file_is_told_in_words(
    name: str, content: bytes | None, words: str, smollm2: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is None:
        with smollm2.open("rb") as stream:
            content = stream.read(20_000_000)
    if content:
        path.write_bytes(content)
    with WorkerProcess("llama.cpp", [str(path)]) as process:
        failed = process.until(Failed)
        assert words in failed.message and failed.hint and "\n" not in failed.message
        assert process.process.wait(10) == 1


def test_gpu_layers_without_a_gpu_are_refused_not_ignored(smollm2: Path) -> None:
    with WorkerProcess("llama.cpp", [str(smollm2)], n_gpu_layers=4) as process:
        failed = process.until(Failed)
        assert failed.param == "n_gpu_layers" and "GPU" in failed.message


def test_a_base_model_names_its_chat_sibling(smollm2: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    data = bytearray(smollm2.read_bytes())
    key = b"tokenizer.chat_template"
    at = data.find(key)
    data[at : at + len(key)] = b"tokenizer.chat_forgotten"[: len(key)]
    base.write_bytes(data)
    with WorkerProcess("llama.cpp", [str(base)], chat_sibling="smollm2") as process:
        process.ready()
        failed = refusal(process, ask())
        assert "base model" in failed.message and "smollm2" in (failed.hint or "")


def test_a_running_stream_never_waits_long_for_anothers_prompt(worker: WorkerProcess) -> None:
    """A prompt of ~700 tokens is read in more than ten steps while the other one keeps getting tokens."""
    running = ask("Count.", max_tokens=300, sampling=Sampling(temperature=0.0, ignore_eos=True))
    worker.send(running)
    worker.until(Deltas)
    long = complete("unlike " + PREFIX * 2, max_tokens=1)
    worker.send(long)
    given = 0
    while True:
        frame = worker.until(Deltas, Done)
        if isinstance(frame, Done) and frame.request_id == long.request_id:
            break
        if isinstance(frame, Deltas):
            given += sum(item.request_id == running.request_id for item in frame.items)
    assert given >= 10
    worker.until(Done)

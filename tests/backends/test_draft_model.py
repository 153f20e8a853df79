"""A draft model: what it costs and guesses, and that it changes how fast an answer comes, never which."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from test_dry_run import dry
from test_lookup import assert_same_but_for_a_tie, ids, run, tokens

from xin.backends.base import Output, Request, Weights
from xin.backends.llama_cpp.dry_run_words import Question
from xin.backends.llama_cpp.step_cost import StepCost
from xin.errors import BadRequest, LoadFailed, XinError
from xin.worker.frames import Constraint, Sampling

STORY = "Once upon a time there was a fox who"
GREEDY = Sampling(temperature=0.0, ignore_eos=True)


class AlwaysFive(StepCost):
    def of(self, streams: int, drafted: int) -> float:
        return 0.0  # no step is ever too long, however busy the machine

    def draft(self, streams: int, already: int, most: int, accuracy: float) -> int:
        return min(5, most)


@pytest.fixture(scope="module")
def coarse(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, worse: its guesses are often right, and often wrong."""
    file = tmp_path_factory.mktemp("coarse") / "coarse.gguf"
    command = ["-m", "xin.backends.llama_cpp.quantize", str(smollm2), str(file), "Q3_K_S"]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return file


def load(model: Path, draft: Path | str | None, **options: Any) -> Any:
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    given = {"context_length": 512, "n_parallel": 4, "kv_cells": 1024, "prefix_cache": 0, "threads": 2, **options}
    made = LlamaCppEngine.Options(draft_model=str(draft) if draft else None, prompt_lookup=False, **given)
    return LlamaCppEngine.load(Weights([str(model)], "m"), made, lambda fraction, stage: None)


@pytest.fixture(scope="module")
def plain(smollm2: Path) -> Iterator[Any]:
    made = load(smollm2, None)
    yield made
    made.close()


@pytest.fixture(scope="module")
def twin(smollm2: Path) -> Iterator[Any]:
    """Its draft model is the model itself."""
    made = load(smollm2, smollm2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pair(smollm2: Path, coarse: Path) -> Iterator[Any]:
    made = load(smollm2, coarse)
    yield made
    made.close()


def generate(engine: Any, *prompts: str, max_tokens: int = 32, **fields: Any) -> list[list[Output]]:
    """The outputs of each prompt; with a draft model five guesses ride in every step that can take them."""
    engine._scheduler._drafter._model_cost = AlwaysFive()
    return run(engine, prompts, fields.pop("sampling", GREEDY), max_tokens, **fields)


def test_the_model_itself_guesses_right(plain: Any, twin: Any) -> None:
    (alone,) = generate(plain, STORY)
    (drafted,) = generate(twin, STORY)
    assert_same_but_for_a_tie(drafted, alone)
    drafter = twin._scheduler._drafter
    assert drafter.drafted >= 15
    assert drafter.accepted >= 0.9 * drafter.drafted
    assert plain._scheduler._drafter.drafted == 0


def test_wrong_guesses_leave_no_trace(plain: Any, pair: Any) -> None:
    drafts = right = 0
    for prompt in (STORY, "The capital of France is", "def fibonacci(n):"):
        (alone,) = generate(plain, prompt, max_tokens=28)
        (drafted,) = generate(pair, prompt, max_tokens=28)
        drafter = pair._scheduler._drafter
        drafts, right = drafts + drafter.drafted, right + drafter.accepted
        assert_same_but_for_a_tie(drafted, alone)
    assert 0 < right < drafts


def test_streams_with_drafts_do_not_mix_and_a_slot_is_used_again(plain: Any, pair: Any) -> None:
    prompts = [STORY, "My favourite dish is", "The three largest cities are", "In winter the lake"]
    alone = [generate(plain, prompt)[0] for prompt in prompts]
    for _ in range(2):
        for drafted, one in zip(generate(pair, *prompts), alone, strict=True):
            assert_same_but_for_a_tie(drafted, one, 0.25)  # four streams and their drafts in a step: rounding adds up
    assert pair._scheduler._drafter.model._followed == {}


def test_a_long_prompt_is_read_by_and_by(plain: Any, twin: Any) -> None:
    prompt = "The old man and the sea. " * 24 + STORY
    (alone,) = generate(plain, prompt, max_tokens=24)
    (drafted,) = generate(twin, prompt, max_tokens=24)
    assert twin._scheduler._drafter.accepted > 0
    assert_same_but_for_a_tie(drafted, alone)


def test_limits_are_kept_to_the_token(twin: Any) -> None:
    for most in (1, 2, 7):
        (outputs,) = generate(twin, STORY, max_tokens=most)
        assert sum(output.tokens for output in outputs) == most
        assert outputs[-1].finish_reason == "length"
    (free,) = generate(twin, STORY)
    stop = tokens(free)[9]
    (outputs,) = generate(twin, STORY, stop_token_ids=frozenset({stop}))
    assert outputs[-1].finish_reason == "stop"
    assert tokens(outputs) == tokens(free)[: tokens(free).index(stop)]


def test_choices_seeds_and_constraints(twin: Any) -> None:
    seeded = Sampling(temperature=0.9, seed=4)
    first, again = (tokens(generate(twin, STORY, sampling=seeded)[0]) for _ in range(2))
    assert first == again
    assert twin._scheduler._drafter.drafted == 0
    (outputs,) = generate(twin, STORY, n=3, sampling=Sampling(temperature=0.9, ignore_eos=True))
    assert {index: sum(o.tokens for o in outputs if o.index == index) for index in range(3)} == {0: 32, 1: 32, 2: 32}
    constraint = Constraint("regex", r"(ab){12}")
    compiled = twin.compile(constraint)
    sampling = Sampling(temperature=0.0)
    (outputs,) = generate(twin, "abab", sampling=sampling, constraint=constraint, compiled=compiled)
    assert b"".join(output.piece for output in outputs) == b"ab" * 12


def test_who_is_cancelled_leaves_nothing_behind(twin: Any) -> None:
    request = Request(next(ids), twin.tokenize(STORY, True, False), GREEDY, 100)
    twin.submit(request)
    while not twin.step():
        pass
    twin.step()
    twin.cancel(request.id)
    assert not twin.busy()
    assert twin._scheduler._drafter.model._followed == {}


def test_it_is_told_and_planned(twin: Any, smollm2: Path) -> None:
    ready = twin.describe()
    assert f"draft model {smollm2.name}" in ready.notes
    assert ready.memory_bytes["draft_model"] > ready.memory_bytes["weights"]
    given = {"context_length": 512, "n_parallel": 4, "kv_cells": 1024}
    (size,) = dry(Question(path=str(smollm2), options=[given, {**given, "draft_model": str(smollm2)}]))
    without, beside = size.contexts
    assert without.draft_bytes == 0
    assert beside.draft_bytes == size.weights_bytes + without.kv_bytes + without.compute_bytes
    (size,) = dry(Question(path=str(smollm2), options=[{**given, "draft_model": "/nowhere.gguf"}]))
    assert "draft_model: /nowhere.gguf does not exist" in (size.contexts[0].error or "")


def garbage(folder: Path, _: Path) -> Path:
    file = folder / "garbage.gguf"
    file.write_text("this is no model")
    return file


def truncated(folder: Path, whole: Path) -> Path:
    file = folder / "half.gguf"
    shutil.copy(whole, file)
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)
    return file


def stranger(folder: Path, _: Path) -> Path:
    return tiny_gguf.write("llama", folder / "stranger.gguf")


def missing(folder: Path, _: Path) -> Path:
    return folder / "missing.gguf"


BROKEN: list[tuple[Callable[[Path, Path], Path], str]] = [
    (missing, "does not exist"),
    (garbage, "is not a GGUF"),
    (truncated, "truncated"),
    (stranger, "has another vocabulary: 320 tokens instead of 49152"),
]


@pytest.mark.parametrize(("make", "words"), BROKEN)
def test_what_cannot_be_one_is_named(
    make: Callable[[Path, Path], Path], words: str, smollm2: Path, tmp_path: Path
) -> None:
    with pytest.raises(LoadFailed) as raised:
        load(smollm2, make(tmp_path, smollm2), mmap=False)
    assert raised.value.message.startswith("draft_model: ")
    assert words in raised.value.message
    assert raised.value.param == "draft_model"


def test_a_model_that_cannot_take_back_guesses_takes_none(tmp_path: Path) -> None:
    mamba = tiny_gguf.write("mamba", tmp_path / "mamba.gguf")
    llama = tiny_gguf.write("llama", tmp_path / "llama.gguf")
    with pytest.raises(BadRequest, match="cannot be taken back"):
        load(mamba, llama)
    with pytest.raises(XinError, match="cannot be rewound"):
        load(llama, mamba)


def test_it_drafts_by_itself_where_that_pays_and_not_where_it_does_not(smollm2: Path, tmp_path: Path) -> None:
    """A model of the same vocabulary whose guesses are noise is asked now and then, and hardly ever drafts."""
    noise = noisy(smollm2, tmp_path / "noise.gguf")
    engine = load(smollm2, noise)
    try:
        request = Request(next(ids), engine.tokenize(STORY, True, False), GREEDY, 64)
        engine.submit(request)
        while engine.busy():
            engine.step()
        drafter = engine._scheduler._drafter
        assert drafter.drafted < 40
    finally:
        engine.close()


def noisy(source: Path, target: Path) -> Path:
    """The file with its last weights overwritten."""
    import gguf

    shutil.copy(source, target)
    target.chmod(0o644)
    tensors = gguf.GGUFReader(source).tensors
    norm = next(tensor for tensor in tensors if tensor.name == "output_norm.weight")
    with target.open("r+b") as stream:
        stream.seek(int(norm.data_offset))
        stream.write(bytes(norm.data.nbytes))
    return target

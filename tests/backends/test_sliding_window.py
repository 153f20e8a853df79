"""A sliding-window cache that keeps only what is seen answers as the whole one does, wherever a conversation goes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf

from xin.backends.base import Request, Weights
from xin.worker.frames import Sampling

WINDOW = 256  # of tiny_gguf's gemma3


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Any]]:
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    path = tiny_gguf.write("gemma3", tmp_path_factory.mktemp("windows") / "gemma3.gguf")

    def made(whole: bool) -> Any:
        options = LlamaCppEngine.Options(
            context_length=2048,
            n_parallel=2,
            kv_cells=4096,
            n_ubatch=64,
            threads=1,
            swa_full=whole,
            prompt_lookup=False,
        )
        return LlamaCppEngine.load(Weights([str(path)], "tiny"), options, lambda fraction, stage: None)

    both = {whole: made(whole) for whole in (True, False)}
    yield both
    for engine in both.values():
        engine.close()


ids = iter(range(1, 1000))


def answer(engine: Any, *prompts: list[int]) -> list[tuple[list[int], int]]:
    """(greedy tokens, cached tokens) of each; they run together."""
    greedy = Sampling(temperature=0.0, ignore_eos=True)
    requests = [Request(next(ids), list(prompt), greedy, 24, logprobs=0) for prompt in prompts]
    for request in requests:
        engine.submit(request)
    found: dict[int, tuple[list[int], int]] = {request.id: ([], 0) for request in requests}
    while engine.busy():
        for output in engine.step():
            assert output.error is None
            tokens, cached = found[output.request_id]
            tokens.extend(one.token_id for one in output.logprobs or ())
            found[output.request_id] = tokens, max(cached, output.cached_tokens)
    return [found[request.id] for request in requests]


def test_turns_branches_and_neighbours_are_answered_alike(engines: dict[bool, Any]):
    first, other = words(3 * WINDOW, 2), words(2 * WINDOW, 3)
    told: dict[bool, list[list[int]]] = {}
    for whole, engine in engines.items():
        [(opening, _)] = answer(engine, first)
        follow_up = [*first, *opening, *words(40, 4)]
        [(second, cached)] = answer(engine, follow_up)
        assert cached >= len(first)  # the conversation's end is where it goes on, with either cache
        branch = [*first[: 2 * WINDOW], *words(60, 5)]
        [(back, kept)] = answer(engine, branch)
        assert whole or kept == 0  # what has left the window is read anew, not made up
        together = answer(engine, [*first, *words(30, 6)], other)
        told[whole] = [opening, second, back, *(tokens for tokens, _ in together)]
        assert all(len(tokens) == 24 for tokens in told[whole])
    assert told[True] == told[False]


def words(count: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(10, tiny_gguf.VOCABULARY) for _ in range(count)]


@pytest.mark.parametrize(("architecture", "whole"), [("gemma3", False), ("lfm2", True)])
def test_where_prefixes_cannot_be_shared_none_is_counted_on(architecture: str, whole: bool, tmp_path: Path):
    """Three requests with a common prefix that do not fit at once: they take turns, and all of them end."""
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    path = tiny_gguf.write(architecture, tmp_path / "tiny.gguf")
    options = LlamaCppEngine.Options(
        context_length=512, n_parallel=3, kv_cells=512, n_ubatch=64, threads=1, swa_full=whole
    )
    engine = LlamaCppEngine.load(Weights([str(path)], "tiny"), options, lambda fraction, stage: None)
    prefix = words(300, 7)
    requests = [Request(n, [*prefix, 20 + n], Sampling(temperature=0.0, ignore_eos=True), 8) for n in (1, 2, 3)]
    for request in requests:
        engine.submit(request)
    made = {request.id: 0 for request in requests}
    for _ in range(400):
        for output in engine.step():
            assert output.error is None
            made[output.request_id] += output.tokens
    assert made == {1: 8, 2: 8, 3: 8} and not engine.busy()
    engine.close()

"""Images in llama.cpp on tiny made-up models: they change the answer, are cached by what they show, and are counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
import tiny_mmproj
from made_up_images import noise

from xin.backends.base import Output, Request, Weights
from xin.errors import BadRequest, LoadFailed, OutOfMemory
from xin.worker.frames import Sampling

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
TEXT = "what is on this picture?"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("vision")
    return tiny_gguf.write("llama", folder / "tiny.gguf", scale=0.2), tiny_mmproj.write(folder / "mmproj-tiny.gguf")


def load(files: tuple[Path, Path], **options: Any) -> Any:
    from xin.backends.llama_cpp.engine import LlamaCppEngine

    given = {"context_length": 512, "n_parallel": 4, "kv_cells": 1024, "threads": 1, "mmproj": str(files[1]), **options}
    made = LlamaCppEngine.Options(chat_template=tiny_mmproj.TEMPLATE, **given)
    return LlamaCppEngine.load(Weights([str(files[0])], "tiny"), made, lambda fraction, stage: None)


@pytest.fixture(scope="module")
def engine(files: tuple[Path, Path]) -> Iterator[Any]:
    made = load(files)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def forgotten(engine: Any) -> None:
    engine._scheduler._cache._parked.clear()


ids = iter(range(1, 10_000))


def chat(*parts: str | bytes, before: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "data": part} for part in parts
    ]
    return [*(before or []), {"role": "user", "content": content}]


def request(engine: Any, messages: list[dict[str, Any]], max_tokens: int = 12, **fields: Any) -> Request:
    tokens, seen = engine.look(messages, {})
    return Request(next(ids), tokens, GREEDY, max_tokens, logprobs=3, seen=seen, **fields)


def answers(engine: Any, *requests: Request) -> list[list[Output]]:
    for one in requests:
        engine.submit(one)
    found: dict[int, list[Output]] = {one.id: [] for one in requests}
    while engine.busy():
        for output in engine.step():
            if output.error is not None:
                raise output.error
            found[output.request_id].append(output)
    return [found[one.id] for one in requests]


def answer(engine: Any, messages: list[dict[str, Any]]) -> list[Output]:
    return answers(engine, request(engine, messages))[0]


def likely(outputs: list[Output]) -> list[tuple[int, float]]:
    return [(one.token_id, one.logprob or 0.0) for output in outputs for one in output.logprobs or ()]


def close(ours: list[Output], theirs: list[Output], within: float = 2e-3) -> bool:
    pairs = [*zip(likely(ours), likely(theirs), strict=True)]
    return all(a == b and abs(x - y) < within for (a, x), (b, y) in pairs)


def test_it_says_that_it_takes_images(engine: Any) -> None:
    ready = engine.describe()
    assert ready.abilities == ["chat", "generate", "embed", "vision"]
    assert ready.memory_bytes["mmproj"] > 0


def test_an_image_changes_the_answer_and_the_same_one_does_not(engine: Any) -> None:
    first = answer(engine, chat(TEXT, noise(1)))
    engine._scheduler._cache._parked.clear()
    assert close(answer(engine, chat(TEXT, noise(1))), first)
    other = answer(engine, chat(TEXT, noise(2)))
    assert likely(other)[0][1] != pytest.approx(likely(first)[0][1], abs=1e-4)
    without = answer(engine, chat(TEXT))
    assert likely(without)[0][1] != pytest.approx(likely(first)[0][1], abs=1e-4)


def test_its_tokens_are_counted_and_stand_at_negative_ids(engine: Any) -> None:
    tokens, seen = engine.look(chat(TEXT, noise(1), "and on this?", noise(2)), {})
    assert [image.end - image.start for image in seen.images] == [tiny_mmproj.TOKENS] * 2
    assert seen.unlisted == 0
    places = [token for token in tokens if token < 0]
    assert len(set(places)) == 2 * tiny_mmproj.TOKENS
    text, none = engine.look(chat(TEXT, "and on this?"), {})
    assert none is None
    assert min(text) >= 0


def test_a_follow_up_is_read_from_the_cache_and_another_image_is_not(engine: Any) -> None:
    first = answer(engine, chat(TEXT, noise(1)))
    assert first[0].cached_tokens == 0
    said = {"role": "assistant", "content": "".join(map(str, range(20)))}
    history = [*chat(TEXT, noise(1)), said]
    follow_up = request(engine, chat("go on", before=history))
    image = follow_up.seen.images[0]  # type: ignore[union-attr]
    (cached,) = answers(engine, follow_up)
    assert cached[0].cached_tokens >= image.end
    engine._scheduler._cache._parked.clear()
    assert close(answer(engine, chat("go on", before=history)), cached)
    changed = [*chat(TEXT, noise(2)), said]
    (fresh,) = answers(engine, request(engine, chat("go on", before=changed)))
    assert fresh[0].cached_tokens <= image.start


def test_streams_with_and_without_images_do_not_mix(engine: Any) -> None:
    asked = [chat(TEXT, noise(1)), chat("a text of its own"), chat(TEXT, noise(2)), chat("two:", noise(1), noise(3))]
    alone = []
    for messages in asked:
        engine._scheduler._cache._parked.clear()
        alone.append(answer(engine, messages))
    engine._scheduler._cache._parked.clear()
    together = answers(engine, *(request(engine, messages) for messages in asked))
    assert all(close(ours, theirs, 5e-3) for ours, theirs in zip(together, alone, strict=True))


def test_several_choices_share_an_image(engine: Any) -> None:
    (outputs,) = answers(engine, request(engine, chat(TEXT, noise(1)), n=3))
    by_choice = [[output for output in outputs if output.index == index] for index in range(3)]
    assert all(close(one, by_choice[0], 5e-3) for one in by_choice)


def test_a_cancelled_one_leaves_its_slot(engine: Any) -> None:
    one = request(engine, chat(TEXT, noise(1)), max_tokens=200)
    engine.submit(one)
    engine.step()
    engine.cancel(one.id)
    assert not engine.busy()
    assert len(engine._scheduler._slots) == 4


def test_sizes_and_kinds_of_images(engine: Any) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        assert len(answer(engine, chat(TEXT, noise(4, (3, 200), kind)))) == 12
    with pytest.raises(BadRequest, match="cannot be decoded") as raised:
        engine.look(chat(TEXT, noise(1)[:60]), {})
    assert raised.value.param == "messages[0].content[1].image_url.url"
    huge = noise(1).replace((40).to_bytes(4, "big") + (32).to_bytes(4, "big"), (60_000).to_bytes(4, "big") * 2, 1)
    with pytest.raises(BadRequest, match=r"cannot be decoded|60000 x 60000") as raised:
        engine.look(chat("x", noise(2), huge), {})
    assert raised.value.param == "messages[0].content[2].image_url.url"


def test_nobody_can_write_an_image_into_a_text(engine: Any) -> None:
    tokens, seen = engine.look(chat("<__media__> <__image__>"), {})
    assert seen is None
    assert min(tokens) >= 0


def test_a_context_without_room_says_so(files: tuple[Path, Path]) -> None:
    small = load(files, context_length=64, kv_cells=64, n_parallel=1)
    try:
        with pytest.raises(OutOfMemory, match="no room for an image of 16 tokens"):
            answer(small, chat("many:", *(noise(seed) for seed in range(40))))
        assert not small.busy()
        assert len(answer(small, chat("a", noise(1)))) == 12
    finally:
        small.close()


def test_what_is_no_projector_of_this_model_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.gguf"
    garbage.write_text("no model")
    half = shutil.copy(files[1], tmp_path / "half.gguf")
    with Path(half).open("r+b") as stream:
        stream.truncate(20_000)
    other = tiny_mmproj.write(tmp_path / "other.gguf", embedding=256)
    wrong: list[tuple[Path, str]] = [
        (tmp_path / "missing.gguf", "does not exist"),
        (garbage, "is not a GGUF"),
        (Path(half), "does not fit this model"),
        (other, "does not fit this model"),
        (files[0], "does not fit this model"),
    ]
    for file, words in wrong:
        with pytest.raises(LoadFailed) as raised:
            load((files[0], file))
        assert raised.value.message.startswith("mmproj: "), raised.value.message
        assert words in raised.value.message
        assert raised.value.param == "mmproj"


def test_the_one_beside_the_model_is_taken_unless_none_is_wanted(files: tuple[Path, Path], tmp_path: Path) -> None:
    beside = load(files, mmproj=None)
    assert "vision" in beside.describe().abilities and beside._projector.name == "mmproj-tiny.gguf"
    beside.close()
    without = load(files, mmproj="none")
    assert "vision" not in without.describe().abilities
    without.close()
    model = tmp_path / "tiny.gguf"
    model.symlink_to(files[0])
    (tmp_path / "mmproj-F16.gguf").write_bytes(files[0].read_bytes())  # no projector at all
    alone = load((model, files[1]), mmproj=None)
    assert "vision" not in alone.describe().abilities
    assert any("no images: mmproj" in note for note in alone._model.notes)
    alone.close()
    with pytest.raises(LoadFailed):
        load((model, files[1]), mmproj=str(tmp_path / "mmproj-F16.gguf"))

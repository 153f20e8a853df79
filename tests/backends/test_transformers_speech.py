"""Whisper in the transformers engine, with the real tiny.en made over from CTranslate2's format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whisper_torch
from hypothesis import given
from hypothesis import strategies as st
from test_faster_whisper import RECORDING, SAID, folder, heard, segments, wav, words

from xin.backends import require
from xin.backends.base import Request, Weights
from xin.backends.transformers.whisper_segments import parts_of
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter
from xin.worker.frames import Sampling, Transcribe

__all__ = ["folder"]  # a fixture


@pytest.fixture(scope="module")
def converted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_torch.convert(folder, tmp_path_factory.mktemp("whisper") / "tiny.en")


def load(folder: Path, **options: Any) -> Any:
    cls = require("transformers")
    return cls.load(Weights([str(folder)], "tiny.en"), cls.Options(**options), lambda fraction, stage: None)


@pytest.fixture(scope="module")
def engine(converted: Path) -> Iterator[Any]:
    made = load(converted)
    yield made
    made.close()


def test_speech_is_written_down_with_its_times(engine: Any) -> None:
    news = heard(engine, RECORDING.read_bytes())
    found = segments(news)
    assert words("".join(one.text for one in found)) == words(SAID)
    assert (news[0].language, news[0].segment) == ("en", None)
    assert all(0 <= one.start < one.end <= news[0].duration + 0.1 for one in found)
    assert all(-1.5 < one.avg_logprob < 0 and one.no_speech_prob < 0.6 and one.temperature == 0 for one in found)
    assert engine.detokenize(found[0].tokens).decode() == found[0].text


def test_audio_of_several_windows_is_written_down_in_full(engine: Any) -> None:
    from xin.backends.audio import RATE, decoded

    once = decoded(RECORDING.read_bytes(), 100)
    pause = np.zeros(2 * RATE, np.float32)
    times = 1 + int(40 * RATE / (len(once) + len(pause)))
    news = heard(engine, wav(np.concatenate([once, pause] * times)), temperature=0.01)  # it repeats itself, and may
    found = segments(news)
    assert news[0].duration > 36
    assert "".join(one.text for one in found).lower().count("children went to school") == times
    starts = [one.start for one in found]
    assert starts == sorted(starts)
    assert any(one.seek > 0 for one in found)


def test_silence_has_no_text(engine: Any) -> None:
    news = heard(engine, wav(np.zeros(48_000)))
    assert (segments(news), news[0].duration) == ([], 3.0)


def test_it_tells_what_it_can(engine: Any) -> None:
    ready = engine.describe()
    assert ready.abilities == ["transcribe"]
    assert "English only" in ready.description
    assert ready.memory_bytes["weights"] > 70_000_000
    assert engine.detokenize(engine.tokenize("good morning", False, False)) == b"good morning"


@pytest.mark.parametrize("audio", [b"not audio at all", b"#EXTM3U\n/etc/hostname\n", bytes(1000)])
def test_what_is_no_audio_is_refused(engine: Any, audio: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        engine.hear(Transcribe(1, audio))
    assert refused.value.param == "file"


def test_options_of_text_are_refused_by_name(converted: Path) -> None:
    for name, value in {"n_parallel": 2, "prefix_cache": 0, "chat_template": "x", "kv_cells": 64}.items():
        with pytest.raises(BadRequest) as refused:
            load(converted, **{name: value})
        assert refused.value.param == name


def test_what_it_cannot_do_is_refused_by_name(engine: Any) -> None:
    with pytest.raises(UnsupportedParameter, match="English only"):
        engine.hear(Transcribe(1, RECORDING.read_bytes(), task="translate"))
    with pytest.raises(BadRequest) as language:
        engine.hear(Transcribe(1, RECORDING.read_bytes(), language="de"))
    assert language.value.param == "language"
    with pytest.raises(UnsupportedParameter, match="times of words") as wanted:
        engine.hear(Transcribe(1, RECORDING.read_bytes(), words=True))
    assert wanted.value.param == "timestamp_granularities"
    with pytest.raises(UnsupportedParameter, match="writes down speech"):
        engine.submit(Request(2, [1, 2], Sampling(), 10))


def test_a_cancelled_recording_is_forgotten_between_two_tokens(engine: Any) -> None:
    frame = Transcribe(3, RECORDING.read_bytes())
    engine.submit(Request(3, [], Sampling(), 1 << 30, heard=engine.hear(frame)))
    for _ in range(4):
        engine.step()
    engine.cancel(3)
    assert not engine.busy()
    assert words("".join(one.text for one in segments(heard(engine, RECORDING.read_bytes())))) == words(SAID)


def test_a_prompt_and_a_temperature_are_taken(engine: Any) -> None:
    news = heard(engine, RECORDING.read_bytes(), prompt="A story about school.", temperature=0.2)
    assert [one.temperature for one in segments(news)][:1] == [0.2]
    assert "school" in "".join(one.text for one in segments(news))


def test_files_that_lack_something_are_named(converted: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("preprocessor_config.json", "generation_config.json"):
        folder = shutil.copytree(converted, tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(LoadFailed, match=name):
            load(folder)


TIMES = 100  # the first token that is a time


@pytest.mark.parametrize(
    ("tokens", "parts", "read"),
    [
        ([100, 1, 2, 150], [(0.0, 1.0, [1, 2])], 30.0),
        ([100, 1, 150, 150, 2, 200], [(0.0, 1.0, [1]), (1.0, 2.0, [2])], 30.0),
        ([100, 1, 150, 150, 2], [(0.0, 1.0, [1])], 1.0),
        ([100, 1, 150, 160], [(0.0, 1.0, [1])], 1.0),
        ([100, 1, 2], [(0.0, 30.0, [1, 2])], 30.0),
        ([], [(0.0, 30.0, [])], 30.0),
    ],
)
def test_times_divide_what_was_written(tokens: list[int], parts: list[Any], read: float) -> None:
    found, far = parts_of(tokens, TIMES, 30.0)
    assert [(part.start, part.end, part.tokens) for part in found] == parts
    assert far == read


@given(st.lists(st.integers(90, 140), max_size=40), st.floats(0.5, 30))
def test_any_tokens_give_parts_in_order_and_a_way_on(tokens: list[int], seconds: float) -> None:
    parts, read = parts_of(tokens, TIMES, seconds)
    assert 0 <= read <= seconds
    said = list(itertools.chain.from_iterable(part.tokens for part in parts))
    assert said == [token for token in tokens if token < TIMES][: len(said)]

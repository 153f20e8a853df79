"""The transformers engine for Whisper: one recording after another, by windows of 30 s, token by token.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5: greedy at
first, at a higher temperature where a window repeats itself or is unlikely; what was written is told to the next.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from transformers import AutoFeatureExtractor
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from xin.backends.audio import RATE, decoded
from xin.backends.base import Output, Progress, Request, SequentialEngine, Weights
from xin.backends.transformers.loading import FOREIGN, Loaded, in_short, load_speech
from xin.backends.transformers.options import Options as TransformersOptions
from xin.backends.transformers.out_of_memory import is_out_of_memory
from xin.backends.transformers.threads import Threads
from xin.backends.transformers.vocabulary import Vocabulary
from xin.backends.transformers.whisper_segments import Part, parts_of
from xin.errors import BadRequest, InternalError, LoadFailed, OutOfMemory, UnsupportedParameter
from xin.worker.frames import Ready, Segment, Speech, Transcribe

LONGEST_MINUTES = 120.0
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MOST_REPETITIVE = 2.4  # bytes of the text over those of it compressed
LEAST_LIKELY = -1.0  # mean logprob of a token
NO_SPEECH = 0.6  # probability from which an unlikely text counts as silence
OF_TEXT = ("n_parallel", "n_batch", "kv_cells", "prefix_cache", "prefix_cache_mib", "chat_template", "matryoshka")
SILENCE = 1e-4  # a window that never exceeds it holds nothing
FORGETS_FROM = 0.5  # a text that was drawn at a higher temperature is not told to the next window
_CAN_SPEAK = "send it to /v1/audio/transcriptions"
_MULTILINGUAL = "launch one without .en in its name"
_WORDS = "launch it on the faster-whisper engine, or ask for segments"


@dataclass(frozen=True, slots=True)
class Heard:
    samples: Any
    task: str
    language: str | None
    prompt: str
    temperatures: Sequence[float]


@dataclass(slots=True)
class _Written:
    """What was written about a window at one temperature."""

    temperature: float
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    no_speech: float = 0.0
    text: str = ""

    @property
    def mean(self) -> float:
        return self.logprob / (len(self.tokens) + 1)

    @property
    def repetitive(self) -> float:
        raw = self.text.encode()
        return len(raw) / len(zlib.compress(raw)) if raw else 0.0

    @property
    def is_silence(self) -> bool:
        return self.no_speech > NO_SPEECH and self.mean < LEAST_LIKELY

    @property
    def will_do(self) -> bool:
        return self.is_silence or (self.mean >= LEAST_LIKELY and self.repetitive <= MOST_REPETITIVE)


_Writing = Generator[None, None, _Written]  # a step for each token


class SpeechEngine(SequentialEngine):
    name = "transformers"
    formats = frozenset({"pytorch"})
    Options = TransformersOptions

    def __init__(self, loaded: Loaded, extractor: Any, options: TransformersOptions) -> None:
        super().__init__()
        self._model = loaded.model
        self._options = options
        self._extractor = extractor
        self._threads = Threads(options.threads)
        config = loaded.model.generation_config
        self._config = config
        self._vocabulary = Vocabulary(loaded.tokenizer, int(loaded.config.vocab_size), loaded.end_ids)
        self._window = int(loaded.config.max_target_positions)
        self._first_time = int(config.no_timestamps_token_id) + 1
        self._languages: dict[str, int] = {
            name.strip("<|>"): token for name, token in (getattr(config, "lang_to_id", None) or {}).items()
        }
        self._translates = bool(getattr(config, "is_multilingual", bool(self._languages)))
        names = {token.content: number for number, token in loaded.tokenizer.added_tokens_decoder.items()}
        self._previous = names.get("<|startofprev|>")
        self._nothing = names.get("<|nospeech|>", names.get("<|nocaptions|>"))
        self._seconds = float(extractor.n_samples) / RATE
        self._ready = self._describe(loaded)

    @classmethod
    def load(cls, weights: Weights, options: TransformersOptions, progress: Progress) -> SpeechEngine:
        _check(options)
        loaded = load_speech(weights, options, progress)
        name = weights.model_name or loaded.folder.name
        try:
            extractor = AutoFeatureExtractor.from_pretrained(loaded.folder, local_files_only=True)
        except FOREIGN as exc:
            raise LoadFailed(f"transformers cannot read preprocessor_config.json of {name}: {in_short(exc)}") from exc
        if getattr(loaded.model.generation_config, "no_timestamps_token_id", None) is None:
            message = f"generation_config.json of {name} lacks no_timestamps_token_id"
            raise LoadFailed(message, "fetch all files of the repository")
        return cls(loaded, extractor, options)

    def describe(self) -> Ready:
        return self._ready

    def hear(self, frame: Transcribe) -> Heard:
        if frame.words:
            raise UnsupportedParameter(
                "timestamp_granularities: this engine tells no times of words", _WORDS, param="timestamp_granularities"
            )
        if frame.task == "translate" and not self._translates:
            raise UnsupportedParameter(
                "this model knows English only: there is nothing to translate", _MULTILINGUAL, param="model"
            )
        known = self._languages if self._translates else {"en": 0}
        if frame.language is not None and frame.language not in known:
            hint = f"it knows {', '.join(sorted(known))}" if self._translates else _MULTILINGUAL
            raise BadRequest(f"this model does not know the language {frame.language!r}", hint, param="language")
        temperatures = (frame.temperature,) if frame.temperature else TEMPERATURES
        samples = decoded(frame.audio, LONGEST_MINUTES * 60, "send it in parts")
        return Heard(samples, frame.task, frame.language, frame.prompt or "", temperatures)

    def submit(self, request: Request) -> None:
        if request.heard is None:
            raise UnsupportedParameter("this model writes down speech, and no answers", _CAN_SPEAK, param="model")
        super().submit(request)

    def generate(self, request: Request) -> Iterator[Output | None]:
        try:
            yield from self._transcribed(request.heard)
        except (RuntimeError, MemoryError) as exc:
            memory = OutOfMemory(f"no memory for this recording: {exc}", "send it in parts")
            failed = InternalError(f"transformers could not go on: {exc}", "see the instance's log")
            yield Output(0, 0, error=memory if is_out_of_memory(exc) else failed)

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        return self._vocabulary.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return self._vocabulary.detokenize(tokens)

    def set_threads(self, n: int) -> None:
        self._threads.set(n)

    def close(self) -> None:
        self._end()
        self._model = None

    # -- windows

    def _transcribed(self, heard: Heard) -> Iterator[Output | None]:
        duration = len(heard.samples) / RATE
        language = heard.language or ("en" if not self._translates else None)
        at = 0.0
        said = self._vocabulary.tokenize(" " + heard.prompt.strip(), False, False) if heard.prompt.strip() else []
        told = False
        while at < duration or not told:
            samples = heard.samples[int(at * RATE) : int((at + self._seconds) * RATE)]
            encoded = self._encoded(samples)
            yield None
            if language is None:
                language = self._language(encoded)
            if not told:
                told = True
                yield Output(0, 0, speech=Speech(language, duration))
            if float(abs(samples).max(initial=0.0)) < SILENCE:
                at += self._seconds
                continue
            written = yield from self._window_written(encoded, heard, language, said)
            seconds = min(self._seconds, duration - at)
            if written.is_silence:
                at += seconds
                continue
            parts, read = parts_of(written.tokens, self._first_time, seconds)
            for part in parts:
                said = [*said, *part.tokens]  # of a part that is cut off the next window hears again
                text = self._text(part.tokens)
                if text.strip() and part.end > part.start:
                    segment = _segment(part, text, at, duration, written)
                    yield Output(0, 0, tokens=len(part.tokens), speech=Speech(language, duration, segment))
            if written.temperature > FORGETS_FROM:
                said = []
            at += read if read > 0 else seconds

    def _window_written(self, encoded: Any, heard: Heard, language: str, said: list[int]) -> _Writing:
        written = _Written(0.0)
        for temperature in heard.temperatures:
            written = yield from self._written(encoded, heard.task, language, said, temperature)
            if written.will_do:
                break
        return written

    def _written(self, encoded: Any, task: str, language: str, said: list[int], temperature: float) -> _Writing:
        """One attempt at a window, a step for each token."""
        written = _Written(temperature)
        prompt = self._prompt(task, language, said)
        rules = WhisperTimeStampLogitsProcessor(self._config, begin_index=len(prompt))
        tokens, cache = list(prompt), None
        most = min(self._window - len(prompt), self._window // 2)
        for step in range(most):
            logits, cache = self._next(encoded, tokens if cache is None else tokens[-1:], cache)
            if step == 0 and self._nothing is not None:
                begun = prompt.index(int(self._config.decoder_start_token_id)) - len(prompt)
                written.no_speech = float(torch.softmax(logits[begun], -1)[self._nothing])
            row = logits[-1].clone()
            row[list(self._config.suppress_tokens or [])] = -torch.inf
            if step == 0:
                row[list(self._config.begin_suppress_tokens or [])] = -torch.inf
            row = rules(torch.tensor([tokens]), row[None])[0]
            shares = torch.log_softmax(row, -1)
            if temperature:
                token = int(torch.multinomial(torch.softmax(row / temperature, -1), 1))
            else:
                token = int(row.argmax())
            written.logprob += float(shares[token])
            if token in self._vocabulary.end_ids:
                break
            tokens.append(token)
            written.tokens.append(token)
            yield None
        written.text = self._text([token for token in written.tokens if token < self._first_time])
        return written

    def _prompt(self, task: str, language: str, said: list[int]) -> list[int]:
        config = self._config
        before = [self._previous, *said[-(self._window // 2 - 1) :]] if said and self._previous is not None else []
        asked = [self._languages[language], config.task_to_id[task]] if self._translates else []
        return [*before, int(config.decoder_start_token_id), *asked]

    # -- passes

    def _encoded(self, samples: Any) -> Any:
        features = self._extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            inputs = features.to(self._model.device, self._model.dtype)
            return self._model.get_encoder()(inputs)

    def _next(self, encoded: Any, tokens: list[int], cache: Any) -> tuple[Any, Any]:
        """(logits [tokens, vocabulary] on the host, the cache after them)."""
        with torch.inference_mode():
            found = self._model(
                encoder_outputs=encoded,
                decoder_input_ids=torch.tensor([tokens], device=self._model.device),
                past_key_values=cache,
                use_cache=True,
            )
        return found.logits[0].float().cpu(), found.past_key_values

    def _language(self, encoded: Any) -> str:
        logits, _ = self._next(encoded, [int(self._config.decoder_start_token_id)], None)
        return max(self._languages, key=lambda name: float(logits[-1][self._languages[name]]))

    def _text(self, tokens: list[int]) -> str:
        return self._vocabulary.detokenize([t for t in tokens if t not in self._vocabulary.end_ids]).decode(
            "utf-8", "replace"
        )

    def _describe(self, loaded: Loaded) -> Ready:
        hears = f"{len(self._languages)} languages" if self._translates else "English only"
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        return Ready(
            context_length=self._window,
            vocabulary_size=self._vocabulary.size,
            abilities=["transcribe", *(["translate"] if self._translates else [])],
            description=f"Whisper, {hears}, {dtype} on {loaded.model.device}",
            engine_version=metadata.version("transformers"),
            memory_bytes={"weights": int(loaded.model.get_memory_footprint())},
            threads=self._threads.count,
            notes=loaded.notes,
        )


def _check(options: TransformersOptions) -> None:
    """BadRequest for an option that says nothing of speech."""
    usual = TransformersOptions()
    for name in OF_TEXT:
        if getattr(options, name) != getattr(usual, name):
            raise BadRequest(f"{name} says nothing of a model that hears", f"leave {name} out", param=name)


def _segment(part: Part, text: str, at: float, duration: float, written: _Written) -> Segment:
    """`at`: where its window begins, in seconds."""
    return Segment(
        start=round(at + part.start, 2),
        end=round(min(at + part.end, duration), 2),
        text=text,
        tokens=part.tokens,
        temperature=written.temperature,
        avg_logprob=written.mean,
        compression_ratio=written.repetitive,
        no_speech_prob=written.no_speech,
        seek=int(at * 100),
    )

"""The reference engine: answers with the words it was given. A test double that can be slow, stall, fail or die.

Copy this file to write an engine: docs/engines.md walks through it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from xin import __version__
from xin.backends.base import Engine, Load, Output, Progress, Request, Weights
from xin.errors import BadRequest, LoadFailed, OutOfMemory
from xin.protocol.image import pixels
from xin.worker.frames import Ready, Segment, Speech, TokenLogprob, Transcribe, Word

_VOCABULARY = 256  # one token a byte: every text can be tokenised and split anywhere
_WORD = re.compile(rb"\s*\S+")


@dataclass(slots=True)
class _Choice:
    request: Request
    index: int
    tokens: Iterator[bytes | Speech]
    due: float
    left: int


class EchoEngine(Engine):
    name = "echo"
    formats = frozenset({"echo"})
    requires = ()

    class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
        """tokens_per_second 0 = as fast as it goes; die_after and stall_after count tokens of the whole engine.

        `answer` is said instead of the prompt. `vision`: it takes images, and says what it was given. `tool_format`:
        how tool calls in what it says are written. `speech`: it hears each line of a text as spoken for a second.
        """

        context_length: Annotated[int, Meta(ge=1, le=10_000_000)] = 4096
        n_parallel: Annotated[int, Meta(ge=1, le=1024)] = 64
        tokens_per_second: Annotated[float, Meta(ge=0)] = 0.0
        ttft_ms: Annotated[float, Meta(ge=0)] = 0.0
        load_seconds: Annotated[float, Meta(ge=0)] = 0.0
        die_after: Annotated[int, Meta(ge=0)] | None = None
        stall_after: Annotated[int, Meta(ge=0)] | None = None
        fail_load: str | None = None
        answer: str | None = None
        tool_format: Literal["hermes", "llama3", "mistral", "deepseek", "json"] = "hermes"
        vision: bool = False
        speech: bool = False
        oom: bool = False

    def __init__(self, options: Options) -> None:
        self._options = options
        self._running: list[_Choice] = []
        self._waiting: list[Request] = []
        self._given = 0
        self._threads = int(os.environ.get("XIN_THREADS", "1"))

    @classmethod
    def load(cls, weights: Weights, options: Options, progress: Progress) -> EchoEngine:
        for step in range(10):
            progress(step / 10, "loading")
            time.sleep(options.load_seconds / 10)
        if options.oom:
            raise OutOfMemory("echo was told to run out of memory", "launch it without oom")
        if options.fail_load is not None:
            raise LoadFailed(options.fail_load, "launch it without fail_load")
        return cls(options)

    def describe(self) -> Ready:
        more = [("vision", self._options.vision), ("transcribe", self._options.speech)]
        return Ready(
            context_length=self._options.context_length,
            n_parallel=self._options.n_parallel,
            vocabulary_size=_VOCABULARY,
            embedding_size=8,
            abilities=["chat", "generate", "embed", "rerank", *(name for name, has in more if has)],
            description="echoes the last message",
            engine_version=__version__,
            threads=self._threads,
        )

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def cancel(self, request_id: int, index: int | None = None) -> None:
        if index is None:
            self._waiting = [r for r in self._waiting if r.id != request_id]
        self._running = [c for c in self._running if c.request.id != request_id or index not in (None, c.index)]

    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    def load_now(self) -> Load:
        return Load(running=len({c.request.id for c in self._running}), waiting=len(self._waiting))

    def step(self) -> list[Output]:
        self._admit()
        now = time.monotonic()
        due = min((choice.due for choice in self._running), default=now)
        if due > now:
            time.sleep(min(due - now, 0.05))  # short: a cancel must be seen soon
        now = time.monotonic()
        return [self._next(choice, now) for choice in list(self._running) if choice.due <= now]

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return bytes(tokens)

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        last = messages[-1].get("content") if messages else ""
        return self.tokenize(last if isinstance(last, str) else "\n".join(map(_said, last or [])), False, False)

    def tool_format(self) -> str:
        return self._options.tool_format

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        import numpy as np

        return [np.bincount(np.array(tokens) % 8, minlength=8).astype("<f4").tobytes() for tokens in inputs]

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        """The share of the query's words that a document has."""
        words = set(query.split())
        scores = [len(words & set(document.split())) / max(len(words), 1) for document in documents]
        return scores, sum(len(f"{query}{document}".encode()) for document in documents)

    def hear(self, frame: Transcribe) -> list[Speech]:
        if not self._options.speech:
            return super().hear(frame)  # type: ignore[no-any-return]
        try:
            lines = frame.audio.decode().splitlines()
        except UnicodeDecodeError as exc:
            raise BadRequest("file is no text, which is what echo hears", "send text", param="file") from exc
        language, duration = frame.language or "en", float(len(lines))
        segments = [_segment(i, line, frame) for i, line in enumerate(lines)]
        return [Speech(language, duration), *(Speech(language, duration, segment) for segment in segments)]

    def set_threads(self, n: int) -> None:
        self._threads = n

    def close(self) -> None:
        self._running, self._waiting = [], []

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._options.n_parallel:
            request = self._waiting.pop(0)
            due = time.monotonic() + self._options.ttft_ms / 1e3
            answer = self._options.answer
            text = bytes(request.tokens) if answer is None else answer.encode()
            for index in range(request.n):
                words = iter(_WORD.findall(text) if request.heard is None else request.heard)
                self._running.append(_Choice(request, index, words, due, request.max_tokens))

    def _next(self, choice: _Choice, now: float) -> Output:
        request = choice.request
        if choice.left <= 0:
            return self._finish(choice, Output(request.id, choice.index, finish_reason="length"))
        word = next(choice.tokens, None)
        if word is None:
            return self._finish(choice, Output(request.id, choice.index, finish_reason="stop"))
        self._misbehave()
        choice.left -= 1
        rate = self._options.tokens_per_second
        choice.due = max(choice.due + 1 / rate, now) if rate else now
        if isinstance(word, Speech):
            return Output(request.id, choice.index, tokens=1, speech=word)
        output = Output(request.id, choice.index, piece=word, tokens=1)
        if request.logprobs is not None:
            output.logprobs = [TokenLogprob(word[0], word, 0.0, [(word[0], word, 0.0)] * min(request.logprobs, 1))]
        return self._finish(choice, output, "length") if choice.left == 0 else output

    def _finish(self, choice: _Choice, output: Output, reason: Any = None) -> Output:
        self._running.remove(choice)
        output.finish_reason = reason or output.finish_reason
        return output

    def _misbehave(self) -> None:
        if self._given == self._options.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        while self._given == self._options.stall_after:
            time.sleep(1)
        self._given += 1


def _segment(index: int, line: str, frame: Transcribe) -> Segment:
    """The words share its second."""
    spoken = line.upper() if frame.task == "translate" else line
    said = spoken.split()
    words = [Word(index + i / len(said), index + (i + 1) / len(said), word) for i, word in enumerate(said)]
    return Segment(index, index + 1, f" {spoken}", words=words if frame.words else None)


def _said(part: dict[str, Any]) -> str:
    """A text part's text; of an image its format, size in pixels and bytes."""
    if part["type"] != "image":
        return str(part.get("text", ""))
    kind = part["media_type"].removeprefix("image/").upper()
    width, height = pixels(part["data"]) or (0, 0)
    return f"[{kind} of {width} x {height} pixels, {len(part['data'])} bytes]"

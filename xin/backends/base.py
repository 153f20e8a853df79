"""The engine contract: step-shaped, synchronous, in a worker process; an engine knows no HTTP.

Source of the shape: nano-vllm's `LLMEngine.step`. A newcomer copies echo.py and passes tests/backends/test_contract.py.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from xin.errors import UnsupportedParameter, XinError
from xin.worker.frames import Constraint, Ready, Sampling, Share, Speech, TokenLogprob, Transcribe

Progress = Callable[[float, str], None]
FinishReason = Literal["stop", "length"]


@dataclass(slots=True)
class Seen:
    """Images of a chat as the engine keeps them. `unlisted`: their tokens that `Request.tokens` has no place for."""

    images: Any
    unlisted: int = 0


@dataclass(slots=True)
class Request:
    """One generation as an engine sees it. `tokens` is the whole prompt; `max_tokens` is at least 0."""

    id: int
    tokens: list[int]
    sampling: Sampling
    max_tokens: int
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    shown: frozenset[int] = frozenset()  # control tokens whose text is wanted: marks around tool calls
    compiled: Any = None  # what Engine.compile made of `constraint`, off the step thread
    heard: Any = None  # what Engine.hear made of audio, off the step thread; `tokens` is empty then
    seen: Seen | None = None  # what Engine.look made of the images of a chat
    arrived_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Output:
    """What one step gave one choice. `piece` is raw bytes: a character may be split over outputs.

    `prompt_logprobs` comes once, in the first output of a request that asked. `speech` is the news of a transcription,
    in place of `piece`. `error` ends the request.
    """

    request_id: int
    index: int
    piece: bytes = b""
    tokens: int = 0
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0
    speech: Speech | None = None
    error: XinError | None = None


@dataclass(slots=True)
class Load:
    """Counts for Stats: requests running and waiting, KV cells used and in all."""

    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    kv_total: int = 0
    cached_sequences: int = 0


@dataclass(slots=True)
class Weights:
    """What to load: `paths` on this machine, what the catalogue knows of the model, and the quantization.

    `shares`: of a model that is divided over machines, which only the llama.cpp engine can be asked for.
    """

    paths: list[str]
    model_name: str = ""
    prompt_style: dict[str, Any] | None = None
    chat_sibling: str | None = None
    abilities: list[str] | None = None
    quantization: str | None = None
    shares: list[Share] = field(default_factory=list)


class Engine(ABC):
    """One loaded model. tokenize, detokenize, render, infill, compile, warm, interrupt come from other threads."""

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[tuple[str, ...]] = ()
    # Settings that a request leaves unset, in place of the node's own: those that the engine lacks, for one.
    sampling_defaults: ClassVar[dict[str, float | int]] = {}

    Options: ClassVar[type[msgspec.Struct]]  # launch options: each field is a launch flag, a form field, a line of docs

    @classmethod
    @abstractmethod
    def load(cls, weights: Weights, options: Any, progress: Progress) -> Engine:
        """Load or raise LoadFailed, OutOfMemory, BadRequest. `progress` takes 0..1 and a stage."""

    @abstractmethod
    def describe(self) -> Ready: ...

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Queue one generation; raise XinError when it can never run."""

    @abstractmethod
    def cancel(self, request_id: int, index: int | None = None) -> None:
        """Forget a request, or one choice of it. Unknown ids are ignored. No output follows."""

    def interrupt(self, request_id: int) -> None:
        """Called from another thread, right before `cancel`: a step that works for this request alone may end early."""
        return

    def deliver_to(self, deliver: Callable[[list[Output]], None]) -> None:  # noqa: B027
        """Called once, before the first step: a long step may hand over there what should not wait for its end."""

    @abstractmethod
    def step(self) -> list[Output]:
        """Advance everything that runs by one decode; [] when idle."""

    @abstractmethod
    def busy(self) -> bool:
        """Is there anything for step() to do?"""

    def load_now(self) -> Load:
        return Load()

    @abstractmethod
    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Text to ids. Called from another thread than step."""

    @abstractmethod
    def detokenize(self, tokens: Sequence[int]) -> bytes: ...

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        """Chat messages to prompt ids, through the model's own template; its generation prompt is added.

        `template_kwargs["tools"]`, where it is set, are the functions that may be called.
        """
        raise UnsupportedParameter(f"{self.name} has no chat template here", param="messages")

    def look(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> tuple[list[int], Seen | None]:
        """`render`, and what `submit` needs of the images among the messages; each place of one has a negative id.

        Only engines that name the ability vision are given image parts.
        """
        return self.render(messages, template_kwargs), None

    def tool_format(self) -> str:
        """How the model writes its tool calls: a name of xin.chat.tool_parser.MARKS, "" for none of them."""
        return ""

    def infill(self, prefix: str, suffix: str) -> list[int]:
        raise UnsupportedParameter("this model cannot fill in the middle", "leave suffix out", param="suffix")

    def compile(self, constraint: Constraint) -> Any:
        """Prepare a constraint off the step thread; raise BadRequest (param response_format) when it is malformed."""
        raise UnsupportedParameter(f"{self.name} cannot constrain its output", param="response_format")

    def warm(self) -> None:  # noqa: B027
        """Called once, when the worker has been idle for a while: build what a first request would wait for."""

    def embedding_tokens(self, text: str) -> list[int]:
        """A text to embed as ids; where the model was trained with a prompt before it, with that."""
        return self.tokenize(text, True, False)

    def can_shorten(self, dimensions: int) -> bool:
        """May its embeddings be cut to so many values? Only those of models that were trained for it."""
        return False

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        """One little-endian float32 vector per token list."""
        raise UnsupportedParameter(f"{self.name} gives no embeddings", param="model")

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        """A score a document, higher for a better answer, and how many tokens were read."""
        raise UnsupportedParameter(f"{self.name} cannot rerank", param="model")

    def hear(self, frame: Transcribe) -> Any:
        """Decode audio, off the step thread, to what `Request.heard` shall be; raise BadRequest for what is none."""
        raise UnsupportedParameter(
            f"{self.name} writes down no speech", "launch a Whisper model: xin list --all", param="model"
        )

    def set_threads(self, n: int) -> None:  # noqa: B027  an engine may have no threads to set
        """CPU threads to use from the next step on."""

    def close(self) -> None:  # noqa: B027
        """Free what the model holds. Idempotent."""


class SequentialEngine(Engine):
    """step() for an engine that can only write one answer at a time: implement generate()."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Request, int]] = []
        self._current: Iterator[Output | None] | None = None
        self._running = (0, 0)
        self._left = 0

    @abstractmethod
    def generate(self, request: Request) -> Iterator[Output | None]:
        """One answer, a token an output; it may end without a word. None: a step that gave nothing yet.

        Each of the request's `n` choices is a call of its own. What reached `max_tokens` or was cancelled is closed.
        """

    def submit(self, request: Request) -> None:
        self._waiting.extend((request, index) for index in range(request.n))

    def cancel(self, request_id: int, index: int | None = None) -> None:
        self._waiting = [
            (request, i) for request, i in self._waiting if request.id != request_id or index not in (None, i)
        ]
        if self._running[0] == request_id and index in (None, self._running[1]):
            self._end()

    def busy(self) -> bool:
        return self._current is not None or bool(self._waiting)

    def step(self) -> list[Output]:
        if self._current is None:
            if not self._waiting:
                return []
            request, index = self._waiting.pop(0)
            self._current, self._running, self._left = self.generate(request), (request.id, index), request.max_tokens
        output = next(self._current, Output(0, 0, finish_reason="stop")) if self._left > 0 else Output(0, 0)
        if output is None:
            return []
        output.request_id, output.index = self._running
        self._left -= output.tokens
        if self._left <= 0 and output.finish_reason is None:
            output.finish_reason = "length"
        if output.error is not None:
            self.cancel(output.request_id)
        elif output.finish_reason is not None:
            self._end()
        return [output]

    def load_now(self) -> Load:
        waiting = {request.id for request, _ in self._waiting} - {self._running[0]}
        return Load(running=int(self._current is not None), waiting=len(waiting))

    def _end(self) -> None:
        close = getattr(self._current, "close", None)
        self._current, self._running = None, (0, 0)
        if close is not None:
            close()

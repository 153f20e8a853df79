"""One request in the worker: how its frame becomes an engine request, and its outputs become text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from xin.backends.base import Engine, Output, Request, Seen
from xin.chat.reasoning import ReasoningSplit, opens_reasoning
from xin.chat.tool_parser import ToolParser
from xin.errors import BadRequest, ContextLengthExceeded, UnsupportedParameter
from xin.worker.calls import Calls, calls_of
from xin.worker.frames import (
    CallDelta,
    Delta,
    Detokenize,
    Done,
    Down,
    Embed,
    Generate,
    Rerank,
    Result,
    Sampling,
    Tokenize,
    TokenLogprob,
    Transcribe,
)
from xin.worker.text import Piece, TextStream

_TAIL_TOKENS = 16  # enough to see whether the template has opened a thought


@dataclass(slots=True)
class Choice:
    text: TextStream
    reasoning: ReasoningSplit | None
    calls: ToolParser | None = None
    tokens: int = 0
    cached: int = 0
    first: float = 0.0
    last: float = 0.0
    over: bool = False


@dataclass(slots=True)
class Job:
    """A generation between its frame and its last Done."""

    request: Request
    stops: list[str]
    echo: bytes | None = None
    splits_reasoning: bool = False
    opened_reasoning: bool = False
    tools: Calls | None = None
    started: float = 0.0
    choices: list[Choice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choices = [Choice(TextStream(self.stops), self._split(), self._parser()) for _ in range(self.request.n)]

    def open_choices(self) -> list[int]:
        return [i for i, choice in enumerate(self.choices) if not choice.over]

    def take(self, output: Output, deltas: list[Delta]) -> Done | None:
        """Add the output's text to `deltas`; Done when its choice has ended, by itself or by a stop string."""
        choice = self.choices[output.index]
        if choice.over:
            return None
        now = time.perf_counter()
        choice.first = choice.first or now
        choice.last = now
        choice.tokens += output.tokens
        choice.cached = max(choice.cached, output.cached_tokens)
        if self.echo is not None:
            self._echo(output, deltas)
        if output.speech is not None:
            text = output.speech.segment.text if output.speech.segment else ""
            deltas.append(Delta(self.request.id, output.index, text, output.tokens, speech=output.speech))
        piece = choice.text.feed(output.piece, output.tokens, output.logprobs)
        if piece.stop is None and output.finish_reason is not None:
            rest = choice.text.flush()
            piece.text, piece.tokens, piece.stop = piece.text + rest.text, piece.tokens + rest.tokens, rest.stop
            piece.logprobs = [*(piece.logprobs or []), *(rest.logprobs or [])] or None
        over = piece.stop is not None or output.finish_reason is not None
        self._emit(output.index, piece, over, deltas)
        if choice.calls is not None and choice.calls.finished:
            return self.done(output.index, "stop")
        if not over:
            return None
        return self.done(output.index, "stop" if piece.stop else output.finish_reason or "stop", piece.stop)

    def done(self, index: int, reason: str, stop: str | None = None) -> Done:
        choice = self.choices[index]
        choice.over = True
        if reason == "stop" and choice.calls is not None and choice.calls.called:
            reason = "tool_calls"
        ttft = (choice.first - self.started) * 1e3 if choice.first else 0.0
        decode = (choice.last - choice.first) * 1e3
        return Done(self.request.id, index, reason, choice.tokens, choice.cached, stop, ttft, decode)

    def _emit(self, index: int, piece: Piece, over: bool, deltas: list[Delta]) -> None:
        content, reasoning = piece.text, ""
        split = self.choices[index].reasoning
        if split is not None:
            content, reasoning = split.feed(piece.text)
            if over:
                last_content, last_reasoning = split.flush()
                content, reasoning = content + last_content, reasoning + last_reasoning
        calls: list[CallDelta] = []
        parser = self.choices[index].calls
        if parser is not None:
            content, calls = parser.feed(content)
            if over:
                last_content, last_calls = parser.flush()
                content, calls = content + last_content, calls + last_calls
        if content or reasoning or piece.logprobs or calls:
            request_id, tokens, logprobs = self.request.id, piece.tokens, piece.logprobs
            deltas.append(Delta(request_id, index, content, tokens, logprobs, reasoning, calls or None))

    def _parser(self) -> ToolParser | None:
        return self.tools.parser() if self.tools is not None else None

    def _split(self) -> ReasoningSplit | None:
        return ReasoningSplit(opened=self.opened_reasoning) if self.splits_reasoning else None

    def _echo(self, output: Output, deltas: list[Delta]) -> None:
        """The prompt itself comes first, once a choice."""
        logprobs: list[TokenLogprob] | None = output.prompt_logprobs
        text = (self.echo or b"").decode("utf-8", "replace")
        deltas.extend(Delta(self.request.id, i, text, 0, logprobs) for i in range(self.request.n))
        self.echo = None


def prepare(engine: Engine, frame: Down) -> Job | Result | Callable[[], Result]:
    """What the step thread shall do for this frame; a Result where nothing is left. Runs on the preparer thread."""
    match frame:
        case Generate():
            return _generation(engine, frame)
        case Transcribe():
            sampling = Sampling(temperature=frame.temperature)
            return Job(Request(frame.request_id, [], sampling, sys.maxsize, heard=engine.hear(frame)), [])
        case Tokenize():
            tokens = (
                engine.look(frame.messages, {})[0]
                if frame.messages is not None
                else engine.tokenize(frame.text or "", frame.add_special, frame.parse_special)
            )
            return Result(frame.request_id, tokens=tokens)
        case Detokenize():
            _check_ids(engine, frame.tokens, "tokens")
            return Result(frame.request_id, text=engine.detokenize(frame.tokens).decode("utf-8", "replace"))
        case Embed():
            return _embedding(engine, frame)
        case Rerank():
            return lambda: _reranked(engine, frame)
    raise BadRequest(f"unexpected frame {type(frame).__name__}")


def _generation(engine: Engine, frame: Generate) -> Job:
    tokens, seen = _prompt(engine, frame)
    calls = calls_of(engine, frame.tools) if frame.tools is not None else None
    window = engine.describe().context_length
    if not tokens:
        raise BadRequest("the prompt is empty", "send at least one token", param="prompt")
    room = window - len(tokens)
    if room < (1 if frame.max_tokens != 0 else 0):
        raise ContextLengthExceeded(
            f"this model's maximum context length is {window} tokens, but the prompt has {len(tokens)}",
            "shorten the prompt, or launch with a larger --context-length",
            param="messages" if frame.messages is not None else "prompt",
        )
    if frame.max_tokens is not None and frame.max_tokens > room:
        raise ContextLengthExceeded(
            f"this model's maximum context length is {window} tokens, but {len(tokens)} prompt tokens and "
            f"{frame.max_tokens} max_tokens were asked for",
            f"ask for at most {room} tokens, or launch with a larger --context-length",
            param="max_tokens",
        )
    _check_ids(engine, list(frame.sampling.logit_bias), "logit_bias")
    _check_ids(engine, frame.stop_token_ids, "stop_token_ids")
    request = Request(
        id=frame.request_id,
        tokens=tokens,
        sampling=frame.sampling,
        max_tokens=room if frame.max_tokens is None else frame.max_tokens,
        n=frame.n,
        logprobs=frame.logprobs,
        prompt_logprobs=frame.echo and frame.logprobs is not None,
        stop_token_ids=frozenset(frame.stop_token_ids),
        constraint=frame.constraint,
        compiled=engine.compile(frame.constraint) if frame.constraint else None,
        seen=seen,
    )
    if calls is not None:
        request.shown = calls.shown
        if calls.constraint is not None:
            request.constraint, request.compiled = calls.constraint, calls.compiled
    echo = None
    if frame.echo:
        echo = frame.prompt.encode() if frame.prompt is not None else engine.detokenize(tokens)
    chat = frame.messages is not None and (calls is None or calls.constraint is None)  # a forced call has no thought
    opened = chat and opens_reasoning(engine.detokenize(tokens[-_TAIL_TOKENS:]).decode("utf-8", "replace"))
    return Job(request, frame.stop, echo, splits_reasoning=chat, opened_reasoning=opened, tools=calls)


def _prompt(engine: Engine, frame: Generate) -> tuple[list[int], Seen | None]:
    if frame.messages is not None:
        tools = {"tools": frame.tools.given} if frame.tools is not None else {}
        return engine.look(frame.messages, {**frame.template_kwargs, **tools})
    if frame.tokens is not None:
        _check_ids(engine, frame.tokens, "prompt")
        return frame.tokens, None
    if frame.suffix is not None:
        return engine.infill(frame.prompt or "", frame.suffix), None
    return engine.tokenize(frame.prompt or "", add_special=True, parse_special=True), None


def _embedding(engine: Engine, frame: Embed) -> Callable[[], Result]:
    inputs: list[list[int]] = []
    for i, ids in enumerate(frame.tokens):
        _check_ids(engine, ids, f"input[{i}]")
    for i, tokens in enumerate([*map(engine.embedding_tokens, frame.texts), *frame.tokens]):
        if not tokens:
            raise BadRequest(f"input[{i}] is empty", "send at least one token", param=f"input[{i}]")
        inputs.append(tokens)
    size = engine.describe().embedding_size
    shorter = frame.dimensions if frame.dimensions not in (None, size) else None
    if shorter is not None and (shorter > size or not engine.can_shorten(shorter)):
        raise UnsupportedParameter(
            f"this model's embeddings have {size} dimensions, not {frame.dimensions}",
            "leave dimensions out",
            param="dimensions",
        )
    total = sum(map(len, inputs))

    def embed() -> Result:
        vectors = engine.embed(inputs)
        if shorter is not None:
            vectors = [_cut(vector, shorter) for vector in vectors]
        return Result(frame.request_id, vectors=vectors, prompt_tokens=total)

    return embed


def _cut(vector: bytes, size: int) -> bytes:
    """Its first `size` values, of unit length again."""
    import numpy as np

    kept = np.frombuffer(vector, "<f4")[:size]
    length = float(np.linalg.norm(kept))
    return (kept / length if length else kept).astype("<f4").tobytes()


def _reranked(engine: Engine, frame: Rerank) -> Result:
    scores, tokens = engine.rerank(frame.query, frame.documents)
    return Result(frame.request_id, scores=scores, prompt_tokens=tokens)


def _check_ids(engine: Engine, ids: list[int], param: str) -> None:
    size = engine.describe().vocabulary_size
    for token in ids:
        if not 0 <= token < size:
            raise BadRequest(f"{param} holds token id {token}; this model's ids are 0 to {size - 1}", param=param)

"""Frames between a node and its worker: u32 little-endian length, then msgpack of one tagged, array-like struct.

Array-like structs tolerate extra trailing fields, so a newer node may talk to an older worker.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, ClassVar

import msgspec

MAX_FRAME_BYTES = 256 * 1024 * 1024
_LENGTH = struct.Struct("<I")


class Frame(msgspec.Struct, array_like=True, tag=True):
    """Base of every frame; the tag is the class name."""


class Sampling(msgspec.Struct, array_like=True, frozen=True):
    """How the next token is chosen. temperature 0 = greedy; top_k 0, top_p 1, min_p 0, typical_p 1 = off."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    ignore_eos: bool = False


class Constraint(msgspec.Struct, array_like=True, frozen=True):
    """What the text must match. `kind`: json_object, json_schema, regex, grammar (Lark or GBNF)."""

    kind: str
    text: str = ""


class Tools(msgspec.Struct, array_like=True, frozen=True):
    """Functions that a chat may call, as OpenAI's objects. `choice`: auto, required, named (then `name` says which)."""

    given: list[dict[str, Any]]
    choice: str = "auto"
    name: str | None = None
    parallel: bool = True


class Share(msgspec.Struct, array_like=True, frozen=True):
    """Layers of a model that is divided over several machines. `endpoint`: a way to who holds them; "" = the worker."""

    layers: int
    endpoint: str = ""


# ---- down: node to worker


class Load(Frame):
    """First frame. `weights` are paths on this machine (one file, or a folder); `options` the engine's own.

    `shares`: the worker's own and those of its helpers; none of a model that is not divided.
    """

    engine: str
    weights: list[str]
    options: dict[str, Any] = {}
    model_name: str = ""
    prompt_style: dict[str, Any] | None = None
    chat_sibling: str | None = None
    abilities: list[str] | None = None
    quantization: str | None = None
    shares: list[Share] = []


class Generate(Frame):
    """One generation. Exactly one of `messages` (chat), `prompt` (raw text) and `tokens` is set.

    `max_tokens` None = up to the window. `logprobs` None = none, else the number of alternatives (0 to 20).
    `echo`: the prompt's own tokens come back first, with their logprobs when `logprobs` is set.
    """

    request_id: int
    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    tokens: list[int] | None = None
    suffix: str | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    n: int = 1
    stop: list[str] = []
    stop_token_ids: list[int] = []
    logprobs: int | None = None
    echo: bool = False
    constraint: Constraint | None = None
    template_kwargs: dict[str, Any] = {}
    tools: Tools | None = None


class Embed(Frame):
    """Texts, or token lists where the caller tokenised; one of the two is empty."""

    request_id: int
    texts: list[str] = []
    tokens: list[list[int]] = []
    dimensions: int | None = None


class Rerank(Frame):
    request_id: int
    query: str
    documents: list[str]


class Transcribe(Frame):
    """Speech to be written down: `audio` is a file as it was sent. `task`: transcribe, or translate (into English).

    `language` None: found out. `temperature` 0: raised where the text repeats itself. `words`: their times too.
    """

    n: ClassVar[int] = 1  # as Generate's: it has one answer

    request_id: int
    audio: bytes
    task: str = "transcribe"
    language: str | None = None
    prompt: str | None = None
    temperature: float = 0.0
    words: bool = False


class Tokenize(Frame):
    """`messages` renders the chat template first; `add_special` adds BOS and the like to `text`."""

    request_id: int
    text: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special: bool = True
    parse_special: bool = True


class Detokenize(Frame):
    request_id: int
    tokens: list[int]


class Cancel(Frame):
    request_id: int


class SetThreads(Frame):
    threads: int


class Close(Frame):
    pass


# ---- up: worker to node


class Progress(Frame):
    """Load progress: 0 to 1, and the stage in a word."""

    fraction: float
    stage: str = "loading"


class Ready(Frame):
    """The model is loaded. Sizes in bytes, `devices` per device name."""

    context_length: int
    n_parallel: int = 1
    vocabulary_size: int = 0
    embedding_size: int = 0
    abilities: list[str] = []
    description: str = ""
    engine_version: str = ""
    memory_bytes: dict[str, int] = {}
    threads: int = 1
    notes: list[str] = []


class Accepted(Frame):
    """The request is valid and queued: HTTP headers may go out now."""

    request_id: int
    prompt_tokens: int


class TokenLogprob(msgspec.Struct, array_like=True):
    """One token's text (bytes may be part of a character), its natural-log probability and the best alternatives."""

    token_id: int
    piece: bytes
    logprob: float | None
    top: list[tuple[int, bytes, float]] = []


class CallDelta(msgspec.Struct, array_like=True):
    """News of one tool call: the first of each has its id and name; `arguments` is the next part of their JSON."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Word(msgspec.Struct, array_like=True):
    """One spoken word, and when, in seconds from the beginning of the audio."""

    start: float
    end: float
    text: str


class Segment(msgspec.Struct, array_like=True):
    """A few seconds of speech, written down. Times in seconds from the beginning of the audio."""

    start: float
    end: float
    text: str
    tokens: list[int] = []
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    seek: int = 0
    words: list[Word] | None = None


class Speech(msgspec.Struct, array_like=True):
    """What is known of the audio, at first without a segment, then with each: ISO 639-1 code, length in seconds."""

    language: str
    duration: float
    segment: Segment | None = None


class Delta(msgspec.Struct, array_like=True):
    """New text of one choice of one request; `tokens` counts the tokens it stands for."""

    request_id: int
    index: int
    text: str
    tokens: int = 1
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    calls: list[CallDelta] | None = None
    speech: Speech | None = None


class Deltas(Frame):
    """All that one step gave, for all requests. One frame a step."""

    items: list[Delta]


class Done(Frame):
    """One choice has ended. `finish_reason`: stop, length, tool_calls, cancelled. Times in milliseconds from submit."""

    request_id: int
    index: int
    finish_reason: str
    completion_tokens: int
    cached_tokens: int = 0
    stop_text: str | None = None
    ttft_ms: float = 0.0
    decode_ms: float = 0.0


class Result(Frame):
    """Answer of Embed (list of float32 bytes, token counts), Rerank (scores), Tokenize (ids), Detokenize (text)."""

    request_id: int
    vectors: list[bytes] = []
    scores: list[float] = []
    tokens: list[int] = []
    text: str = ""
    prompt_tokens: int = 0


class Stats(Frame):
    """Twice a second while something runs, and once when it becomes idle."""

    running: int
    waiting: int
    tokens_per_second: float
    kv_used: int
    kv_total: int
    cached_sequences: int = 0


class Log(Frame):
    level: str
    message: str


class Failed(Frame):
    """`request_id` 0: the worker itself cannot go on (load failed). Else that request's error."""

    request_id: int
    code: str
    message: str
    hint: str | None = None
    param: str | None = None


Down = Load | Generate | Embed | Rerank | Transcribe | Tokenize | Detokenize | Cancel | SetThreads | Close
Up = Progress | Ready | Accepted | Deltas | Done | Result | Stats | Log | Failed

_encoder = msgspec.msgpack.Encoder()
_down = msgspec.msgpack.Decoder(Down)
_up = msgspec.msgpack.Decoder(Up)


def encode(frame: Frame) -> bytes:
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


def decode_up(body: bytes | memoryview) -> Up:
    frame: Up = _up.decode(body)
    return frame


def read_down(stream: BinaryIO) -> Down | None:
    """Block for the next frame from the node; None when the node closed the pipe."""
    head = _read_exactly(stream, _LENGTH.size)
    if head is None:
        return None
    body = _read_exactly(stream, frame_length(head))
    return None if body is None else _down.decode(body)


def frame_length(head: bytes) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"frame of {length} bytes: the stream is out of step")
    return int(length)


def _read_exactly(stream: BinaryIO, size: int) -> bytes | None:
    data = stream.read(size)
    return data if data is not None and len(data) == size else None

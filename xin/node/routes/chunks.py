"""The chunks of a streamed answer, as SSE events.

A chunk that is only text is the same bytes around one JSON string, so those bytes are made once per choice.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from xin.node.routes.logprobs import LegacyLogprobs, chat_logprobs
from xin.protocol import sse
from xin.protocol.node import Instance
from xin.protocol.openai import (
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatDelta,
    Completion,
    CompletionChoice,
    FunctionCallDelta,
    ToolCallDelta,
    Usage,
)
from xin.worker.frames import CallDelta, Delta, Done

_encode = msgspec.json.Encoder().encode


class Head:
    """What all parts of one response share."""

    __slots__ = ("created", "fingerprint", "id", "model")

    def __init__(self, prefix: str, instance: Instance) -> None:
        self.id = f"{prefix}-{secrets.token_hex(16)}"
        self.created = int(time.time())
        self.model = instance.served_uid
        self.fingerprint = f"{instance.model_engine}-{instance.quantization}"


class Chunks(ABC):
    """Deltas and Dones of one response to SSE bytes. With `usage`, chunks carry `usage: null` and one more tells it."""

    empty_text: ClassVar[bytes]  # the one place in a plain chunk where the text goes

    def __init__(self, head: Head, *, usage: bool) -> None:
        self._head = head
        self._usage: msgspec.UnsetType | None = None if usage else msgspec.UNSET
        self._around: dict[int, tuple[bytes, bytes]] = {}

    def encode(self, item: Delta | Done, offset: int = 0) -> bytes:
        index = offset + item.index
        if isinstance(item, Done):
            return self._opening(index) + self.last(index, item.finish_reason)
        if item.logprobs is not None or item.reasoning or item.calls:
            return self._opening(index) + self.full(index, item)
        frame = self._around.get(index)
        if frame is not None:
            return frame[0] + _encode(item.text) + frame[1]
        opening = self._opening(index)
        head, tail = self._around[index]
        return opening + head + _encode(item.text) + tail

    @abstractmethod
    def opening(self, index: int) -> bytes:
        """What comes before the first text of a choice."""

    @abstractmethod
    def plain(self, index: int) -> bytes:
        """A chunk whose text is empty."""

    @abstractmethod
    def full(self, index: int, delta: Delta) -> bytes: ...

    @abstractmethod
    def last(self, index: int, finish_reason: str) -> bytes: ...

    @abstractmethod
    def usage(self, usage: Usage) -> bytes: ...

    def _opening(self, index: int) -> bytes:
        if index in self._around:
            return b""
        head, tail = self.plain(index).split(self.empty_text, 1)
        self._around[index] = (head + self.empty_text[:-2], tail)
        return self.opening(index)


class ChatChunks(Chunks):
    empty_text = b'"content":""'

    def __init__(self, head: Head, *, usage: bool, top_logprobs: int = 0) -> None:
        super().__init__(head, usage=usage)
        self._top = top_logprobs

    def opening(self, index: int) -> bytes:
        return self._chunk(ChatChunkChoice(index, ChatDelta(role="assistant", content="")))

    def plain(self, index: int) -> bytes:
        return self._chunk(ChatChunkChoice(index, ChatDelta(content="")))

    def full(self, index: int, delta: Delta) -> bytes:
        change = ChatDelta()
        if delta.reasoning:
            change.reasoning_content = delta.reasoning
        if delta.calls:
            change.tool_calls = [_call(call) for call in delta.calls]
        if delta.text or not (delta.reasoning or delta.calls):
            change.content = delta.text
        logprobs = chat_logprobs(delta.logprobs, self._top) if delta.logprobs else None
        return self._chunk(ChatChunkChoice(index, change, logprobs=logprobs))

    def last(self, index: int, finish_reason: str) -> bytes:
        return self._chunk(ChatChunkChoice(index, ChatDelta(), finish_reason))

    def usage(self, usage: Usage) -> bytes:
        return self._event([], usage)

    def _chunk(self, choice: ChatChunkChoice) -> bytes:
        return self._event([choice], self._usage)

    def _event(self, choices: list[ChatChunkChoice], usage: Usage | msgspec.UnsetType | None) -> bytes:
        head = self._head
        return sse.encode(
            _encode(ChatCompletionChunk(head.id, head.created, head.model, choices, usage, head.fingerprint))
        )


def _call(news: CallDelta) -> ToolCallDelta:
    if not news.id:
        return ToolCallDelta(news.index, FunctionCallDelta(arguments=news.arguments))
    return ToolCallDelta(news.index, FunctionCallDelta(news.name, news.arguments), news.id, "function")


class CompletionChunks(Chunks):
    empty_text = b'"text":""'

    def __init__(self, head: Head, *, usage: bool, top_logprobs: int = 0) -> None:
        super().__init__(head, usage=usage)
        self._top = top_logprobs
        self._logprobs: dict[int, LegacyLogprobs] = {}

    def opening(self, index: int) -> bytes:
        return b""

    def plain(self, index: int) -> bytes:
        return self._chunk(CompletionChoice(index, ""))

    def full(self, index: int, delta: Delta) -> bytes:
        logprobs = None
        if delta.logprobs:
            logprobs = self._logprobs.setdefault(index, LegacyLogprobs(self._top)).take(delta.logprobs)
        return self._chunk(CompletionChoice(index, delta.reasoning + delta.text, logprobs=logprobs))

    def last(self, index: int, finish_reason: str) -> bytes:
        return self._chunk(CompletionChoice(index, "", finish_reason))

    def usage(self, usage: Usage) -> bytes:
        return self._event([], usage)

    def _chunk(self, choice: CompletionChoice) -> bytes:
        return self._event([choice], self._usage)

    def _event(self, choices: list[CompletionChoice], usage: Usage | msgspec.UnsetType | None) -> bytes:
        head = self._head
        return sse.encode(_encode(Completion(head.id, head.created, head.model, choices, usage, head.fingerprint)))

"""One answer on its way from a node: its request, what has arrived, and its figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal, Protocol

from xin.errors import XinError
from xin.protocol.openai import ChatChunkChoice, ChatCompletionChunk, Usage

LEAST_SECONDS = 0.02  # of which a rate is told
Ended = Literal["done", "stopped", "failed"]


class ChatClient(Protocol):
    def chat_stream(self, model: str, messages: Any, **fields: Any) -> AsyncGenerator[ChatCompletionChunk, None]: ...


class AnswerStream:
    """`run` it in a task of its own, `drain` it as often as it is drawn. One stream belongs to one answer for good,

    so that what it still receives after its turn can never reach another one. Times are seconds of `clock`.
    """

    def __init__(self, model: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.model = model
        self.state: Literal["streaming"] | Ended = "streaming"
        self.error: XinError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.on_news: Callable[[], None] = lambda: None
        self._clock = clock
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._sent_at: float | None = None
        self._first_thought_at: float | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.content_chunks = 0
        self.reasoning_chunks = 0

    def start(self, client: ChatClient, messages: list[dict[str, Any]], fields: dict[str, Any]) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self.run(client, messages, fields), name=f"answer of {self.model}")
        return self._task

    async def run(self, client: ChatClient, messages: list[dict[str, Any]], fields: dict[str, Any]) -> None:
        """Ask and listen to the end. Only cancellation comes out; every other end is in `state` and `error`."""
        self._sent_at = self._clock()
        try:
            async with aclosing(client.chat_stream(self.model, messages, **fields)) as chunks:
                async for chunk in chunks:
                    self._take(chunk)
            self._end("done")
        except XinError as exc:
            self.fail(exc)
        finally:
            if self.state == "streaming":
                self._end("stopped")

    def stop(self) -> None:
        """End it as stopped now and hang up, which frees the node's slot. What has arrived stays to be drained."""
        self._end("stopped")
        if self._task is not None:
            self._task.cancel()

    def fail(self, error: XinError) -> None:
        """End it as failed; also for a node that is known to be gone while its connection still hangs."""
        if self.state != "streaming":
            return
        self.error = error
        self._end("failed")
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def drain(self) -> tuple[str, str]:
        """(text, reasoning) that came since the last call."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        self._text.clear()
        self._reasoning.clear()
        return text, reasoning

    @property
    def waiting(self) -> bool:
        """Whether something is there to be drained."""
        return bool(self._text or self._reasoning)

    @property
    def elapsed_ms(self) -> float:
        return 0.0 if self._sent_at is None else (self._clock() - self._sent_at) * 1e3

    @property
    def ttft_ms(self) -> float | None:
        """From sending to the first token of content; a model that thinks first has thought by then."""
        return _between_ms(self._sent_at, self._first_at)

    @property
    def thinking_ms(self) -> float | None:
        if self._first_thought_at is None:
            return None
        return _between_ms(self._first_thought_at, self._first_at or self._last_at)

    @property
    def tokens(self) -> int:
        """The node's count once it has told it, else pieces, of which there may be fewer than tokens."""
        return self.usage.completion_tokens if self.usage else self.content_chunks + self.reasoning_chunks

    @property
    def exact(self) -> bool:
        return self.usage is not None

    @property
    def tokens_per_second(self) -> float | None:
        """The rate after the first token of any kind; None while too little came to tell."""
        began = min((at for at in (self._first_thought_at, self._first_at) if at is not None), default=None)
        if began is None or self._last_at is None or self._last_at - began < LEAST_SECONDS:
            return None
        return max(self.tokens - 1, 0) / (self._last_at - began)

    def _take(self, chunk: ChatCompletionChunk) -> None:
        if self.state != "streaming":
            return
        if isinstance(chunk.usage, Usage):
            self.usage = chunk.usage
        for choice in chunk.choices:
            self._take_choice(choice)
        if self.waiting:
            self.on_news()

    def _take_choice(self, choice: ChatChunkChoice) -> None:
        self.finish_reason = choice.finish_reason or self.finish_reason
        delta = choice.delta
        if isinstance(delta.reasoning_content, str) and delta.reasoning_content:
            self._reasoning.append(delta.reasoning_content)
            self.reasoning_chunks += 1
            self._last_at = self._clock()
            self._first_thought_at = self._first_thought_at or self._last_at
        if isinstance(delta.content, str) and delta.content:
            self._text.append(delta.content)
            self.content_chunks += 1
            self._last_at = self._clock()
            self._first_at = self._first_at or self._last_at

    def _end(self, state: Ended) -> None:
        if self.state == "streaming":
            self.state = state
            self.on_news()


def _between_ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1e3

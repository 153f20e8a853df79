"""One streamed answer with its figures: time to first token, tokens a second."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from xin.errors import XinError
from xin.protocol.openai import ChatCompletionChunk, Completion, Usage


@dataclass(slots=True)
class Answer:
    """Feed it the chunks of one choice. `begun` and `arrivals` are times.perf_counter's seconds."""

    model: str
    text: str = ""
    begun: float = field(default_factory=time.perf_counter)
    arrivals: list[float] = field(default_factory=list)
    usage: Usage | None = None
    finish_reason: str | None = None
    error: XinError | None = None

    def take(self, chunk: ChatCompletionChunk | Completion) -> str:
        """Count the chunk and give its text."""
        if isinstance(chunk.usage, Usage):
            self.usage = chunk.usage
        piece = ""
        for choice in chunk.choices:
            self.finish_reason = choice.finish_reason or self.finish_reason
            text = choice.text if hasattr(choice, "text") else choice.delta.content
            piece += text or ""
        if piece:
            self.arrivals.append(time.perf_counter())
            self.text += piece
        return piece

    @property
    def tokens(self) -> int:
        return self.usage.completion_tokens if self.usage else len(self.arrivals)

    @property
    def ttft_ms(self) -> float | None:
        return (self.arrivals[0] - self.begun) * 1000 if self.arrivals else None

    @property
    def tokens_per_second(self) -> float | None:
        """The rate after the first token."""
        elapsed = self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0
        return (self.tokens - 1) / elapsed if elapsed > 0 else None

    def speed(self) -> str:
        """For people: `TTFT 53 ms · 87.2 tokens/s`."""
        if self.ttft_ms is None:
            return "no answer"
        rate = self.tokens_per_second
        return f"TTFT {self.ttft_ms:.0f} ms" + (f" · {rate:.1f} tokens/s" if rate is not None else "")

    def figures(self) -> str:
        """The speed, and `45 tokens`."""
        parts = [self.speed(), "1 token" if self.tokens == 1 else f"{self.tokens} tokens"]
        if self.finish_reason == "length":
            parts.append("cut at max_tokens")
        return " · ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "answer": self.text,
            "finish_reason": self.finish_reason,
            "ttft_ms": self.ttft_ms,
            "tokens_per_second": self.tokens_per_second,
            "usage": self.usage,
            "error": self.error.message if self.error else None,
        }

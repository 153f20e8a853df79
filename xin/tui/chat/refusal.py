"""A client of a node that cannot be reached: every answer fails with the reason."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from xin.errors import XinError
from xin.protocol.openai import ChatCompletionChunk


class Refusal:
    def __init__(self, error: XinError) -> None:
        self._error = error

    async def chat_stream(self, model: str, messages: Any, **fields: Any) -> AsyncGenerator[ChatCompletionChunk, None]:
        raise self._error
        yield

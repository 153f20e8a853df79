"""Turns with one model; a model that cannot chat gets the bare text instead."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from xin.cli.answer import Answer
from xin.client import Client
from xin.protocol.node import Instance

Message = dict[str, Any]


class Conversation:
    """Keeps the history; `fields` are sampling fields of the request."""

    def __init__(self, client: Client, instance: Instance, *, system: str | None, fields: dict[str, Any]) -> None:
        self._client = client
        self._uid = instance.model_uid
        self._chats = "chat" in instance.model_ability or not instance.model_ability
        self._first: list[Message] = [{"role": "system", "content": system}] if system else []
        self._fields = fields
        self._messages = list(self._first)

    def clear(self) -> None:
        self._messages = list(self._first)

    def ask(self, prompt: str, answer: Answer) -> Generator[str]:
        """The answer's pieces as they come; what was said when the caller leaves early stays in the history."""
        turn = {"role": "user", "content": prompt}
        stream: Any
        if self._chats:
            stream = self._client.chat_stream(self._uid, [*self._messages, turn], **self._fields)
        else:
            stream = self._client.complete_stream(self._uid, prompt, **self._fields)
        try:
            for chunk in stream:
                if piece := answer.take(chunk):
                    yield piece
        finally:
            stream.close()
            if answer.text:
                self._messages += [turn, {"role": "assistant", "content": answer.text}]

"""The arguments of `model.chat`, as Xinference's clients of 2023 and of today give them, to OpenAI messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xin.errors import BadRequest

Message = dict[str, Any]
Turns = Sequence[Message]


def messages_of(prompt: str | Turns, second: str | Turns | None, chat_history: Turns | None) -> list[Message]:
    """A new list; the caller's lists stay as they are.

    `prompt` is the user's words or the whole list of messages. `second` is a system prompt when it is a string, else
    the earlier turns.
    """
    system = [{"role": "system", "content": second}] if isinstance(second, str) and second else []
    history = list(chat_history or (() if isinstance(second, str) else second) or ())
    for turn in history:
        if not isinstance(turn, dict) or "role" not in turn:
            raise BadRequest(f"a turn of the chat history has no role: {turn!r}", TURN_HINT, param="chat_history")
    last = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [*system, *history, *last]


def tools_of(second: str | Turns | None) -> list[Message] | None:
    """Today's clients give tools as the second argument: they have a type and no role."""
    if second and not isinstance(second, str) and all("role" not in item and "type" in item for item in second):
        return list(second)
    return None


TURN_HINT = 'write turns as {"role": "user", "content": "…"}'

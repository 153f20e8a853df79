"""A conversation as a tree: a regenerated answer or an edited question is a sibling, and one path is shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["user", "assistant"]
State = Literal["done", "streaming", "stopped", "failed"]
WireMessage = dict[str, Any]


@dataclass(slots=True, eq=False)
class Message:
    """One question or answer. `text` is exactly what was typed or sent; figures are None until they are known.

    `ttft_ms` is the time to the first token of content, `thinking_ms` how much of it was reasoning.
    """

    id: int
    parent: int | None
    role: Role
    text: str = ""
    reasoning: str = ""
    state: State = "done"
    model: str = ""
    turn: int = 0
    ttft_ms: float | None = None
    thinking_ms: float | None = None
    tokens_per_second: float | None = None
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    prompt_tokens: int = 0
    counted: bool = False  # by the node; else tokens are pieces
    finish_reason: str | None = None
    error: str | None = None
    hint: str | None = None
    images: list[str] = field(default_factory=list)  # data URLs

    @property
    def answered(self) -> bool:
        """Whether a model has said something here that a later turn can build on."""
        return self.role == "assistant" and bool(self.text)


class Conversation:
    """One pane's messages. `new_id` gives the id under which a message is also recorded."""

    def __init__(self, new_id: Callable[[Message], int] | None = None) -> None:
        counter = itertools.count(1)
        self._new_id = new_id or (lambda message: next(counter))
        self._messages: dict[int, Message] = {}
        self._children: dict[int | None, list[int]] = {}
        self._chosen: dict[int | None, int] = {}

    @classmethod
    def restored(
        cls, messages: Iterable[Message], active: int | None, new_id: Callable[[Message], int] | None = None
    ) -> Conversation:
        """From recorded messages, parents first; the path to the leaf `active` is shown."""
        conversation = cls(new_id)
        for message in messages:
            conversation._insert(message)
        if active is not None:
            conversation.show(active)
        return conversation

    def add(self, role: Role, text: str = "", *, parent: Message | None, **fields: Any) -> Message:
        """Append below `parent` (None: a first message) and show it."""
        message = Message(0, parent.id if parent else None, role, text, **fields)
        message.id = self._new_id(message)
        self._insert(message)
        return message

    def path(self) -> list[Message]:
        """The messages that are shown, first to last."""
        shown: list[Message] = []
        at: int | None = None
        while (at := self._chosen.get(at)) is not None:
            shown.append(self._messages[at])
        return shown

    @property
    def leaf(self) -> Message | None:
        path = self.path()
        return path[-1] if path else None

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, id: int | None) -> Message | None:
        return None if id is None else self._messages.get(id)

    def parent(self, message: Message) -> Message | None:
        return self.get(message.parent)

    def branch(self, message: Message) -> tuple[int, int]:
        """(which, of how many) siblings, counted from one."""
        siblings = self._children[message.parent]
        return siblings.index(message.id) + 1, len(siblings)

    def step(self, message: Message, by: int) -> Message:
        """Show the sibling `by` places further, around the end; what stood below it is shown again."""
        siblings = self._children[message.parent]
        chosen = siblings[(siblings.index(message.id) + by) % len(siblings)]
        self._chosen[message.parent] = chosen
        return self._messages[chosen]

    def show(self, id: int) -> None:
        """Choose the path through the message."""
        at = self.get(id)
        while at is not None:
            self._chosen[at.parent] = at.id
            at = self.get(at.parent)

    def question_of(self, turn: int) -> Message | None:
        """The question shown in that turn."""
        return next((one for one in self.path() if one.role == "user" and one.turn == turn), None)

    def wire(self, question: Message, system: str = "") -> list[WireMessage]:
        """The request's messages up to `question`. A question without an answer is left out: roles alternate."""
        kept: list[Message] = []
        asked: Message | None = None
        for message in self._above(question):
            if message.role == "user":
                asked = message
            elif message.answered:
                kept += [asked, message] if asked else [message]
                asked = None
        first: list[WireMessage] = [{"role": "system", "content": system}] if system.strip() else []
        return first + [_wire(message) for message in [*kept, question]]

    def _above(self, message: Message) -> list[Message]:
        above: list[Message] = []
        at = self.parent(message)
        while at is not None:
            above.append(at)
            at = self.parent(at)
        return above[::-1]

    def _insert(self, message: Message) -> None:
        self._messages[message.id] = message
        self._children.setdefault(message.parent, []).append(message.id)
        self._chosen[message.parent] = message.id


def _wire(message: Message) -> WireMessage:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[WireMessage] = [{"type": "text", "text": message.text}] if message.text else []
    return {
        "role": message.role,
        "content": parts + [{"type": "image_url", "image_url": {"url": url}} for url in message.images],
    }

"""The session that the panes of a chat are written to; it begins with the first question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from xin.sessions.records import MessageRecord, PaneRecord
from xin.sessions.store import SessionStore
from xin.tui.chat.conversation import Message
from xin.tui.chat.talk import Talk

TITLE_CHARACTERS = 48


class SessionLog:
    """Implements `TalkLog`. `begin` comes before the first question of a session."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.id: int | None = None
        self.title = ""

    async def begin(self, question: str, talks: Sequence[Talk]) -> None:
        """Make the session unless there is one. Raises SessionFileError."""
        if self.id is None:
            self.title = title_of(question)
            self.id = await asyncio.to_thread(self.store.create, self.title, panes_of(talks))

    def leave(self) -> None:
        """The next question begins another session."""
        self.id, self.title = None, ""

    def save_panes(self, talks: Sequence[Talk]) -> None:
        if self.id is not None:
            self.store.set_panes(self.id, panes_of(talks))

    def save_draft(self, text: str) -> None:
        """Under the session, and under 0, where the next start looks."""
        for id in {0, self.id or 0}:
            self.store.set_draft(id, text)

    def added(self, talk: Talk, message: Message) -> int:
        assert self.id is not None, "begin comes first"
        id = self.store.add_message(
            self.id,
            talk.index,
            message.parent,
            message.role,
            message.text,
            model=message.model,
            state=message.state,
            turn=message.turn,
            images=message.images,
        )
        self.store.set_active(self.id, talk.index, id)
        return id

    def grew(self, message: Message, text: str, reasoning: str) -> None:
        self.store.append(message.id, text, reasoning)

    def ended(self, message: Message) -> None:
        if message.state == "streaming":
            return
        self.store.finish(
            message.id,
            message.state,
            ttft_ms=message.ttft_ms,
            thinking_ms=message.thinking_ms,
            tokens_per_second=message.tokens_per_second,
            completion_tokens=message.completion_tokens,
            reasoning_tokens=message.reasoning_tokens,
            prompt_tokens=message.prompt_tokens,
            finish_reason=message.finish_reason,
            error=message.error,
            hint=message.hint,
        )

    def moved(self, talk: Talk, message: Message) -> None:
        if self.id is not None:
            self.store.set_active(self.id, talk.index, message.id)


def panes_of(talks: Sequence[Talk]) -> list[PaneRecord]:
    return [PaneRecord(one.index, one.model, one.node, one.system, dict(one.sampling)) for one in talks]


def message_of(record: MessageRecord) -> Message:
    return Message(
        record.id,
        record.parent,
        "user" if record.role == "user" else "assistant",
        record.text,
        record.reasoning,
        "stopped" if record.state == "streaming" else record.state,
        record.model,
        record.turn,
        record.ttft_ms,
        record.thinking_ms,
        record.tokens_per_second,
        record.completion_tokens,
        record.reasoning_tokens,
        record.prompt_tokens,
        record.prompt_tokens > 0,
        record.finish_reason,
        record.error,
        record.hint,
        list(record.images),
    )


def title_of(question: str) -> str:
    words = " ".join(question[:400].split())
    return words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1].rstrip() + "…"

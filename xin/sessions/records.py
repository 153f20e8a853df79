"""What a stored session consists of. Times are unix seconds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

MessageState = Literal["done", "streaming", "stopped", "failed"]
TIE = "tie"
NONE = "none"


class PaneRecord(msgspec.Struct):
    """One pane. `index` names it for good (messages refer to it); the order of the list is the order on the screen."""

    index: int = 0
    model_uid: str = ""
    node: str = ""
    system: str = ""
    sampling: dict[str, Any] = {}


class MessageRecord(msgspec.Struct, kw_only=True):
    """One question or answer of one pane; several children of one `parent` are branches."""

    id: int
    session_id: int = 0
    pane: int = 0
    parent: int | None = None
    role: str
    text: str = ""
    reasoning: str = ""
    state: MessageState = "done"
    model: str = ""
    turn: int = 0
    created_at: float = 0.0
    ttft_ms: float | None = None
    thinking_ms: float | None = None
    tokens_per_second: float | None = None
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    prompt_tokens: int = 0
    finish_reason: str | None = None
    error: str | None = None
    hint: str | None = None
    images: list[str] = []  # data URLs


class VoteRecord(msgspec.Struct):
    """`winner` is a model's uid, "tie" or "none" (no answer was good); `candidates` have at least a "model" each."""

    turn: int
    winner: str
    candidates: list[dict[str, Any]] = []
    blind: bool = False
    at: float = 0.0


class SessionRecord(msgspec.Struct, kw_only=True):
    """A whole session. `messages` come parents first; `active` is the leaf shown in each pane."""

    id: int = 0
    title: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    panes: list[PaneRecord] = []
    messages: list[MessageRecord] = []
    active: dict[int, int] = {}
    votes: list[VoteRecord] = []


class SessionSummary(msgspec.Struct):
    """A line of a list. `snippet` is where the search matched, else how the session began; one line, may be empty."""

    id: int
    title: str
    created_at: float
    updated_at: float
    turns: int = 0
    models: list[str] = []
    snippet: str = ""


class Standing(msgspec.Struct):
    """A model's votes so far; "none was good" counts as a tie, as chatbot arenas count it."""

    model: str
    wins: int = 0
    losses: int = 0
    ties: int = 0

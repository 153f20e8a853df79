"""What is read from the session file."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from xin.errors import NotFound
from xin.sessions import search
from xin.sessions.records import (
    NONE,
    TIE,
    MessageRecord,
    PaneRecord,
    SessionRecord,
    SessionSummary,
    Standing,
    VoteRecord,
)

_MESSAGES = """
    SELECT id, session_id, pane, parent, role, text, reasoning, state, model, turn, created_at, ttft_ms, thinking_ms,
        tokens_per_second, completion_tokens, reasoning_tokens, prompt_tokens, finish_reason, error, hint, images
    FROM messages WHERE session_id = ? ORDER BY id
"""
_SUMMARIES = """
    SELECT id, title, created_at, updated_at,
        (SELECT count(DISTINCT turn) FROM messages WHERE session_id = sessions.id AND role = 'user'),
        (SELECT json_group_array(DISTINCT model_uid) FROM panes WHERE session_id = sessions.id AND model_uid != ''),
        (SELECT json_group_array(DISTINCT model) FROM messages WHERE session_id = sessions.id AND model != '')
    FROM sessions
"""


def summaries(connection: sqlite3.Connection, query: str, limit: int) -> list[SessionSummary]:
    words = search.terms(query)
    newest = " ORDER BY updated_at DESC, id DESC LIMIT ?"
    if not words:
        rows = connection.execute(_SUMMARIES + newest, (limit,)).fetchall()
        return [_summary(row, _beginning(connection, row[0])) for row in rows]
    met = search.sessions_with(connection, words)
    ids = msgspec.json.encode(list(met)).decode()
    chosen = f"{_SUMMARIES} WHERE id IN (SELECT value FROM json_each(?)) {newest}"
    rows = connection.execute(chosen, (ids, limit)).fetchall()
    return [_summary(row, search.snippet(search.text_of(connection, met[row[0]]), words[0])) for row in rows]


def session(connection: sqlite3.Connection, session_id: int) -> SessionRecord:
    columns = "SELECT id, title, created_at, updated_at FROM sessions WHERE id = ?"
    row = connection.execute(columns, (session_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no session {session_id}", "xin sessions list shows their ids")
    return SessionRecord(
        id=row[0],
        title=row[1],
        created_at=row[2],
        updated_at=row[3],
        panes=_panes(connection, session_id),
        messages=_messages(connection, session_id),
        active=dict(
            connection.execute("SELECT pane, message_id FROM active WHERE session_id = ?", (session_id,)).fetchall()
        ),
        votes=votes(connection, session_id),
    )


def questions(connection: sqlite3.Connection, limit: int) -> list[str]:
    rows = connection.execute(
        "SELECT text FROM messages WHERE role = 'user' AND text != '' GROUP BY text ORDER BY max(id) DESC LIMIT ?",
        (limit,),
    )
    return [row[0] for row in rows]


def writers(connection: sqlite3.Connection) -> list[str]:
    """Processes by whom an answer is being written, or was when they died."""
    rows = connection.execute("SELECT DISTINCT coalesce(writer, '') FROM messages WHERE state = 'streaming'")
    return [row[0] for row in rows]


def votes(connection: sqlite3.Connection, session_id: int) -> list[VoteRecord]:
    rows = connection.execute(
        "SELECT turn, winner, candidates, blind, at FROM votes WHERE session_id = ? ORDER BY turn", (session_id,)
    )
    return [VoteRecord(turn, winner, _decoded(who), bool(blind), at) for turn, winner, who, blind, at in rows]


def tally(connection: sqlite3.Connection) -> list[Standing]:
    standings: dict[str, Standing] = {}
    for winner, candidates in connection.execute("SELECT winner, candidates FROM votes"):
        for model in {str(one.get("model", "")) for one in _decoded(candidates)} - {""}:
            standing = standings.setdefault(model, Standing(model))
            if winner in (TIE, NONE):
                standing.ties += 1
            elif winner == model:
                standing.wins += 1
            else:
                standing.losses += 1
    return sorted(standings.values(), key=lambda one: (-one.wins, one.losses, one.model))


def draft(connection: sqlite3.Connection, session_id: int) -> str:
    row = connection.execute("SELECT text FROM drafts WHERE session_id = ?", (session_id,)).fetchone()
    return row[0] if row else ""


def _summary(row: tuple[Any, ...], snippet: str) -> SessionSummary:
    models = dict.fromkeys([*_decoded(row[6]), *_decoded(row[5])])
    return SessionSummary(row[0], row[1], row[2], row[3], row[4], list(models), snippet)


def _beginning(connection: sqlite3.Connection, session_id: int) -> str:
    row = connection.execute(
        "SELECT text FROM messages WHERE session_id = ? AND role = 'assistant' AND text != '' ORDER BY id LIMIT 1",
        (session_id,),
    ).fetchone()
    return search.snippet(search.searchable(row[0])) if row else ""


def _panes(connection: sqlite3.Connection, session_id: int) -> list[PaneRecord]:
    rows = connection.execute(
        "SELECT pane, model_uid, node, system, sampling FROM panes WHERE session_id = ? ORDER BY position",
        (session_id,),
    )
    return [PaneRecord(pane, uid, node, system, _decoded(sampling)) for pane, uid, node, system, sampling in rows]


def _messages(connection: sqlite3.Connection, session_id: int) -> list[MessageRecord]:
    rows = connection.execute(_MESSAGES, (session_id,)).fetchall()
    names = MessageRecord.__struct_fields__
    messages = [MessageRecord(**dict(zip(names, row, strict=True))) for row in rows]
    for message, row in zip(messages, rows, strict=True):
        message.images = [_image(connection, name) for name in _decoded(row[-1])]
    return messages


def _image(connection: sqlite3.Connection, name: str) -> str:
    row = connection.execute("SELECT url FROM images WHERE hash = ?", (name,)).fetchone()
    return row[0] if row else ""


def _decoded(text: str) -> Any:
    return msgspec.json.decode(text)

"""What is written, statement by statement; each function is one job of the writer."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Mapping

import msgspec

from xin.errors import NotFound
from xin.sessions import search
from xin.sessions.records import MessageRecord, MessageState, PaneRecord, SessionRecord, VoteRecord

TITLE_LENGTH = 60


class Ended(msgspec.Struct, kw_only=True):
    """How an answer ended; its fields are columns of `messages`."""

    state: MessageState
    ttft_ms: float | None
    thinking_ms: float | None
    tokens_per_second: float | None
    completion_tokens: int
    reasoning_tokens: int
    prompt_tokens: int
    finish_reason: str | None
    error: str | None
    hint: str | None


_MESSAGE_COLUMNS = MessageRecord.__struct_fields__
_INSERT_MESSAGE = (
    f"INSERT INTO messages ({', '.join(_MESSAGE_COLUMNS)}, writer) VALUES ({', '.join('?' * len(_MESSAGE_COLUMNS))}, ?)"
)
_FINISH = (
    f"UPDATE messages SET {', '.join(f'{name} = ?' for name in Ended.__struct_fields__)}, writer = NULL WHERE id = ?"
)


def clean(text: str) -> str:
    """The text itself; half characters, which no encoding has, become U+FFFD."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def create(connection: sqlite3.Connection, title: str, panes: Iterable[PaneRecord]) -> int:
    now = time.time()
    return _create(connection, SessionRecord(title=title, created_at=now, updated_at=now, panes=list(panes)))


def insert(connection: sqlite3.Connection, record: SessionRecord, new: Mapping[int, int]) -> int:
    """A whole session under a new id; `new` gives each message's id."""
    session_id = _create(connection, record)
    for old in record.messages:
        message = msgspec.structs.replace(
            old,
            id=new[old.id],
            session_id=session_id,
            parent=new.get(old.parent) if old.parent is not None else None,
            state="stopped" if old.state == "streaming" else old.state,
        )
        _insert_message(connection, message, None)
        _index(connection, message.id, message.text)
        set_active(connection, session_id, message.pane, message.id)
    for pane, leaf in record.active.items():
        if leaf in new:
            set_active(connection, session_id, pane, new[leaf])
    for one in record.votes:
        vote(connection, session_id, one)
    return session_id


def rename(connection: sqlite3.Connection, session_id: int, title: str) -> None:
    if not connection.execute("UPDATE sessions SET title = ? WHERE id = ?", (title, session_id)).rowcount:
        raise _no_session(session_id)
    _index(connection, -session_id, title)


def delete(connection: sqlite3.Connection, session_id: int) -> None:
    connection.execute(
        "DELETE FROM found WHERE rowid = ? OR rowid IN (SELECT id FROM messages WHERE session_id = ?)",
        (-session_id, session_id),
    )
    if not connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,)).rowcount:
        raise _no_session(session_id)
    connection.execute("DELETE FROM drafts WHERE session_id = ?", (session_id,))
    connection.execute(
        "DELETE FROM images WHERE hash NOT IN"
        " (SELECT each.value FROM messages, json_each(messages.images) AS each WHERE messages.images != '[]')"
    )


def set_panes(connection: sqlite3.Connection, session_id: int, panes: Iterable[PaneRecord]) -> None:
    connection.execute("DELETE FROM panes WHERE session_id = ?", (session_id,))
    for position, pane in enumerate(panes):
        sampling = msgspec.json.encode(pane.sampling).decode()
        row = (session_id, position, pane.index, pane.model_uid, pane.node, clean(pane.system), sampling)
        connection.execute("INSERT INTO panes VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def add(connection: sqlite3.Connection, message: MessageRecord, writer: str) -> None:
    _insert_message(connection, message, writer if message.state == "streaming" else None)
    set_active(connection, message.session_id, message.pane, message.id)
    _touch(connection, message.session_id)
    if message.state == "streaming":
        return
    _index(connection, message.id, message.text)
    if message.role == "user":
        _name(connection, message.session_id, message.text)


def grow(connection: sqlite3.Connection, message_id: int, text: str, reasoning: str) -> None:
    """Add to a message that still streams."""
    connection.execute(
        "UPDATE messages SET text = text || ?, reasoning = reasoning || ? WHERE id = ? AND state = 'streaming'",
        (text, reasoning, message_id),
    )


def finish(connection: sqlite3.Connection, message_id: int, text: str, reasoning: str, ended: Ended) -> None:
    grow(connection, message_id, text, reasoning)
    connection.execute(_FINISH, (*msgspec.structs.astuple(ended), message_id))
    found = connection.execute("SELECT text, session_id FROM messages WHERE id = ?", (message_id,)).fetchone()
    if found:
        _index(connection, message_id, found[0])
        _touch(connection, found[1])


def recover(connection: sqlite3.Connection, writers: Iterable[str]) -> None:
    """End what these processes were writing."""
    for writer in writers:
        rows = connection.execute(
            "UPDATE messages SET state = 'stopped', writer = NULL WHERE state = 'streaming' AND writer = ?"
            " RETURNING id, text",
            (writer,),
        ).fetchall()
        for message_id, text in rows:
            _index(connection, message_id, text)


def set_active(connection: sqlite3.Connection, session_id: int, pane: int, message_id: int) -> None:
    connection.execute("INSERT OR REPLACE INTO active VALUES (?, ?, ?)", (session_id, pane, message_id))


def vote(connection: sqlite3.Connection, session_id: int, one: VoteRecord) -> None:
    candidates = msgspec.json.encode(one.candidates).decode()
    connection.execute(
        "INSERT OR REPLACE INTO votes (session_id, turn, winner, candidates, blind, at) VALUES (?, ?, ?, ?, ?, ?)",
        (session_id, one.turn, one.winner, candidates, one.blind, one.at),
    )


def set_draft(connection: sqlite3.Connection, session_id: int, text: str) -> None:
    if text:
        connection.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?)", (session_id, text))
    else:
        connection.execute("DELETE FROM drafts WHERE session_id = ?", (session_id,))


def _create(connection: sqlite3.Connection, record: SessionRecord) -> int:
    row = (record.title, record.created_at, record.updated_at)
    cursor = connection.execute("INSERT INTO sessions (title, created_at, updated_at) VALUES (?, ?, ?)", row)
    session_id = cursor.lastrowid or 0
    set_panes(connection, session_id, record.panes)
    _index(connection, -session_id, record.title)
    return session_id


def _insert_message(connection: sqlite3.Connection, message: MessageRecord, writer: str | None) -> None:
    hashes = [_keep_image(connection, url) for url in message.images]
    row = msgspec.structs.asdict(message)
    row["images"] = msgspec.json.encode(hashes).decode()
    connection.execute(_INSERT_MESSAGE, (*(row[name] for name in _MESSAGE_COLUMNS), writer))


def _keep_image(connection: sqlite3.Connection, url: str) -> str:
    """The same picture shown to four panes is kept once."""
    name = hashlib.sha256(url.encode()).hexdigest()
    connection.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (name, url))
    return name


def _name(connection: sqlite3.Connection, session_id: int, question: str) -> None:
    """Give an untitled session its first question as title."""
    words = " ".join("".join(char if char.isprintable() else " " for char in question).split())
    title = words if len(words) <= TITLE_LENGTH else f"{words[: TITLE_LENGTH - 1]}…"
    changed = connection.execute("UPDATE sessions SET title = ? WHERE id = ? AND title = ''", (title, session_id))
    if changed.rowcount:
        _index(connection, -session_id, title)


def _touch(connection: sqlite3.Connection, session_id: int) -> None:
    connection.execute("UPDATE sessions SET updated_at = ? WHERE id = ?", (time.time(), session_id))


def _index(connection: sqlite3.Connection, row: int, text: str) -> None:
    connection.execute("DELETE FROM found WHERE rowid = ?", (row,))
    connection.execute("INSERT INTO found (rowid, text) VALUES (?, ?)", (row, search.searchable(text)))


def _no_session(session_id: int) -> NotFound:
    return NotFound(f"there is no session {session_id}", "xin sessions list shows their ids")

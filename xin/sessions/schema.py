"""The session file: SQLite with a write-ahead log, its tables, and the way from one version of them to the next."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from xin import paths
from xin.errors import SessionFileError

FILE_NAME = "sessions.db"
BUSY_SECONDS = 3.0

# One entry a version; what is here is never changed, only added to. `found` holds the searchable text: a message's
# under its id, a session's title under minus its id. Three-letter tokens find parts of words and CJK alike.
MIGRATIONS = (
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    );
    CREATE INDEX sessions_by_time ON sessions (updated_at);
    CREATE TABLE panes (
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        position INTEGER NOT NULL,
        pane INTEGER NOT NULL,
        model_uid TEXT NOT NULL DEFAULT '',
        node TEXT NOT NULL DEFAULT '',
        system TEXT NOT NULL DEFAULT '',
        sampling TEXT NOT NULL DEFAULT '{}',
        PRIMARY KEY (session_id, position)
    ) WITHOUT ROWID;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        pane INTEGER NOT NULL,
        parent INTEGER,
        role TEXT NOT NULL,
        text TEXT NOT NULL DEFAULT '',
        reasoning TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'done',
        model TEXT NOT NULL DEFAULT '',
        turn INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        ttft_ms REAL,
        thinking_ms REAL,
        tokens_per_second REAL,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        reasoning_tokens INTEGER NOT NULL DEFAULT 0,
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        finish_reason TEXT,
        error TEXT,
        hint TEXT,
        images TEXT NOT NULL DEFAULT '[]',
        writer TEXT
    );
    CREATE INDEX messages_of_session ON messages (session_id, id);
    CREATE INDEX messages_streaming ON messages (state) WHERE state = 'streaming';
    CREATE TABLE images (hash TEXT PRIMARY KEY, url TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE active (
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        pane INTEGER NOT NULL,
        message_id INTEGER NOT NULL,
        PRIMARY KEY (session_id, pane)
    ) WITHOUT ROWID;
    CREATE TABLE drafts (session_id INTEGER PRIMARY KEY, text TEXT NOT NULL);
    CREATE TABLE votes (
        id INTEGER PRIMARY KEY,
        session_id INTEGER REFERENCES sessions ON DELETE SET NULL,
        turn INTEGER NOT NULL,
        winner TEXT NOT NULL,
        candidates TEXT NOT NULL,
        blind INTEGER NOT NULL DEFAULT 0,
        at REAL NOT NULL,
        UNIQUE (session_id, turn)
    );
    CREATE VIRTUAL TABLE found USING fts5 (text, tokenize = 'trigram');
    """,
)
VERSION = len(MIGRATIONS)


def default_path() -> Path:
    return paths.data_dir() / FILE_NAME


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread, one at a time. Raises SessionFileError."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as exc:
        raise _refused(path, exc) from exc
    try:
        _check_version(path, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as exc:
        connection.close()
        raise _refused(path, exc) from exc
    except SessionFileError:
        connection.close()
        raise
    return connection


def prepare(path: Path) -> None:
    """Make the file, or bring an older one up to date. Raises SessionFileError."""
    try:
        paths.private(path.parent)
        path.touch(mode=0o600)
    except OSError as exc:
        raise SessionFileError(f"sessions cannot be kept in {path}: {exc.strerror}", "check that folder") from exc
    with contextlib.closing(connect(path)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            _migrate(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            raise _refused(path, exc) from exc


def _migrate(connection: sqlite3.Connection) -> None:
    for version in range(_version(connection), VERSION):
        for statement in MIGRATIONS[version].split(";"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version > VERSION:
        raise SessionFileError(
            f"{path} was written by a newer xin (format {version}; this one knows {VERSION})",
            "update xin, or move that file away to begin a new one",
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refused(path: Path, exc: sqlite3.Error) -> SessionFileError:
    hint = "move that file away to begin a new one" if "not a database" in str(exc) else "check that file and its disk"
    return SessionFileError(f"sessions cannot be kept in {path}: {exc}", hint)

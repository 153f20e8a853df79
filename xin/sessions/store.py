"""The sessions of a person: every turn is kept as it streams, through kill -9."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import psutil

from xin.errors import SessionFileError
from xin.sessions import export, reading, schema, writing
from xin.sessions.records import (
    MessageRecord,
    MessageState,
    PaneRecord,
    SessionRecord,
    SessionSummary,
    Standing,
    VoteRecord,
)
from xin.sessions.writer import Writer

CLOCK_SLACK_SECONDS = 2.0


class SessionStore:
    """Thread-safe. Writing calls return at once and are on disk within half a second; reads see what was written.

    Several processes may have the file open. `failure` of the writer tells when the disk refuses.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open or make the file (default: in xin's data folder) and recover. Raises SessionFileError."""
        self.path = path or schema.default_path()
        schema.prepare(self.path)
        self._me = _name_of(os.getpid())
        self._writer = Writer(self.path)
        self._reading = threading.Lock()
        self._reader = schema.connect(self.path)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ids = threading.Lock()
        self._last_id = 0
        self._closed = False
        try:
            self._last_id = self._newest_id()
            self.recover()
        except SessionFileError:
            self.close()
            raise
        atexit.register(self.close)

    @classmethod
    def temporary(cls) -> SessionStore:
        """One that is gone after `close`, for when the real file cannot be used."""
        folder = tempfile.TemporaryDirectory(prefix="xin-sessions-")
        store = cls(Path(folder.name) / schema.FILE_NAME)
        store._folder = folder
        return store

    @property
    def failure(self) -> str:
        """Why the last write did not reach the disk (it is tried again), or nothing."""
        failure = self._writer.failure
        return failure.message if failure else ""

    def close(self) -> None:
        """Write what waits; answers that still stream in this process become stopped. Idempotent."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._writer.drain()
        self._writer.do(lambda connection: writing.recover(connection, [self._me]))
        self._writer.close()
        with self._reading:
            self._reader.close()
        if self._folder:
            self._folder.cleanup()

    def __enter__(self) -> SessionStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Sessions

    def create(self, title: str = "", panes: Iterable[PaneRecord] = ()) -> int:
        kept = list(panes)
        return self._writer.call(lambda connection: writing.create(connection, writing.clean(title), kept))

    def sessions(self, query: str = "", limit: int = 200) -> list[SessionSummary]:
        """Newest first; with a query those that hold all of its words (see search.terms)."""
        with self._read() as connection:
            return reading.summaries(connection, query, limit)

    def rename(self, session_id: int, title: str) -> None:
        """Raises NotFound."""
        self._writer.call(lambda connection: writing.rename(connection, session_id, writing.clean(title)))

    def delete(self, session_id: int) -> None:
        """With all its messages; its votes stay in the tally. Raises NotFound."""
        self._writer.call(lambda connection: writing.delete(connection, session_id))

    def load(self, session_id: int) -> SessionRecord:
        """Raises NotFound."""
        with self._read() as connection:
            return reading.session(connection, session_id)

    def branch(self, session_id: int, *, turn: int | None = None, title: str = "") -> int:
        """A copy of the session, up to `turn` where it is given; its id. Raises NotFound."""
        record = self.load(session_id)
        if turn is not None:
            record.messages = [message for message in record.messages if message.turn <= turn]
        record.title = title or f"{record.title or 'session'} (branch)"
        record.votes = []
        record.created_at = record.updated_at = time.time()
        return self._insert(record)

    def set_panes(self, session_id: int, panes: Iterable[PaneRecord]) -> None:
        kept = list(panes)
        self._writer.do(lambda connection: writing.set_panes(connection, session_id, kept))

    # Messages

    def add_message(
        self,
        session_id: int,
        pane: int,
        parent: int | None,
        role: str,
        text: str = "",
        *,
        model: str = "",
        state: MessageState = "done",
        turn: int = 0,
        images: Iterable[str] = (),
    ) -> int:
        """Its id; it is shown from now on. The first question gives an untitled session its title."""
        message = MessageRecord(
            id=self._next_id(),
            session_id=session_id,
            pane=pane,
            parent=parent,
            role=role,
            text=writing.clean(text),
            state=state,
            model=model,
            turn=turn,
            created_at=time.time(),
            images=list(images),
        )
        self._writer.do(lambda connection: writing.add(connection, message, self._me))
        return message.id

    def append(self, message_id: int, text: str, reasoning: str = "") -> None:
        """What a streaming answer has gained."""
        self._writer.append(message_id, writing.clean(text), writing.clean(reasoning))

    def finish(
        self,
        message_id: int,
        state: MessageState,
        *,
        ttft_ms: float | None = None,
        thinking_ms: float | None = None,
        tokens_per_second: float | None = None,
        completion_tokens: int = 0,
        reasoning_tokens: int = 0,
        prompt_tokens: int = 0,
        finish_reason: str | None = None,
        error: str | None = None,
        hint: str | None = None,
    ) -> None:
        """The end of a streaming answer; what is appended later is ignored."""
        text, reasoning = self._writer.take(message_id)
        ended = writing.Ended(
            state=state,
            ttft_ms=ttft_ms,
            thinking_ms=thinking_ms,
            tokens_per_second=tokens_per_second,
            completion_tokens=completion_tokens or 0,
            reasoning_tokens=reasoning_tokens or 0,
            prompt_tokens=prompt_tokens or 0,
            finish_reason=finish_reason,
            error=writing.clean(error) if error else error,
            hint=writing.clean(hint) if hint else hint,
        )
        self._writer.do(lambda connection: writing.finish(connection, message_id, text, reasoning, ended))

    def set_active(self, session_id: int, pane: int, message_id: int) -> None:
        """The leaf that the pane shows."""
        self._writer.do(lambda connection: writing.set_active(connection, session_id, pane, message_id))

    def questions(self, limit: int = 500) -> list[str]:
        """What was asked in all sessions, newest first, each once."""
        with self._read() as connection:
            return reading.questions(connection, limit)

    def flush(self) -> None:
        """Wait until all is on disk. Raises SessionFileError."""
        self._writer.drain()
        if self._writer.failure:
            raise self._writer.failure

    def recover(self) -> None:
        """Answers left streaming by processes that are no more become stopped, with what they had."""
        with self._read() as connection:
            writers = reading.writers(connection)
        dead = [writer for writer in writers if writer != self._me and not _is_alive(writer)]
        if dead:
            self._writer.call(lambda connection: writing.recover(connection, dead))

    # Votes and drafts

    def vote(
        self, session_id: int, turn: int, winner: str, candidates: Iterable[dict[str, object]], blind: bool = False
    ) -> None:
        """Which answer of a turn was best: a model's uid, "tie" or "none". A second vote replaces the first."""
        vote = VoteRecord(turn, winner, list(candidates), blind, time.time())
        msgspec.json.encode(vote)
        self._writer.do(lambda connection: writing.vote(connection, session_id, vote))

    def tally(self) -> list[Standing]:
        """All votes by model, most wins first."""
        with self._read() as connection:
            return reading.tally(connection)

    def votes(self, session_id: int) -> list[VoteRecord]:
        with self._read() as connection:
            return reading.votes(connection, session_id)

    def set_draft(self, session_id: int, text: str) -> None:
        """What stands in the prompt; session 0 is the one that has not begun. Nothing to say clears it."""
        kept = writing.clean(text)
        self._writer.do(lambda connection: writing.set_draft(connection, session_id, kept))

    def draft(self, session_id: int) -> str:
        with self._read() as connection:
            return reading.draft(connection, session_id)

    # Files

    def export_markdown(self, session_id: int) -> str:
        return export.markdown(self.load(session_id))

    def export_json(self, session_id: int) -> str:
        return export.json(self.load(session_id))

    def export_html(self, session_id: int) -> str:
        return export.html(self.load(session_id))

    def import_json(self, text: str | bytes) -> int:
        """The id of the session made of what `export_json` gave. Raises BadRequest."""
        return self._insert(export.parse(text))

    # Inside

    def _insert(self, record: SessionRecord) -> int:
        new = {message.id: self._next_id() for message in record.messages}
        return self._writer.call(lambda connection: writing.insert(connection, record, new))

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        self._writer.drain()
        with self._reading:
            try:
                yield self._reader
            except sqlite3.Error as exc:
                raise SessionFileError(f"{self.path} could not be read: {exc}", "check that file and its disk") from exc

    def _next_id(self) -> int:
        """Growing, and not given twice by several processes: microseconds and some luck."""
        with self._ids:
            now = time.time_ns() // 1000 << 10 | random.getrandbits(10)
            self._last_id = max(now, self._last_id + 1)
            return self._last_id

    def _newest_id(self) -> int:
        with self._read() as connection:
            return int(connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])


def _name_of(pid: int) -> str:
    """A process by number and start, so that a number used again is not taken for it."""
    return f"{pid}:{psutil.Process(pid).create_time():.2f}"


def _is_alive(name: str) -> bool:
    """Starts are derived from the clock, which may have been set since."""
    pid, _, started = name.partition(":")
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(started)) < CLOCK_SLACK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False

"""The one thread that writes: jobs in order, at once; pieces of streamed text gathered for a moment."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from xin.errors import SessionFileError, XinError
from xin.sessions import schema, writing

FLUSH_SECONDS = 0.3
RETRY_SECONDS = 1.0
WAIT_SECONDS = 15.0

_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CANTOPEN,
    }
)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], object]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pieces:
    """Streamed text of one message that is not written yet."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)

    def joined(self) -> tuple[str, str]:
        return "".join(self.text), "".join(self.reasoning)


@dataclass(slots=True)
class _Task:
    job: Job
    future: Future[object] | None = None
    result: object = None


class Writer:
    """Writes come in transactions of whatever waits. What the disk refuses (full, locked) is kept and tried again;

    `failure` says so meanwhile. Pieces reach the file at most FLUSH_SECONDS after they came.
    """

    def __init__(self, path: Path) -> None:
        self.failure: SessionFileError | None = None
        self._connection = schema.connect(path)
        self._path = path
        self._wake = threading.Condition()
        self._tasks: list[_Task] = []
        self._pieces: dict[int, Pieces] = {}
        self._due = 0.0
        self._retry_at = 0.0
        self._asked = 0
        self._drained = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sessions writer", daemon=True)
        self._thread.start()

    def do(self, job: Job) -> None:
        """Queue a job, which is written next."""
        with self._wake:
            self._tasks.append(_Task(job))
            self._wake.notify_all()

    def call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job and wait for what it returns. Raises SessionFileError."""
        future: Future[object] = Future()
        with self._wake:
            if self._closing:
                raise SessionFileError(f"{self._path} is closed")
            self._tasks.append(_Task(job, future))
            self._wake.notify_all()
        try:
            return future.result(WAIT_SECONDS)  # type: ignore[return-value]
        except TimeoutError as exc:
            raise SessionFileError(f"{self._path} could not be written in {WAIT_SECONDS:.0f} s") from exc

    def append(self, message_id: int, text: str, reasoning: str) -> None:
        with self._wake:
            first = not self._pieces
            pieces = self._pieces.setdefault(message_id, Pieces())
            pieces.text.append(text)
            pieces.reasoning.append(reasoning)
            if first:
                self._due = time.monotonic() + FLUSH_SECONDS
                self._wake.notify_all()

    def take(self, message_id: int) -> tuple[str, str]:
        """What waits of a message, for the job that ends it."""
        with self._wake:
            return self._pieces.pop(message_id, Pieces()).joined()

    def drain(self) -> None:
        """Wait until all that waits has been tried."""
        with self._wake:
            self._asked += 1
            ticket = self._asked
            self._retry_at = 0.0
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._drained >= ticket or not self._thread.is_alive(), WAIT_SECONDS)

    def close(self) -> None:
        """Write what waits and end. Further jobs are ignored."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify_all()
        self._thread.join(WAIT_SECONDS)

    def _run(self) -> None:
        while self._wait():
            self._write()
        self._write()
        self._connection.close()

    def _wait(self) -> bool:
        """Until there is something to write; False when the end has come."""
        with self._wake:
            while not self._closing and self._drained == self._asked:
                delay = self._delay()
                if delay is not None and delay <= 0:
                    break
                self._wake.wait(delay)
            return not self._closing

    def _delay(self) -> float | None:
        now = time.monotonic()
        if self._retry_at > now:
            return self._retry_at - now
        if self._tasks:
            return 0.0
        return self._due - now if self._pieces else None

    def _write(self) -> None:
        with self._wake:
            ticket = self._asked
            tasks, self._tasks = self._tasks, []
            pieces, self._pieces = self._pieces, {}
        try:
            self._transact(tasks, pieces)
            self.failure = None
        except sqlite3.Error as exc:
            self.failure = SessionFileError(f"{self._path} could not be written: {exc}", "check the disk it is on")
            self._keep(tasks, pieces)
        with self._wake:
            self._drained = ticket
            self._wake.notify_all()

    def _transact(self, tasks: list[_Task], pieces: dict[int, Pieces]) -> None:
        if not tasks and not pieces:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        refused: dict[int, Exception] = {}
        try:
            for task in tasks:
                self._run_one(task, refused)
            for message_id, waiting in pieces.items():
                writing.grow(self._connection, message_id, *waiting.joined())
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        for task in tasks:
            self._tell(task, refused.get(id(task)))

    def _run_one(self, task: _Task, refused: dict[int, Exception]) -> None:
        """A job that the tables refuse (its session is deleted) is undone alone."""
        self._connection.execute("SAVEPOINT job")
        try:
            task.result = task.job(self._connection)
        except (XinError, sqlite3.Error, ValueError, TypeError, OverflowError) as exc:
            if _may_pass(exc):
                raise
            self._connection.execute("ROLLBACK TO job")
            refused[id(task)] = exc
        self._connection.execute("RELEASE job")

    def _tell(self, task: _Task, error: Exception | None) -> None:
        if error is None and task.future is not None:
            task.future.set_result(task.result)
        elif error is not None and task.future is not None:
            task.future.set_exception(
                error if isinstance(error, XinError) else SessionFileError(f"not stored: {error}")
            )
        elif error is not None:
            log.warning("not stored: %s", error)

    def _keep(self, tasks: list[_Task], pieces: dict[int, Pieces]) -> None:
        """Put a failed batch back in front; who waits for an answer gets the failure instead."""
        for task in tasks:
            if task.future is not None:
                task.future.set_exception(self.failure)
        with self._wake:
            self._tasks[:0] = [task for task in tasks if task.future is None]
            for message_id, later in self._pieces.items():
                earlier = pieces.setdefault(message_id, Pieces())
                earlier.text += later.text
                earlier.reasoning += later.reasoning
            self._pieces = pieces
            self._retry_at = time.monotonic() + RETRY_SECONDS


def _may_pass(exc: Exception) -> bool:
    """Whether the fault lies in the disk or a lock, not in the job."""
    return isinstance(exc, sqlite3.OperationalError) and (exc.sqlite_errorcode & 0xFF) in _PASSING

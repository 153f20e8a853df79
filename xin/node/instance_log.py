"""The log of one instance: its worker's stderr and the node's notes on it, in memory and in a rotating file."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from xin.protocol.node import LogLine

CAPACITY = 2000
FILE_BYTES = 2 * 1024 * 1024
FLUSH_SECONDS = 0.25
_LONGEST_LINE = 4000
_LEVEL = re.compile(r"^\W*(debug|info|warn|warning|error|critical|fatal)\b[: ]", re.IGNORECASE)
_LEVELS = {"warn": "warning", "critical": "error", "fatal": "error"}

log = logging.getLogger(__name__)


class InstanceLog:
    """A ring of the last lines. Lines reach the file a moment later, from a thread; a full disk costs only the file."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._ring: deque[LogLine] = deque(maxlen=CAPACITY)
        self._unwritten: list[LogLine] = []
        self._flusher: asyncio.Task[None] | None = None
        self._followers: set[_Follower] = set()
        self._closing = asyncio.Event()

    def write(self, message: str, *, source: str = "worker", level: str | None = None) -> None:
        """Add one line; without a level its first word may tell."""
        line = LogLine(time.time(), level or _level_of(message), source, message[:_LONGEST_LINE])
        self._ring.append(line)
        for follower in self._followers:
            follower.push(line)
        if self._file is not None and not self._closing.is_set():
            self._unwritten.append(line)
            if self._flusher is None or self._flusher.done():
                self._flusher = asyncio.get_running_loop().create_task(self._flush_soon())

    def note(self, message: str, *, level: str = "info") -> None:
        """A line from the node itself."""
        self.write(message, source="node", level=level)

    def tail(self, n: int = CAPACITY) -> list[LogLine]:
        """The last `n` lines, oldest first."""
        return list(self._ring)[-n:] if n > 0 else []

    async def follow(self, tail: int = 0) -> AsyncGenerator[LogLine, None]:
        """The last `tail` lines, then new ones as they come, until the instance is gone."""
        follower = _Follower(self.tail(tail))
        self._followers.add(follower)
        try:
            while lines := await follower.next(self._closing.is_set()):
                for line in lines:
                    yield line
        finally:
            self._followers.discard(follower)

    async def close(self) -> None:
        """End the followers and put the last lines into the file. Idempotent."""
        self._closing.set()
        for follower in self._followers:
            follower.wake()
        if self._flusher is not None and not self._flusher.done():
            await self._flusher

    async def _flush_soon(self) -> None:
        while self._unwritten:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_SECONDS)
            lines, self._unwritten = self._unwritten, []
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as exc:
                log.warning("cannot write %s: %s", self._file, exc.strerror)
                self._file = None
                self._unwritten = []

    def _append(self, lines: list[LogLine]) -> None:
        file = self._file
        if file is None:
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > FILE_BYTES:
            file.replace(file.with_suffix(".log.1"))
        with file.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{_clock(line.at)} {line.level:7} {line.source}: {line.message}\n" for line in lines)


class _Follower:
    """Lines that one reader has not taken yet; a slow reader loses the oldest."""

    def __init__(self, lines: list[LogLine]) -> None:
        self._lines: deque[LogLine] = deque(lines, maxlen=CAPACITY)
        self._awake = asyncio.Event()

    def push(self, line: LogLine) -> None:
        self._lines.append(line)
        self._awake.set()

    def wake(self) -> None:
        self._awake.set()

    async def next(self, closed: bool) -> list[LogLine]:
        """What has come, at least one line; [] when the log has closed."""
        if not self._lines and not closed:
            self._awake.clear()
            await self._awake.wait()
        lines = list(self._lines)
        self._lines.clear()
        return lines


def _level_of(message: str) -> str:
    found = _LEVEL.match(message)
    if found is None:
        return "error" if message.startswith("Traceback ") else "info"
    level = found[1].lower()
    return _LEVELS.get(level, level)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))

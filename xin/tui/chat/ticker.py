"""The one clock by which streamed text is drawn: at most so many times a second, never while nothing has come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

LOCAL_SECONDS = 0.1
REMOTE_SECONDS = 0.25  # over ssh and in a browser


class Ticker:
    """`poke` when something waits to be drawn: `flush` runs once for all that came, `seconds` or more after the last.

    Where drawing is slow it is done less often: what it `took` is no more than `share` of the time.
    """

    def __init__(self, flush: Callable[[], None], *, seconds: float = LOCAL_SECONDS, share: float = 0.5) -> None:
        self._flush = flush
        self._seconds = seconds
        self._share = share
        self._handle: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self.flushes = 0

    def poke(self) -> None:
        if self._handle is None:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_at(max(self._next_at, loop.time()), self._run)

    def flush_now(self) -> None:
        """For ends: the rest of a text is not kept waiting."""
        self.cancel()
        self._run()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def took(self, seconds: float) -> None:
        """What the flush cost with all that came of it, such as painting: the next one waits accordingly."""
        self._next_at = max(self._next_at, asyncio.get_running_loop().time() + seconds * (1 / self._share - 1))

    def _run(self) -> None:
        self._handle = None
        began = asyncio.get_running_loop().time()
        self._next_at = began + self._seconds
        self.flushes += 1
        self._flush()


def seconds_here() -> float:
    """What suits the terminal: over ssh and in a browser every picture travels."""
    remote = "SSH_CONNECTION" in os.environ or os.environ.get("TEXTUAL_DRIVER", "").endswith("WebDriver")
    return REMOTE_SECONDS if remote else LOCAL_SECONDS

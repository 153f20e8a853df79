"""How long a model stays in memory after its last request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from xin.errors import BadRequest

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_keep_alive(value: float | str | None) -> float | None:
    """Seconds; `5m` and `1h30m` are read as Ollama does. Negative means for ever, None that nothing was said."""
    if value is None or isinstance(value, int | float):
        return None if value is None else float(value)
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        pass
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise BadRequest(
            f"{value!r} is not a duration", "write seconds, 5m or 1h30m; -1 is for ever", param="keep_alive"
        )
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


class KeepAlive:
    """Calls `on_idle` once, `seconds` after the last release, never while held. None or negative: never."""

    def __init__(self, seconds: float | None, on_idle: Callable[[], None]) -> None:
        self.held = 0
        self._seconds = seconds
        self._on_idle = on_idle
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float | None:
        return self._seconds

    def change(self, seconds: float | None) -> None:
        """Another span, from now on."""
        self._seconds = seconds
        self.touch()

    def hold(self) -> None:
        self.held += 1
        self.close()

    def release(self) -> None:
        self.held -= 1
        self.touch()

    def touch(self) -> None:
        """Count the span from now."""
        self.close()
        if not self.held and self._seconds is not None and self._seconds >= 0:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_idle)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""Waiting for what is to come, by looking and not by counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(predicate: Callable[[], object], seconds: float = 10.0, what: object = "") -> float:
    """Return how long it took. AssertionError when it does not come."""
    began = time.monotonic()
    while not predicate():
        assert time.monotonic() - began < seconds, f"not in {seconds} s: {what or predicate}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began

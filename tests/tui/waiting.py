"""Waiting for what is to come, by looking and not by counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot


async def until(predicate: Callable[[], object], seconds: float = 10.0, what: object = "") -> float:
    """Return how long it took. AssertionError when it does not come."""
    began = time.monotonic()
    while not predicate():
        assert time.monotonic() - began < seconds, f"not in {seconds} s: {what or predicate}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def came(pilot: Pilot[Any], predicate: Callable[[], object], seconds: float = 15.0) -> None:
    """As `until`, letting the app work; the AssertionError shows its screen."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, screen(pilot.app)
        await pilot.pause(0.02)


def screen(app: App[Any]) -> str:
    return "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())

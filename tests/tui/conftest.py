"""The workbench's tests start with the usual signs, whatever the one before drew with; a pilot waits as it must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from xin.tui import glyphs

QUIET_ROUNDS = 3
FRAME_SECONDS = 1 / 60


@pytest.fixture(autouse=True)
def usual_signs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    glyphs.set_ascii(False)
    yield
    glyphs.set_ascii(False)


@pytest.fixture(autouse=True)
def pilot_waits_for_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual's takes 20 ms without CPU time for idle: slow when all is done, wrong when the machine is busy."""
    for module in ("app", "pilot"):
        monkeypatch.setattr(f"textual.{module}.wait_for_idle", nothing_left_to_do)


async def nothing_left_to_do(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Until no task of the event loop can go on without a timer, a thread or the network, and a frame was drawn."""
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + max_sleep
    for seconds in (0.0, max(min_sleep, FRAME_SECONDS)):
        await asyncio.sleep(seconds)
        quiet = 0
        while quiet < QUIET_ROUNDS and time.monotonic() < deadline:
            await asyncio.sleep(0)
            quiet = 0 if loop._ready else quiet + 1  # type: ignore[attr-defined]

"""A workbench on a real node, at one of its places, for the tests of jobs, logs and launches."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from live_node import LiveNode
from textual.pilot import Pilot

from xin.tui.app import Workbench
from xin.tui.settings import TuiSettings


@asynccontextmanager
async def workbench(node: LiveNode, place: str, size: tuple[int, int] = (120, 36), **given: Any) -> AsyncIterator[Any]:
    app = Workbench(node.url, settings=TuiSettings(), **given)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.store.link.state == "live")
        await app.action_place(place)
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[None], predicate: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, screen(pilot.app)
        await pilot.pause(0.02)


def screen(app: Any) -> str:
    return "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())


async def type_in(pilot: Pilot[None], text: str) -> None:
    names = {" ": "space", "/": "slash", "(": "left_parenthesis", ".": "full_stop", "-": "minus", "|": "vertical_line"}
    await pilot.press(*(names.get(char, char) for char in text))

"""A workbench on a real node, at one of its places, for the tests of jobs, logs and launches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from live_node import LiveNode
from textual.pilot import Pilot
from waiting import came as until

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


async def type_in(pilot: Pilot[None], text: str) -> None:
    names = {" ": "space", "/": "slash", "(": "left_parenthesis", ".": "full_stop", "-": "minus", "|": "vertical_line"}
    await pilot.press(*(names.get(char, char) for char in text))

"""Follows the log of every instance that the store knows, and collects the lines for whoever draws them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress

from xin.client import AsyncClient
from xin.errors import XinError
from xin.tui.log_book import Folding, Line, line_of
from xin.tui.store import Store, Target

TAIL = 2000
RETRY_SECONDS = 1.0


class LogStreams:
    """`follow_all` as often as the store changes; `take` what has come. `arrived` is called when there is something.

    A stream that breaks is opened again, and no line is given twice.
    """

    def __init__(self, store: Store, client: Callable[[str], AsyncClient], arrived: Callable[[], None]) -> None:
        self._store = store
        self._client = client
        self._arrived = arrived
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._last_at: dict[Target, float] = {}
        self._foldings: dict[Target, Folding] = {}
        self._waiting: list[Line] = []

    def follow_all(self) -> None:
        """Follow what is there now; what has gone is left alone, its lines stay."""
        for target in self._store.targets(ready_only=False):
            task = self._tasks.get(target)
            view = self._store.node(target.node_id)
            if (task is None or task.done()) and view is not None and view.endpoint and view.status != "gone":
                self._tasks[target] = asyncio.get_running_loop().create_task(self._follow(target), name=f"log {target}")

    def take(self) -> list[Line]:
        lines, self._waiting = self._waiting, []
        return lines

    async def close(self) -> None:
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _follow(self, target: Target) -> None:
        """Until the instance is gone, or its node does not answer; a relaunch has a log of its own."""
        while True:
            with suppress(XinError):  # whether it is there still, the store tells
                async with aclosing(self._client(target.node_id).follow_logs(target.uid, tail=TAIL)) as lines:
                    async for line in lines:
                        self._take(target, line_of(target, self._node(target), line))
            await asyncio.sleep(RETRY_SECONDS)
            view = self._store.node(target.node_id)
            if view is None or view.status == "gone" or self._store.instance(target) is None:
                return

    def _take(self, target: Target, line: Line) -> None:
        if line.at <= self._last_at.get(target, 0.0):
            return
        self._last_at[target] = line.at
        self._waiting.append(self._foldings.setdefault(target, Folding()).take(line))
        if len(self._waiting) == 1:
            self._arrived()

    def _node(self, target: Target) -> str:
        view = self._store.node(target.node_id)
        return view.name if view is not None else ""

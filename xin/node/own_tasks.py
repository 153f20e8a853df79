"""Work that goes on when whoever asked for it has left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from xin.errors import XinError

log = logging.getLogger("xin.node.manager")
T = TypeVar("T")


class OwnTasks:
    """Each in a task of its own; `close` cancels what is left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The caller may be cancelled, the work goes on."""
        return await asyncio.shield(self._start(work))

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """An error is told in the log."""
        self._start(work).add_done_callback(_tell_error)

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the caller may be gone


def _tell_error(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("%s", error, exc_info=None if isinstance(error, XinError) else error)

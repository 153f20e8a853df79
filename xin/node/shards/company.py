"""The helpers of one model that is divided, as its worker's node has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from xin.errors import XinError
from xin.node.worker_handle import WorkerHandle
from xin.protocol.node import ShardPart
from xin.worker.frames import Share

CAUSE_SECONDS = 2.0  # the worker may see a loss before this node is told of it


@dataclass(slots=True)
class Order:
    """A launch to divide: over which nodes, by their ids, and what of it. `path`: its (first) file."""

    uid: str
    path: str
    shard: list[str]
    options: dict[str, Any]
    force: bool = False


class Company:
    """`lost` has the cause for its result once a helper is gone. `shares`, `options`: what its worker is given."""

    def __init__(self) -> None:
        self.parts: list[ShardPart] = []
        self.shares: list[Share] = []
        self.options: dict[str, Any] = {}
        self.notes: list[str] = []
        self.lost: asyncio.Future[XinError] = asyncio.get_running_loop().create_future()
        self.opened = AsyncExitStack()  # what has to be closed

    @property
    def is_lost(self) -> bool:
        return self.lost.done() and not self.lost.cancelled()

    def lose(self, cause: XinError) -> None:
        if not self.lost.done():
            self.lost.set_result(cause)

    def guard(self, handle: WorkerHandle) -> None:
        """The worker ends when a helper is lost, and whatever it died of by then, the loss is told as its cause."""
        handle.explain = self._cause
        self.lost.add_done_callback(lambda _: handle.kill(self.lost.result()) if self.is_lost else None)

    async def close(self) -> None:
        """The helpers end. Idempotent."""
        self.lost.cancel()
        await self.opened.aclose()

    async def _cause(self) -> XinError | None:
        await asyncio.wait({self.lost}, timeout=CAUSE_SECONDS)
        return self.lost.result() if self.is_lost else None


Gather = Callable[[Order], Awaitable[Company]]

"""Real managers with the echo engine in real children, for the tests beside this file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from xin.config import NodeConfig
from xin.node.events import EventHub
from xin.node.manager import Manager
from xin.node.worker_handle import GenerationStream, WorkerHandle
from xin.protocol.node import LaunchRequest
from xin.worker.frames import Delta, Done, Generate


@asynccontextmanager
async def managed(events: EventHub | None = None, **config: Any) -> AsyncIterator[Manager]:
    """A started manager on port 0; stopped without drain. XIN_HOME is the test's affair."""
    settings = {"port": 0, "threads": 2, **config}
    manager = Manager(NodeConfig(**settings), node_id="id-1", node_name="here", events=events or EventHub())
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop(0)


def echo(uid: str | None = None, **options: Any) -> LaunchRequest:
    return LaunchRequest(model_name="echo", model_uid=uid, options=options)


async def answer(handle: WorkerHandle, prompt: str, **fields: Any) -> str:
    """The whole text of one generation."""
    return await rest(await handle.generate(Generate(0, prompt=prompt, **fields)))


async def rest(stream: GenerationStream) -> str:
    text = ""
    while batch := await stream.next_batch():
        text += "".join(item.text for item in batch if isinstance(item, Delta))
    return text


async def reasons(stream: GenerationStream) -> list[str]:
    found = []
    while batch := await stream.next_batch():
        found += [item.finish_reason for item in batch if isinstance(item, Done)]
    return found


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for what comes by itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

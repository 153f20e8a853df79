"""A node for trying the workbench without weights: a real node whose models are echo instances, on made-up GPUs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from xin.config import Config
from xin.errors import XinError
from xin.node import app as node_app
from xin.node.devices.host import Host
from xin.node.devices.probe import Source
from xin.node.fake_answer import answer_of
from xin.node.identity import Identity
from xin.node.keys import MANAGER
from xin.node.manager import Manager
from xin.protocol.node import Device, LaunchRequest

GPU_BYTES = 24 * 2**30
MODEL_BYTES = (5_200_000_000, 8_900_000_000, 3_100_000_000)
STALL_AFTER = 20
log = logging.getLogger("xin.node")


@dataclass(slots=True, kw_only=True)
class Fleet:
    """What the fake node runs. Whatever goes wrong goes wrong with the last model: the others go on.

    rate: tokens/s of each model. die_after, stall_after: tokens. ttft_ms, load_seconds: of every model.
    echo: answer with the prompt instead of a made-up text. answer: this text, {model} being the model's number.
    """

    models: int = 3
    rate: float = 60.0
    gpus: int = 0
    die_after: int | None = None
    stall_after: int | None = None
    oom: bool = False
    ttft_ms: float = 150.0
    load_seconds: float = 0.0
    context_length: int = 32768
    echo: bool = False
    answer: str | None = None

    def launches(self) -> list[LaunchRequest]:
        return [
            LaunchRequest(model_name="echo", model_uid=f"fake-{n}", keep_alive=-1, options=self._options(n))
            for n in range(1, self.models + 1)
        ]

    def _options(self, number: int) -> dict[str, Any]:
        options: dict[str, Any] = {
            "tokens_per_second": self.rate,
            "ttft_ms": self.ttft_ms,
            "load_seconds": self.load_seconds,
            "context_length": self.context_length,
            "n_parallel": 8,
        }
        if self.answer is not None:
            options["answer"] = self.answer.replace("{model}", str(number))
        elif not self.echo:
            options["answer"] = answer_of(number)
        if number == self.models:
            options |= {"die_after": self.die_after, "stall_after": self.stall_after, "oom": self.oom}
        return {key: value for key, value in options.items() if value is not None}


class FakeGpus:
    """Devices that say in their name that they are made up. Each model takes a share of one, and heats it when busy."""

    def __init__(self, count: int, manager: Manager) -> None:
        self.problem: str | None = None
        self._count = count
        self._manager = manager

    def read(self) -> list[Device]:
        held: list[dict[int, int]] = [{} for _ in range(self._count)]
        busy = [0.0] * self._count
        for number, instance in enumerate(self._manager.instances()):
            gpu = number % self._count
            if instance.worker.pid and instance.state in ("loading", "ready"):
                held[gpu][instance.worker.pid] = MODEL_BYTES[number % len(MODEL_BYTES)]
                busy[gpu] += 40.0 * instance.stats.running
        return [_gpu(index, held[index], min(busy[index], 98.0)) for index in range(self._count)]

    def close(self) -> None:
        """Holds nothing open."""


def _gpu(index: int, held: dict[int, int], busy: float) -> Device:
    used = 300_000_000 + sum(held.values())
    return Device(
        id=f"cuda:{index}",
        kind="cuda",
        name="fake GPU 24G",
        total_bytes=GPU_BYTES,
        free_bytes=max(GPU_BYTES - used, 0),
        utilization=busy,
        temperature=round(38 + busy / 3),
        power=round(25 + busy * 3.2),
        power_limit=350.0,
        process_bytes=held,
        note="made up by xin fake-node",
    )


def run(config: Config, fleet: Fleet) -> int:
    """As `xin node`, with the fleet's models launched at the start. Blocking; returns the exit code."""
    return node_app.run(config, partial(_make_app, fleet=fleet))


def _make_app(config: Config, identity: Identity, *, fleet: Fleet) -> web.Application:
    def sources(manager: Manager) -> list[Source]:
        return [FakeGpus(fleet.gpus, manager), Host()] if fleet.gpus else [Host()]

    app = node_app.make_app(config, identity, sources=sources)

    async def launching(app: web.Application) -> AsyncIterator[None]:
        await _launch(app[MANAGER], fleet.launches())
        yield

    app.cleanup_ctx.append(launching)
    return app


async def _launch(manager: Manager, launches: list[LaunchRequest]) -> None:
    """On demand, so that nothing of it is kept for the next start."""
    for request in launches:
        try:
            await manager.launch(request, wait=False, explicit=False)
        except XinError as exc:
            log.error("%s: %s", request.model_uid, exc.message)

"""The devices' latest readings: one at the start, then one a second while somebody watches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TypeVar

import msgspec
import psutil

from xin.node.devices.probe import Prober
from xin.node.events import EventHub
from xin.protocol.node import Device, Event, WorkerInfo

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
START_SECONDS = 0.5

T = TypeVar("T")


class Sampler:
    """`async with` it. `workers` gives each model's process by uid; a start never waits long for a slow driver."""

    def __init__(
        self,
        events: EventHub,
        workers: Callable[[], Mapping[str, WorkerInfo]],
        *,
        prober: Prober | None = None,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._interval = interval_seconds
        self._events = events
        self._workers = workers
        self._prober = prober or Prober()
        self._devices: list[Device] = []
        self._read_at = float("-inf")
        self._reading: asyncio.Future[list[Device]] | None = None
        self._watched = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Sampler:
        self._events.on_watchers.append(self._on_watchers)
        self._task = asyncio.create_task(self._run(), name="device sampler")
        await asyncio.wait([self._begin_reading()], timeout=START_SECONDS)
        if not self._devices:
            log.info("devices: a driver is slow to answer; going on without it")
        self._on_watchers(self._events.sample_watchers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._events.on_watchers.remove(self._on_watchers)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # A thread that still hangs in a driver is a daemon and may not be disturbed.
        if self._reading is None or self._reading.done():
            await asyncio.wait([_in_thread(self._prober.close)], timeout=START_SECONDS)

    def latest(self) -> list[Device]:
        """The last reading, however old; empty until a slow driver has answered."""
        return self._devices

    async def current(self, max_age_seconds: float = INTERVAL_SECONDS) -> list[Device]:
        """A reading at most so old; the last one if a driver takes longer than START_SECONDS."""
        if time.monotonic() - self._read_at > max_age_seconds:
            await asyncio.wait([self._begin_reading()], timeout=START_SECONDS)
        return self._devices

    def _on_watchers(self, _count: int) -> None:
        if self._events.sample_watchers:
            self._watched.set()
        else:
            self._watched.clear()

    async def _run(self) -> None:
        """While watched, one sample per second; a reading that takes longer delays the next."""
        while True:
            await self._watched.wait()
            due = time.monotonic() + self._interval
            devices = await asyncio.shield(self._begin_reading())
            workers = await _in_thread(partial(measure, self._workers(), devices))
            self._events.publish(Event(type="samples", at=time.time(), devices=devices, workers=workers))
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            if not self._watched.is_set():
                await _in_thread(self._prober.close)

    def _begin_reading(self) -> asyncio.Future[list[Device]]:
        """The reading in flight, or a new one: drivers are asked by one thread at a time."""
        if self._reading is None or self._reading.done():
            self._reading = _in_thread(self._prober.read)
            self._reading.add_done_callback(self._on_reading)
        return self._reading

    def _on_reading(self, reading: asyncio.Future[list[Device]]) -> None:
        if not reading.cancelled() and reading.exception() is None:
            self._devices, self._read_at = reading.result(), time.monotonic()


def measure(workers: Mapping[str, WorkerInfo], devices: list[Device]) -> dict[str, WorkerInfo]:
    """The workers with the memory that each process and its children hold, on the host and on each device."""
    found = {}
    for uid, worker in workers.items():
        resident = _resident_bytes(worker.pid) if worker.pid else {}
        gpu_bytes = {device.id: sum(device.process_bytes.get(pid, 0) for pid in resident) for device in devices}
        found[uid] = msgspec.structs.replace(
            worker,
            rss_bytes=sum(resident.values()),
            gpu_bytes={device: size for device, size in gpu_bytes.items() if size},
        )
    return found


def _resident_bytes(pid: int) -> dict[int, int]:
    """RSS by pid of a process and its children; those that have ended are left out."""
    sizes: dict[int, int] = {}
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            sizes[one.pid] = one.memory_info().rss
    except psutil.Error:
        pass
    return sizes


def _in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run it in a daemon thread: unlike the loop's own executor, one that hangs in a driver holds up no exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = function(), None
        except BaseException as exc:  # handed to the awaiting task
            outcome = None, exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, name="devices", daemon=True).start()
    return future

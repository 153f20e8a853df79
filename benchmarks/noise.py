"""What else ran while we measured: a figure made on a busy machine must say so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from types import TracebackType

import psutil

WINDOW_SECONDS = 0.25
BUSY_CORES = 0.15  # nothing is begun while others take more
CALM_CORES = 0.06  # a measurement during which others took more is done again
CALM_FOR_WORST = 0.025  # … of one whose figure is a longest wait, which a single interruption decides


class Noise:
    """`with Noise() as noise: …`; afterwards `noise.cores` is how many cores' worth of time others took."""

    cores = 0.0

    def __enter__(self) -> Noise:
        self._began = time.perf_counter()
        self._all, self._ours = _all_seconds(), _our_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        others = _all_seconds() - self._all - (_our_seconds() - self._ours)
        self.cores = max(0.0, others / (time.perf_counter() - self._began))


async def quiet(most_seconds: float) -> None:
    """Wait, for `most_seconds` at most, until others take less than BUSY_CORES for a moment."""
    deadline = time.perf_counter() + most_seconds
    while True:
        with Noise() as noise:
            await asyncio.sleep(WINDOW_SECONDS)
        if noise.cores < BUSY_CORES or time.perf_counter() > deadline:
            return


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used; to the nanosecond where the kernel tells (Linux), else to 10 ms."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _all_seconds() -> float:
    """Busy and stolen seconds of all cores since boot."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _our_seconds() -> float:
    """Of this process and everything below it."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total

"""The node's CPU threads, shared out to the workers that run something right now.

Oversubscribed, spinning threads are up to 100 times slower than each worker on a share of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Protocol

from xin.cgroup import Cgroup

HYSTERESIS_SECONDS = 0.05


class Threaded(Protocol):
    """What takes a share: a WorkerHandle."""

    threads: int

    def set_threads(self, threads: int) -> None: ...


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its control group's quota. Blocking."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Cgroup().cpus()
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def shares(total: int, wants: Iterable[int]) -> list[int]:
    """Threads for each busy worker: as even as can be, none over what it wants, at least 1, in sum at most `total`.

    Only when there are more workers than threads does the sum exceed `total`: then each has 1.
    """
    wanted = list(wants)
    given = [1] * len(wanted)
    left = total - len(wanted)
    while left > 0:
        hungry = [i for i, want in enumerate(wanted) if given[i] < want]
        if not hungry:
            break
        for i in sorted(hungry, key=lambda i: given[i])[:left]:
            given[i] += 1
            left -= 1
    return given


class ThreadBudget:
    """Busy workers share `total` threads; the one that is alone has them all. Idle ones keep nothing."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._busy: dict[Threaded, int] = {}
        self._resting: dict[Threaded, asyncio.TimerHandle] = {}

    def initial(self, limit: int | None = None) -> int:
        """What a new worker loads with: its share beside those that run now. `limit` is its launch's own."""
        return shares(self.total, [*self._busy.values(), self.total if limit is None else limit])[-1]

    def begin(self, worker: Threaded, limit: int | None = None) -> None:
        """It is about to run something: divide again at once, others first, so that the sum is never exceeded.

        Those that rest give up what was kept for them: an answer right after an embedding is read with all threads.
        """
        for resting, timer in self._resting.items():
            timer.cancel()
            if resting is not worker:
                del self._busy[resting]
        self._resting.clear()
        self._busy[worker] = self.total if limit is None else limit
        self._divide()

    def end(self, worker: Threaded) -> None:
        """It runs nothing: its share goes to the others, unless it begins again in a moment."""
        if worker in self._busy and worker not in self._resting:
            loop = asyncio.get_running_loop()
            self._resting[worker] = loop.call_later(HYSTERESIS_SECONDS, self.remove, worker)

    def remove(self, worker: Threaded) -> None:
        """Its share goes to the others now. Unknown workers are ignored."""
        timer = self._resting.pop(worker, None)
        if timer is not None:
            timer.cancel()
        if self._busy.pop(worker, None) is not None:
            self._divide()

    def close(self) -> None:
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()

    def _divide(self) -> None:
        division = zip(self._busy, shares(self.total, self._busy.values()), strict=True)
        for worker, threads in sorted(division, key=lambda item: item[1] > item[0].threads):
            worker.set_threads(threads)

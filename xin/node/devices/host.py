"""The host's CPU and RAM, as far as its control group and affinity let this process use them."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

import psutil

from xin.cgroup import Cgroup
from xin.protocol.node import Device

_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


class Host:
    """The device "cpu". Utilisation is of the cores that may be used, over the time since the last read."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.problem: str | None = None
        self._root = root
        self._cgroup = Cgroup(root)
        self._name = _cpu_name(root)
        self._bf16 = _has_bf16(root)
        self._last: tuple[float, float] | None = None

    def read(self) -> list[Device]:
        memory = psutil.virtual_memory()
        total, free = memory.total, memory.available
        if limits := self._cgroup.memory():
            total, free = min(total, limits[0]), min(free, limits[1])
        quota, allowed = self._cgroup.cpus(), _allowed_cores()
        cores = min(quota or allowed, allowed)
        device = Device(
            id="cpu",
            kind="cpu",
            name=self._name,
            total_bytes=total,
            free_bytes=free,
            utilization=self._utilization(cores if quota else None),
            cores=cores,
            bf16=self._bf16,
        )
        return [device]

    def close(self) -> None:
        """Holds nothing open."""

    def _utilization(self, quota: float | None) -> float | None:
        """Percent of the group's quota where there is one, else of all cores."""
        used = self._cgroup.cpu_seconds() if quota else None
        now = (used / (quota or 1), time.monotonic()) if used is not None else _busy_and_total()
        last, self._last = self._last, now
        if last is None or now[1] <= last[1]:
            return None
        return round(min(max((now[0] - last[0]) / (now[1] - last[1]) * 100, 0.0), 100.0), 1)


def _has_bf16(root: Path) -> bool:
    """Instructions that multiply bfloat16: without them PyTorch computes in float32 here."""
    try:
        with (root / "proc/cpuinfo").open() as file:
            flags = next((line for line in file if line.lower().startswith(("flags", "features"))), "")
    except OSError:  # no Linux
        return False
    return not _BF16.isdisjoint(flags.split())


def _busy_and_total() -> tuple[float, float]:
    times = psutil.cpu_times()
    # Linux counts a guest's time in user and nice too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name(root: Path) -> str:
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine() or "CPU"

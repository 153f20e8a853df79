"""Apple silicon: one GPU that shares the host's memory; told by sysctl and ioreg."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence

from xin.protocol.node import Device

_SYSCTL_KEYS = ("hw.memsize", "iogpu.wired_limit_mb", "machdep.cpu.brand_string")
_SMALL_MEMORY = 36 << 30


def run(command: Sequence[str]) -> str:
    """The command's stdout, or "" if it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


class Apple:
    """The Metal device. `runner` runs a command and returns its stdout."""

    def __init__(self, runner: Callable[[Sequence[str]], str] = run) -> None:
        self.problem: str | None = None
        self._run = runner

    def read(self) -> list[Device]:
        facts = self._sysctl()
        memory = facts.get("hw.memsize", "")
        if not memory.isdigit():
            return []
        total = _gpu_share(int(memory), facts.get("iogpu.wired_limit_mb", ""))
        registry = self._run(["ioreg", "-r", "-d", "1", "-c", "IOAccelerator"])
        used = _statistic(registry, "In use system memory")
        return [
            Device(
                id="metal:0",
                kind="metal",
                name=facts.get("machdep.cpu.brand_string") or "Apple GPU",
                total_bytes=total,
                free_bytes=None if used is None else max(total - used, 0),
                utilization=_statistic(registry, "Device Utilization %"),
                unified=True,
            )
        ]

    def close(self) -> None:
        """Holds nothing open."""

    def _sysctl(self) -> dict[str, str]:
        """An Intel Mac, and macOS before 14, lack some keys: sysctl prints the others."""
        lines = self._run(["sysctl", *_SYSCTL_KEYS]).splitlines()
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _gpu_share(memory_bytes: int, wired_limit_mb: str) -> int:
    """What Metal lets the GPU wire: the limit that was set, else 2/3 of a small memory or 3/4 of a large one."""
    if wired_limit_mb.isdigit() and int(wired_limit_mb) > 0:
        return min(int(wired_limit_mb) << 20, memory_bytes)
    return memory_bytes * 2 // 3 if memory_bytes <= _SMALL_MEMORY else memory_bytes * 3 // 4


def _statistic(registry: str, key: str) -> int | None:
    match = re.search(rf'"{re.escape(key)}"=(\d+)', registry)
    return int(match[1]) if match else None

"""What this process's control groups, v1 or v2, leave it (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

_NO_LIMIT = 1 << 60  # v1 writes "none" as the largest page-aligned number


def free_memory() -> int:
    """Bytes of RAM that this process may still take."""
    available = int(psutil.virtual_memory().available)
    limits = Cgroup().memory()
    return min(available, limits[1]) if limits else available


class Cgroup:
    """Reads /proc/self/cgroup and /sys/fs/cgroup under `root`; the tightest of the group and its parents counts."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._mount = root / "sys/fs/cgroup"
        self._paths = _paths(root / "proc/self/cgroup")

    def memory(self) -> tuple[int, int] | None:
        """(limit, bytes left); the cache of files counts as left, since the kernel gives it up first."""
        levels = [*self._memory_v2(), *self._memory_v1()]
        if not levels:
            return None
        return min(limit for limit, _ in levels), max(min(left for _, left in levels), 0)

    def cpus(self) -> float | None:
        """The CPU quota in cores."""
        quotas = []
        for folder in self._levels(""):
            parts = _text(folder / "cpu.max").split()
            quotas += [int(parts[0]) / int(parts[1])] if len(parts) == 2 and parts[0].isdigit() else []
        for folder in self._levels("cpu"):
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            quotas += [quota / period] if quota and period and quota > 0 else []
        return min(quotas, default=None)

    def cpu_seconds(self) -> float | None:
        """The CPU time that this group has used."""
        for folder in self._levels(""):
            usage = _statistics(folder / "cpu.stat").get("usage_usec")
            return None if usage is None else usage / 1e6
        for folder in self._levels("cpuacct"):
            nanoseconds = _number(folder / "cpuacct.usage")
            return None if nanoseconds is None else nanoseconds / 1e9
        return None

    def _memory_v2(self) -> Iterator[tuple[int, int]]:
        for folder in self._levels(""):
            limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
            if limit is not None and used is not None:
                yield limit, limit - used + _statistics(folder / "memory.stat").get("inactive_file", 0)

    def _memory_v1(self) -> Iterator[tuple[int, int]]:
        for folder in self._levels("memory"):
            limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
            if limit is not None and used is not None and limit < _NO_LIMIT:
                yield limit, limit - used + _statistics(folder / "memory.stat").get("total_inactive_file", 0)

    def _levels(self, controller: str) -> Iterator[Path]:
        """The group's folder and its parents' that are there; a container often sees only the mount itself."""
        path = self._paths.get(controller)
        if path is None:
            return
        mount = self._mount / controller
        if not controller and not (mount / "cgroup.controllers").exists():
            mount = self._mount / "unified"
        group = mount / path.strip("/")
        for folder in [group, *group.parents]:
            if folder.is_dir():
                yield folder
            if folder == mount:
                return


def _paths(file: Path) -> dict[str, str]:
    """The group of each v1 controller, and of "" for v2."""
    found: dict[str, str] = {}
    for line in _text(file).splitlines():
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _statistics(file: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(file).splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    try:
        return int(_text(file))
    except ValueError:
        return None

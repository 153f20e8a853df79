"""Which idle models end so that another fits."""

from __future__ import annotations

from collections.abc import Iterable

from xin.node.instance_runner import InstanceRunner
from xin.protocol.node import Instance


def victims(runners: Iterable[InstanceRunner], bytes_: int) -> list[InstanceRunner]:
    """The least valuable ones that together hold so much; [] when all idle ones do not.

    Ready, without a request, not pinned; those that came on demand first, of each kind the longest unused. The first of
    several replicas goes last, and only with all the others.
    """
    all_ = list(runners)
    idle = [one for one in all_ if one.state == "ready" and not one.keep_alive.held and not one.instance.pinned]
    needed = {one.instance.serves for one in all_ if one.instance.serves and one not in idle}
    idle = [one for one in idle if one.uid not in needed]
    chosen: list[InstanceRunner] = []
    freed = 0
    for one in sorted(idle, key=lambda one: (one.instance.explicit, *_unused(one, idle))):
        chosen.append(one)
        freed += held_bytes(one.instance)
        if freed >= bytes_:
            return chosen
    return []


def _unused(one: InstanceRunner, idle: Iterable[InstanceRunner]) -> tuple[float, bool]:
    """Since when: of a first one not before its replicas."""
    group = [one] if one.instance.serves else [other for other in idle if other.instance.served_uid == one.uid]
    return max(other.instance.last_used_at or other.instance.ready_at or 0.0 for other in group), len(group) > 1


def held_bytes(instance: Instance) -> int:
    """What would become free: weights that are mapped from their file count as free already."""
    parts = {name: size for name, size in instance.memory_bytes.items() if not (name == "weights" and _maps(instance))}
    return sum(parts.values()) or instance.worker.rss_bytes


def _maps(instance: Instance) -> bool:
    return instance.model_engine == "llama.cpp" and bool(instance.options.get("mmap", True))

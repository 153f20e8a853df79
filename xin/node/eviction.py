"""Which idle models end so that another fits."""

from __future__ import annotations

from collections.abc import Iterable

from xin.node.instance_runner import InstanceRunner
from xin.protocol.node import Instance


def victims(runners: Iterable[InstanceRunner], bytes_: int) -> list[InstanceRunner]:
    """The least valuable ones that together hold so much; [] when all idle ones do not.

    Ready, without a request, not pinned; those that came on demand first, of each kind the longest unused.
    """
    idle = [one for one in runners if one.state == "ready" and not one.keep_alive.held and not one.instance.pinned]
    idle.sort(key=lambda one: (one.instance.explicit, one.instance.last_used_at or one.instance.ready_at or 0.0))
    chosen: list[InstanceRunner] = []
    freed = 0
    for one in idle:
        chosen.append(one)
        freed += held_bytes(one.instance)
        if freed >= bytes_:
            return chosen
    return []


def held_bytes(instance: Instance) -> int:
    """What would become free: weights that are mapped from their file count as free already."""
    parts = {name: size for name, size in instance.memory_bytes.items() if not (name == "weights" and _maps(instance))}
    return sum(parts.values()) or instance.worker.rss_bytes


def _maps(instance: Instance) -> bool:
    return instance.model_engine == "llama.cpp" and bool(instance.options.get("mmap", True))

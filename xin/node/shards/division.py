"""How many layers of a model each node gets, by what is free there. Pure; sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xin.errors import BadRequest, LoadFailed, OutOfMemory, XinError
from xin.node.plan_need import GPU_BYTES, PROCESS_BYTES, Need
from xin.node.plan_verdict import gib
from xin.protocol.node import ShardPart


@dataclass(frozen=True, slots=True)
class Room:
    """What a node has for its part. `on_gpu`: in accelerators."""

    node: str
    node_id: str
    free: int
    on_gpu: bool = False


def divide(need: Need, rooms: Sequence[Room], *, force: bool = False) -> list[ShardPart]:
    """The part of each, in order: the first is the worker's node, the others help.

    `force`: also when it does not fit. Raises OutOfMemory with what is short, BadRequest for a node that has no room
    for a layer, LoadFailed where the layers are not known.
    """
    if not need.layers:
        raise LoadFailed("how many layers it has cannot be read, so it cannot be divided", "leave shard out")
    beside = [_beside(need, rooms, index) for index in range(len(rooms))]
    left = [max(room.free - taken, 0) for room, taken in zip(rooms, beside, strict=True)]
    short = sum(need.layers) + need.kv - sum(left)
    if short > 0 and not force:
        free = ", ".join(f"{gib(room.free)} on {room.node}" for room in rooms)
        hint = "name one node more, choose a smaller quantization or context_length; --force launches it all the same"
        raise OutOfMemory(f"they do not hold it together: {free}: short by {gib(short)}", hint, param="shard")
    counts = _proportional(len(need.layers), left if sum(left) else [1] * len(rooms))
    for room, count in zip(rooms, counts, strict=True):
        if not count:
            raise BadRequest(
                f"{room.node} has no room for a layer: {gib(room.free)} are free", "leave it out", param="shard"
            )
    return _parts(need, rooms, beside, counts)


def together(need: Need, rooms: Sequence[Room]) -> list[Room]:
    """The first of `rooms` with as few others as hold it with that one, the roomiest first; [] when all do not."""
    others = sorted(rooms[1:], key=lambda room: -room.free)
    for count in range(1, len(rooms)):
        chosen = [rooms[0], *others[:count]]
        try:
            divide(need, chosen)
        except XinError:
            continue
        return chosen
    return []


def in_words(parts: Sequence[ShardPart]) -> str:
    return ", ".join(f"{part.layers} layers on {part.node} ({gib(part.need_bytes)})" for part in parts)


def _beside(need: Need, rooms: Sequence[Room], index: int) -> int:
    """What a node needs however few layers it has: buffers, a process, at the ends embeddings and output."""
    process = PROCESS_BYTES + (GPU_BYTES if rooms[index].on_gpu else 0)
    ends = need.weights - sum(need.layers) if index in (0, len(rooms) - 1) else 0
    return need.compute + process + ends


def _proportional(count: int, left: Sequence[int]) -> list[int]:
    """Whole numbers with the sum `count`; the largest remainders are rounded up."""
    exact = [count * one / sum(left) for one in left]
    counts = [int(one) for one in exact]
    by_rest = sorted(range(len(left)), key=lambda index: counts[index] - exact[index])
    for index in by_rest[: count - sum(counts)]:
        counts[index] += 1
    return counts


def _parts(need: Need, rooms: Sequence[Room], beside: Sequence[int], counts: Sequence[int]) -> list[ShardPart]:
    order = [*range(1, len(rooms)), 0] if rooms[0].on_gpu else range(len(rooms))  # accelerators of the worker come last
    parts: dict[int, ShardPart] = {}
    start = 0
    for index in order:
        own = need.layers[start : start + counts[index]]
        kv = need.kv * len(own) // len(need.layers)
        parts[index] = ShardPart(rooms[index].node, rooms[index].node_id, len(own), sum(own) + kv + beside[index])
        start += len(own)
    return [parts[index] for index in range(len(rooms))]

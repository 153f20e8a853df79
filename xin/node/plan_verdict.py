"""Does it fit on a device, wholly or in part? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xin.node.plan_need import GPU_BYTES, LEAST_CONTEXT, PROCESS_BYTES, Need
from xin.protocol.node import Device, Verdict


@dataclass(slots=True)
class Judgement:
    """`need`: all bytes on the device. `short`: how many are missing."""

    verdict: Verdict
    need: int
    max_context: int = 0
    n_gpu_layers: int | None = None
    reason: str = ""
    short: int = 0


def judge(need: Need, device: Device, devices: Sequence[Device]) -> Judgement:
    """`devices`: all of the node. Weights that are not known count as fitting."""
    free = free_bytes(device)
    beside = _beside(device) if need.weights else 0
    asked = need.total + beside
    if not need.weights:
        return Judgement("fits", 0, max_context=need.trained_context)
    longest = need.longest(free - beside) if need.steps else need.trained_context
    layers = len(need.layers) or None if device.kind != "cpu" else None
    if asked <= free:
        return Judgement("fits", asked, longest, layers)
    short = asked - free
    if need.steps and longest >= LEAST_CONTEXT:
        reason = f"at most {longest} tokens of context: short by {gib(short)} for {need.window}"
        return Judgement("partial", asked, longest, layers, reason, short)
    if device.kind != "cpu" and not device.unified:
        spilled = _spill(need, free - beside, devices)
        if spilled is not None:
            reason = f"{spilled} of {len(need.layers)} layers fit, {gib(short)} would stay in RAM: slower"
            return Judgement("partial", asked, need.trained_context, spilled, reason, short)
    return Judgement("no", asked, 0, None, f"short by {gib(short)}", short)


def free_bytes(device: Device) -> int:
    return device.free_bytes if device.free_bytes is not None else device.total_bytes


def gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**28 else f"{max(count / 2**20, 0.1):.1f} MiB"


def _beside(device: Device) -> int:
    """What the process takes there besides the model."""
    return PROCESS_BYTES if device.kind == "cpu" or device.unified else GPU_BYTES


def _spill(need: Need, free: int, devices: Sequence[Device]) -> int | None:
    """Layers on the accelerator when the rest fits in RAM."""
    count = need.layers_within(free)
    ram = sum(free_bytes(other) for other in devices if other.kind == "cpu")
    on_device = sum(need.layers[len(need.layers) - count :]) + need.kv * count // max(len(need.layers), 1)
    rest = need.total - on_device + PROCESS_BYTES
    return count if count and rest <= ram else None

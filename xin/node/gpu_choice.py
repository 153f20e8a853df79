"""Which accelerators a worker may use, by their numbers: 0 is cuda:0 or rocm:0."""

from __future__ import annotations

from collections.abc import Sequence

from xin.errors import BadRequest
from xin.protocol.node import Device


def check_gpu(wanted: Sequence[int], devices: Sequence[Device], node: str) -> None:
    """Raises BadRequest naming `gpu` for one that is not there."""
    there = sorted({number for device in devices if (number := number_of(device.id)) is not None})
    if not wanted or len(set(wanted)) < len(wanted):
        raise BadRequest(f"gpu is {list(wanted)}", "name each accelerator once, or leave it out for all", param="gpu")
    if missing := [number for number in wanted if number not in there]:
        shown = ", ".join(device.id for device in devices if number_of(device.id) is not None) or "no accelerator"
        raise BadRequest(f"gpu {missing[0]} is not on {node}", f"there is: {shown}", param="gpu")


def visible(devices: Sequence[Device], wanted: Sequence[int] | None) -> list[Device]:
    """The host's CPU, and those accelerators that were named."""
    return [one for one in devices if one.kind == "cpu" or wanted is None or number_of(one.id) in wanted]


def share(wanted: Sequence[int] | None, index: int, count: int) -> list[int] | None:
    """What each of `count` replicas on one node gets of them."""
    if wanted is None:
        return None
    return list(wanted[index::count]) if count <= len(wanted) else [wanted[index % len(wanted)]]


def environment(gpu: Sequence[int] | None) -> dict[str, str]:
    """For the libraries in the worker. CUDA's own order is by speed; that of the driver, which is shown, is by bus."""
    if gpu is None:
        return {}
    numbers = ",".join(map(str, gpu))
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": numbers, "HIP_VISIBLE_DEVICES": numbers}


def number_of(device_id: str) -> int | None:
    """None of the CPU, and of a part of an accelerator."""
    kind, _, number = device_id.partition(":")
    return int(number) if kind != "cpu" and number.isascii() and number.isdigit() else None

"""What PyTorch and bitsandbytes do on which device: of which type weights are, and where they can be quantized."""

from __future__ import annotations

from xin.node.plan_candidates import PYTORCH, Candidate
from xin.protocol.node import Device

_FULL, _HALF = 4, 2


def item_bytes(one: Candidate, device: Device | None = None) -> int:
    """Of a weight that is not quantized, as the transformers engine loads it there; without a device: as stored."""
    stored = one.checkpoint.stored_bytes if one.checkpoint is not None else _HALF
    if device is not None and device.kind == "cpu" and not device.bf16:
        return max(stored, _FULL)
    return stored


def no_quantizer(one: Candidate, device: Device) -> str:
    """Why weights cannot be quantized there; empty when they can, or need not."""
    if one.format != PYTORCH or one.quantization not in ("8-bit", "4-bit") or device.kind != "metal":
        return ""
    return f"bitsandbytes makes no {one.quantization} on Metal: take none, or a GGUF"

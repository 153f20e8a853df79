"""Where a model runs, in which type, and how it is quantized while it is loaded."""

from __future__ import annotations

from typing import Any

import torch

from xin.backends.transformers.options import Options
from xin.errors import BadRequest

NO_QUANTIZATION = (None, "", "none", "unknown")


def device_of(options: Options) -> torch.device:
    """BadRequest for a device that is not here."""
    name = options.device
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise BadRequest(f"{name!r} is no device", "cpu, cuda, cuda:1 or mps", param="device") from exc
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type, 0)
    if (device.index or 0) >= there:
        raise BadRequest(f"there is no device {name} here", "leave device out, or name cpu", param="device")
    return device


def dtype_of(options: Options, device: torch.device, stored: torch.dtype | None) -> torch.dtype:
    """`stored`: what the model's configuration says its weights are."""
    if options.dtype != "auto":
        chosen: torch.dtype = getattr(torch, options.dtype)
        return chosen
    wanted = stored or torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if wanted != torch.float32 and _cpu_has_bf16() else torch.float32
    if wanted == torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return wanted


def quantization_config(quantization: str | None, options: Options, device: torch.device, dtype: torch.dtype) -> Any:
    """transformers' configuration of bitsandbytes; None for weights as they are. BadRequest where it cannot be."""
    if quantization in NO_QUANTIZATION:
        return None
    if quantization not in ("8-bit", "4-bit"):
        raise BadRequest(
            f"the transformers engine cannot make {quantization}", "none, 8-bit or 4-bit", param="quantization"
        )
    if device.type == "mps":
        raise BadRequest("bitsandbytes has no 8-bit or 4-bit on Metal", "choose a GGUF", param="quantization")
    from transformers import BitsAndBytesConfig

    if quantization == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.four_bit,
        bnb_4bit_use_double_quant=options.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def _cpu_has_bf16() -> bool:
    """Without such instructions bfloat16 is several times slower than float32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))

"""Launch options of the faster-whisper engine."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Device = Literal["auto", "cpu", "cuda"]
ComputeType = Literal[
    "default",
    "auto",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
]


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    device        auto (a CUDA GPU where there is one), cpu or cuda
    compute_type  what is computed in: default = as the weights are stored, or the nearest that the device can
    threads       CPU threads; default: the node's budget
    beam_size     texts that are followed beside one another, of which the likeliest is taken
    leave_out_silence  find speech first, and read nothing else: Whisper invents words where nobody speaks
    longest_audio minutes of audio that one request may bring
    """

    device: Device = "auto"
    compute_type: ComputeType = "default"
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    beam_size: Annotated[int, Meta(ge=1, le=100)] = 5
    leave_out_silence: bool = True
    longest_audio: Annotated[float, Meta(gt=0, le=1440)] = 120.0

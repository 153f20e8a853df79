"""Launch options of the transformers engine."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Attention = Literal["auto", "sdpa", "eager"]
FourBit = Literal["nf4", "fp4"]


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    context_length  window of one request, in tokens; default: what the model was trained with, at most 8192
    n_parallel      requests that decode at the same time; more wait
    n_batch         most prompt tokens of one step
    device          auto, cpu, cuda, cuda:1, mps; auto = the first of CUDA, Metal and the CPU that is there
    device_map      auto = over all GPUs, and what does not fit in RAM; sequential and balanced as accelerate has them
    dtype           auto = as the file says, float32 on a CPU without bf16 instructions
    attention       auto = sdpa where the model knows it, else eager
    four_bit        nf4 or fp4, for the quantization 4-bit
    double_quant    quantize the constants of 4-bit as well
    threads         CPU threads; default: the node's budget
    kv_cells        tokens that all running requests hold together; default: by memory
    prefix_cache    conversations whose keys and values are kept, in RAM, after they ended; 0 = none
    prefix_cache_mib  MiB of RAM that they may take together
    chat_template   a Jinja template in place of the model's own
    matryoshka      embeddings may be cut to fewer dimensions, for models that were trained so and do not tell
    trust_remote_code  REPO@COMMIT whose Python code may run, with all of your rights
    """

    context_length: Annotated[int, Meta(ge=8, le=16_777_216)] | None = None
    n_parallel: Annotated[int, Meta(ge=1, le=128)] = 16
    n_batch: Annotated[int, Meta(ge=8, le=65_536)] = 2048
    device: str = "auto"
    device_map: Literal["auto", "balanced", "sequential"] | None = None
    dtype: Dtype = "auto"
    attention: Attention = "auto"
    four_bit: FourBit = "nf4"
    double_quant: bool = True
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    kv_cells: Annotated[int, Meta(ge=8, le=268_435_456)] | None = None
    prefix_cache: Annotated[int, Meta(ge=0, le=1000)] = 32
    prefix_cache_mib: Annotated[int, Meta(ge=1, le=1_048_576)] = 1024
    chat_template: str | None = None
    matryoshka: bool = False
    trust_remote_code: str | None = None

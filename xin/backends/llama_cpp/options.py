"""Launch options of the llama.cpp engine."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
FlashAttention = Literal["auto", "on", "off"]


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    context_length  window of one request, in tokens; default: what the model was trained with, at most 8192
    n_parallel      requests that decode at the same time; more wait
    n_batch         most tokens of one step
    n_ubatch        most tokens of one pass through the layers
    n_gpu_layers    layers in GPU memory; default: all that fit; 0 = none; -1 = all
    threads         CPU threads; default: the node's budget
    flash_attn      auto, on or off
    cache_type_k    type of the cached keys
    cache_type_v    type of the cached values; other than f16 needs flash attention
    kv_cells        tokens that all running and cached requests hold together; default: by memory
    swa_full        keep all of what sliding-window layers have seen, so that a conversation can be taken up anywhere
    mmap            map the file instead of reading it
    prefix_cache    conversations whose keys and values are kept, in RAM, after they ended; 0 = none
    prefix_cache_mib  MiB of RAM that they may take together
    reader_cells    tokens of a second context that reads long prompts between the streams' steps, on CPUs; 0 = none
    prompt_lookup   draft what the text repeats of itself, where measured to be faster; False = never
    draft_model     a small .gguf of the same family that guesses ahead, where measured to be faster
    mmproj          the model's projector, so that it takes images; default: mmproj….gguf beside it; none = no images
    lora            LoRA adapters: PATH or PATH=SCALE
    chat_template   a Jinja template in place of the model's own
    """

    context_length: Annotated[int, Meta(ge=8, le=16_777_216)] | None = None
    n_parallel: Annotated[int, Meta(ge=1, le=128)] = 16
    n_batch: Annotated[int, Meta(ge=8, le=65_536)] = 2048
    n_ubatch: Annotated[int, Meta(ge=8, le=65_536)] = 512
    n_gpu_layers: Annotated[int, Meta(ge=-1, le=10_000)] | None = None
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    flash_attn: FlashAttention = "auto"
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    kv_cells: Annotated[int, Meta(ge=8, le=268_435_456)] | None = None
    swa_full: bool = True
    mmap: bool = True
    prefix_cache: Annotated[int, Meta(ge=0, le=1000)] = 32
    prefix_cache_mib: Annotated[int, Meta(ge=1, le=1_048_576)] = 1024
    reader_cells: Annotated[int, Meta(ge=0, le=16_777_216)] | None = None
    prompt_lookup: bool = True
    draft_model: str | None = None
    mmproj: str | None = None
    lora: list[str] = []
    chat_template: str | None = None

"""The context that the engine makes for a model and options: the same for a launch and for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llama_cpp as lib

from xin.backends.llama_cpp.options import Options

if TYPE_CHECKING:
    from xin.backends.llama_cpp.model import Model

DEFAULT_WINDOW = 8192
POOL_BYTES = 256 * 1024 * 1024  # of a KV pool that all requests share
APART_FROM = 8  # requests
APART_BYTES = 512 * 1024 * 1024  # up to this much, each request has its own
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5}
_GGML_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
_FLASH = {"auto": -1, "off": 0, "on": 1}


def window_of(model: Model, options: Options) -> int:
    """Tokens of one request; what it was trained with, at most DEFAULT_WINDOW, when the options leave it open."""
    trained = int(lib.llama_model_n_ctx_train(model.pointer))
    if options.context_length is None:
        return min(trained, DEFAULT_WINDOW) if trained > 0 else DEFAULT_WINDOW
    return options.context_length


def cell_bytes(model: Model, options: Options) -> int:
    """Keys and values of one token."""
    return model.kv_cell_bytes(_BITS[options.cache_type_k], _BITS[options.cache_type_v])


def context_params(model: Model, options: Options, threads: int) -> Any:
    """llama_context_params of the context that answers requests."""
    params = lib.llama_context_default_params()
    window, per_token = window_of(model, options), cell_bytes(model, options)
    # A pool of its own for each request spares many streams each other's masked cells; one pool for all lets few
    # streams and a prompt share one pass.
    apart = options.n_parallel * window
    affordable = options.kv_cells is None and apart * per_token <= APART_BYTES
    params.kv_unified = not (affordable and options.n_parallel >= APART_FROM)
    if params.kv_unified:
        most = POOL_BYTES // max(per_token, 1)
        params.n_ctx = max(options.kv_cells or min(4 * window, most), window)
    else:
        params.n_ctx = apart
    params.n_batch = options.n_batch
    params.n_ubatch = min(options.n_ubatch, options.n_batch)
    params.n_seq_max = options.n_parallel
    params.n_outputs_max = min(options.n_batch, max(64, options.n_parallel))
    params.flash_attn_type = _FLASH[options.flash_attn]
    params.type_k = _GGML_TYPES[options.cache_type_k]
    params.type_v = _GGML_TYPES[options.cache_type_v]
    params.n_threads = params.n_threads_batch = threads
    params.no_perf = True
    return params

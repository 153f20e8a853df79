"""The context that the engine makes for a model and options: the same for a launch and for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llama_cpp as lib

from xin.backends.llama_cpp.options import Options
from xin.backends.llama_cpp.pool import BITS, pool

if TYPE_CHECKING:
    from xin.backends.llama_cpp.model import Model

DEFAULT_WINDOW = 8192
READER_CELLS = 4096
READER_LEAST = 512  # cells: fewer are not worth a context
READER_SHARE = 4  # of the free RAM it takes at most one part in so many
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
    return model.kv_cell_bytes(BITS[options.cache_type_k], BITS[options.cache_type_v])


def context_params(model: Model, options: Options, threads: int) -> Any:
    """llama_context_params of the context that answers requests."""
    params = lib.llama_context_default_params()
    window, per_token = window_of(model, options), cell_bytes(model, options)
    params.kv_unified, params.n_ctx = pool(window, per_token, options.n_parallel, options.kv_cells)
    params.n_batch = options.n_batch
    params.n_ubatch = min(options.n_ubatch, options.n_batch)
    params.n_seq_max = options.n_parallel
    params.n_outputs_max = min(options.n_batch, max(64, options.n_parallel))
    params.flash_attn_type = _FLASH[options.flash_attn]
    params.type_k = _GGML_TYPES[options.cache_type_k]
    params.type_v = _GGML_TYPES[options.cache_type_v]
    params.swa_full = options.swa_full
    params.n_threads = params.n_threads_batch = threads
    params.no_perf = True
    return params


def reader_params(model: Model, options: Options, threads: int, free_bytes: int) -> Any | None:
    """llama_context_params of the context that reads long prompts beside streams; None where there is to be none."""
    params = context_params(model, options, threads)
    cells = min(options.reader_cells if options.reader_cells is not None else READER_CELLS, window_of(model, options))
    if options.reader_cells is None:
        cells = min(cells, free_bytes // READER_SHARE // max(cell_bytes(model, options), 1))
    if cells < READER_LEAST:
        return None
    params.n_ctx, params.n_seq_max, params.kv_unified, params.n_outputs_max = cells, 1, True, 1
    return params

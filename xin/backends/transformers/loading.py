"""A causal language model and its tokenizer from a folder of safetensors, or from a GGUF that transformers can read."""

from __future__ import annotations

import ctypes
import gc
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from xin.backends.base import Progress, Weights
from xin.backends.transformers.options import Options
from xin.backends.transformers.placement import device_of, dtype_of, quantization_config
from xin.backends.transformers.remote_code import check_remote_code
from xin.errors import LoadFailed, OutOfMemory

# What transformers raises for configurations, tokenizers and weights that it cannot make sense of.
_FOREIGN = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
_STATELESS = {"full_attention", "sliding_attention", "chunked_attention"}
_UNTRAINED = 2048  # the window of a model that does not tell


@dataclass(slots=True)
class Loaded:
    model: Any
    tokenizer: Any
    config: Any
    notes: list[str] = field(default_factory=list)

    @property
    def trained_context(self) -> int:
        names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
        found = next((value for name in names if (value := getattr(self.config, name, None))), _UNTRAINED)
        return int(found)

    @property
    def has_learned_positions(self) -> bool:
        """Positions past the trained ones do not exist then."""
        names = ("wpe", "embed_positions", "position_embeddings", "wpe.weight")
        modules = self.model.named_modules()
        return any(isinstance(m, torch.nn.Embedding) and name.rpartition(".")[2] in names for name, m in modules)

    @property
    def end_ids(self) -> list[int]:
        found: list[Any] = []
        for source in (self.config, self.model.generation_config):
            value = getattr(source, "eos_token_id", None)
            found += value if isinstance(value, list) else [value]
        return [i for i in found if isinstance(i, int)]


def load_model(weights: Weights, options: Options, progress: Progress) -> Loaded:
    """LoadFailed, OutOfMemory or BadRequest with the reason."""
    if not weights.paths:
        raise LoadFailed("no weights were given", "give the path of a folder with .safetensors files")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path = Path(weights.paths[0])
    folder = path if path.is_dir() else path.parent
    device = device_of(options)
    source: dict[str, Any] = {"local_files_only": True}
    if path.suffix == ".gguf":
        source["gguf_file"] = path.name
    else:
        source["trust_remote_code"] = check_remote_code(folder, options.trust_remote_code)
    name = weights.model_name or path.name
    progress(0.05, "reading the configuration")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **source)
    except _FOREIGN as exc:
        raise LoadFailed(f"transformers cannot read {name}: {_in_short(exc)}") from exc
    text_config = config.get_text_config(decoder=True)
    _check_kind(config, text_config, name)
    dtype = dtype_of(options, device, getattr(text_config, "dtype", None))
    quantized = quantization_config(weights.quantization, options, device, dtype) if path.suffix != ".gguf" else None
    progress(0.1, "loading")
    model = _weights(folder, source, name, {
        "config": config,
        "dtype": dtype,
        "device_map": options.device_map or {"": device},
        "attn_implementation": None if options.attention == "auto" else options.attention,
        "quantization_config": quantized,
    })  # fmt: skip
    if getattr(model, "_is_stateful", False):
        raise _stateful(name)
    _give_back()
    loaded = Loaded(model.eval(), tokenizer, text_config)
    if dtype != getattr(text_config, "dtype", dtype):
        loaded.notes.append(f"computes in {str(dtype).removeprefix('torch.')}")
    return loaded


def _weights(folder: Path, source: dict[str, Any], name: str, how: dict[str, Any]) -> Any:
    given = {key: value for key, value in how.items() if value is not None}
    if "gguf_file" not in source:
        given["use_safetensors"] = True
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, **source, **given
        )
    except (torch.OutOfMemoryError, MemoryError) as exc:
        raise OutOfMemory(f"{name} does not fit in memory", "choose 8-bit, 4-bit or a smaller model") from exc
    except _FOREIGN as exc:
        if "can't allocate memory" in str(exc) or "not enough memory" in str(exc):
            raise OutOfMemory(f"{name} does not fit in memory", "choose 8-bit, 4-bit or a smaller model") from exc
        raise LoadFailed(f"transformers cannot load {name}: {_in_short(exc)}") from exc
    lacking = sorted({*report.get("missing_keys", ()), *(key for key, *_ in report.get("mismatched_keys", ()))})
    if lacking:  # transformers would go on with random numbers in their place
        shown = ", ".join(lacking[:3])
        raise LoadFailed(f"the weights of {name} lack {len(lacking)} tensors: {shown}", "fetch the files again")
    return model


def _check_kind(config: Any, text_config: Any, name: str) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise LoadFailed(f"{name} is an encoder with a decoder; this engine runs decoders only")
    if not set(getattr(text_config, "layer_types", None) or ()) <= _STATELESS:
        raise _stateful(name)


def _stateful(name: str) -> LoadFailed:
    message = f"{name} has layers with a running state, which this engine cannot batch"
    return LoadFailed(message, "choose a GGUF of it: llama.cpp runs those")


def _give_back() -> None:
    """Copies that loading made: back to the system, so that the process holds what the model needs."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)


def _in_short(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"

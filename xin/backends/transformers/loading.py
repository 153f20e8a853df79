"""A model and its tokenizer from a folder of safetensors, or from a GGUF that transformers can read."""

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
from xin.backends.transformers.native_twins import Twin, tokenizer_of, twin_of
from xin.backends.transformers.options import Options
from xin.backends.transformers.out_of_memory import is_out_of_memory
from xin.backends.transformers.placement import device_of, dtype_of, quantization_config
from xin.backends.transformers.remote_code import check_remote_code
from xin.backends.transformers.sight import Eyes
from xin.errors import LoadFailed, OutOfMemory

# What transformers raises for configurations, tokenizers and weights that it cannot make sense of.
FOREIGN = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
_STATELESS = {"full_attention", "sliding_attention", "chunked_attention"}
_UNTRAINED = 2048  # the window of a model that does not tell


@dataclass(slots=True)
class Loaded:
    model: Any
    tokenizer: Any
    config: Any
    folder: Path
    notes: list[str] = field(default_factory=list)
    eyes: Eyes | None = None  # of a model that takes images

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
        for source in (self.config, getattr(self.model, "generation_config", None)):
            value = getattr(source, "eos_token_id", None)
            found += value if isinstance(value, list) else [value]
        return [i for i in found if isinstance(i, int)]


def load_causal(weights: Weights, options: Options, progress: Progress) -> Loaded:
    """A model that writes. LoadFailed, OutOfMemory or BadRequest with the reason."""
    opened = _open(weights, options, progress)
    _check_kind(opened.config, opened.text_config, opened.name)
    loaded = _load(opened, transformers.AutoModelForCausalLM, weights, options)
    if getattr(loaded.model, "_is_stateful", False):
        raise _stateful(opened.name)
    return loaded


def load_image_text(weights: Weights, options: Options, progress: Progress) -> Loaded:
    """A model that writes about images. Raises as load_causal."""
    opened = _open(weights, options, progress)
    _check_kind(opened.config, opened.text_config, opened.name)
    _check_images(opened.config, opened.text_config, opened.name)
    try:
        processor = transformers.AutoProcessor.from_pretrained(opened.folder, backend="pil", **opened.source)
    except FOREIGN as exc:
        raise LoadFailed(f"transformers cannot read the image processor of {opened.name}: {in_short(exc)}") from exc
    loaded = _load(opened, transformers.AutoModelForImageTextToText, weights, options)
    loaded.eyes = Eyes(processor, opened.config)
    return loaded


def load_speech(weights: Weights, options: Options, progress: Progress) -> Loaded:
    """A model that writes speech down. Raises as load_causal."""
    opened = _open(weights, options, progress)
    return _load(opened, transformers.AutoModelForSpeechSeq2Seq, weights, options, spare="proj_out.")


def load_encoder(weights: Weights, options: Options, progress: Progress, *, scores: bool) -> Loaded:
    """A model whose hidden states embed, or one that scores pairs of texts. Raises as load_causal."""
    opened = _open(weights, options, progress)
    if scores:
        return _load(opened, transformers.AutoModelForSequenceClassification, weights, options)
    return _load(opened, transformers.AutoModel, weights, options, spare="pooler.")


@dataclass(slots=True)
class _Opened:
    """What a folder tells before its weights are read; `source` goes to every from_pretrained.

    `twin`: it is loaded into another class than its own code's.
    """

    name: str
    folder: Path
    source: dict[str, Any]
    device: torch.device
    config: Any
    tokenizer: Any
    twin: Twin | None = None

    @property
    def text_config(self) -> Any:
        return self.config.get_text_config(decoder=True)

    @property
    def is_gguf(self) -> bool:
        return "gguf_file" in self.source


def _open(weights: Weights, options: Options, progress: Progress) -> _Opened:
    if not weights.paths:
        raise LoadFailed("no weights were given", "give the path of a folder with .safetensors files")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path = Path(weights.paths[0])
    folder = path if path.is_dir() else path.parent
    source: dict[str, Any] = {"local_files_only": True}
    twin = None
    if path.suffix == ".gguf":
        source["gguf_file"] = path.name
    elif (twin := twin_of(folder)) is None:
        source["trust_remote_code"] = check_remote_code(folder, options.trust_remote_code)
    name = weights.model_name or path.name
    device = device_of(options)
    progress(0.05, "reading the configuration")
    try:
        if twin is not None:
            config, tokenizer = transformers.AutoConfig.for_model(twin.model_type, **twin.config), tokenizer_of(folder)
        else:
            config = transformers.AutoConfig.from_pretrained(folder, **source)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **source)
    except FOREIGN as exc:
        raise LoadFailed(f"transformers cannot read {name}: {in_short(exc)}") from exc
    progress(0.1, "loading")
    return _Opened(name, folder, source, device, config, tokenizer, twin)


def _load(opened: _Opened, auto: Any, weights: Weights, options: Options, spare: str | None = None) -> Loaded:
    """`spare`: tensors whose names begin so may be missing, since nothing uses them."""
    text_config = opened.text_config
    dtype = dtype_of(options, opened.device, getattr(text_config, "dtype", None))
    quantized = None
    if not opened.is_gguf and getattr(opened.config, "quantization_config", None) is None:  # else it is in the file
        quantized = quantization_config(weights.quantization, options, opened.device, dtype)
    how: dict[str, Any] = {
        "config": opened.config,
        "dtype": dtype,
        "device_map": options.device_map or {"": opened.device},
        "attn_implementation": None if options.attention == "auto" else options.attention,
        "quantization_config": quantized,
        "use_safetensors": None if opened.is_gguf else True,
    }
    model, report = _weights(opened, auto, {key: value for key, value in how.items() if value is not None})
    missing = {*report.get("missing_keys", ()), *(key for key, *_ in report.get("mismatched_keys", ()))}
    lacking = sorted(key for key in missing if spare is None or not key.startswith(spare))
    if lacking:  # transformers would go on with random numbers in their place
        shown = ", ".join(lacking[:3])
        raise LoadFailed(f"the weights of {opened.name} lack {len(lacking)} tensors: {shown}", "fetch the files again")
    _give_back()
    loaded = Loaded(model.eval(), opened.tokenizer, text_config, opened.folder)
    if dtype != getattr(text_config, "dtype", dtype):
        loaded.notes.append(f"computes in {str(dtype).removeprefix('torch.')}")
    return loaded


def _weights(opened: _Opened, auto: Any, how: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    no_room = OutOfMemory(f"{opened.name} does not fit in memory", "choose 8-bit, 4-bit or a smaller model")
    try:
        if opened.twin is not None:
            cls, how["state_dict"] = auto._model_mapping[type(opened.config)], opened.twin.tensors(opened.folder)
            model, report = cls.from_pretrained(None, output_loading_info=True, **how)
        else:
            model, report = auto.from_pretrained(opened.folder, output_loading_info=True, **opened.source, **how)
    except (*FOREIGN, MemoryError) as exc:
        if is_out_of_memory(exc):
            raise no_room from exc
        raise LoadFailed(f"transformers cannot load {opened.name}: {in_short(exc)}") from exc
    return model, report


def _check_kind(config: Any, text_config: Any, name: str) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise LoadFailed(f"{name} is an encoder with a decoder; this engine runs decoders only")
    if not set(getattr(text_config, "layer_types", None) or ()) <= _STATELESS:
        raise _stateful(name)


def _check_images(config: Any, text_config: Any, name: str) -> None:
    """Not every way in which models take images can be batched here."""
    positions = getattr(text_config, "rope_parameters", None) or getattr(text_config, "rope_scaling", None) or {}
    three = isinstance(positions, dict) and "mrope_section" in positions
    if three or not (hasattr(config, "image_token_id") or hasattr(config, "image_token_index")):
        how = "positions in three dimensions" if three else "no place among its tokens"
        raise LoadFailed(
            f"{name} gives images {how}, which this engine cannot batch",
            "choose a GGUF of it with its mmproj: llama.cpp runs those",
        )


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


def in_short(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"

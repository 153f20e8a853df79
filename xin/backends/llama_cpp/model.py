"""Loading a GGUF: progress, GPU layers, metadata, LoRA, and causes in words."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp as lib

from xin.backends.base import Progress
from xin.backends.llama_cpp import gpu, library
from xin.backends.llama_cpp.options import Options
from xin.backends.llama_cpp.vocabulary import Vocabulary
from xin.errors import BadRequest, LoadFailed, OutOfMemory
from xin.worker.frames import Share

PROGRESS_INTERVAL_S = 0.05
_NO_MEMORY = ("failed to allocate", "out of memory", "unable to allocate", "cannot allocate", "mmap failed")


class Model:
    """Owns the llama_model and its adapters. `shares`: of a model that is divided over machines."""

    def __init__(self, path: str, options: Options, progress: Progress, shares: Sequence[Share] = ()) -> None:
        library.start()
        check_file(path)
        params = lib.llama_model_default_params()
        params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if options.mmap else lib.LLAMA_LOAD_MODE_NONE
        self.notes: list[str] = []
        if shares:
            self.gpu_layers = _divide(params, shares)
        else:
            self.gpu_layers, self.notes = gpu.layers(path, options)
        params.n_gpu_layers = self.gpu_layers
        callback = _progress_callback(progress)
        params.progress_callback = callback
        self.pointer = lib.llama_model_load_from_file(path.encode(), params)
        if not self.pointer:
            raise _load_error(path)
        self.vocabulary = Vocabulary(self.pointer)
        self._adapters = [_lora(self.pointer, item) for item in options.lora]

    @classmethod
    def dry(cls, path: str, options: Options) -> Model:
        """Of its header alone, its memory only counted; without vocabulary and adapters."""
        model = cls.__new__(cls)
        library.start()
        check_file(path)
        params = lib.llama_model_default_params()
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        params.no_alloc = True
        model.gpu_layers, model.notes = gpu.layers(path, options)
        params.n_gpu_layers = model.gpu_layers
        model.pointer = lib.llama_model_load_from_file(path.encode(), params)
        if not model.pointer:
            raise _load_error(path)
        return model

    def meta(self, key: str) -> str | None:
        """One metadata value as text; None when the file lacks it."""
        size = 1 << 10
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = lib.llama_model_meta_val_str(self.pointer, key.encode(), buffer, size)
            if length < 0:
                return None
            if length < size:
                return buffer.value.decode("utf-8", "replace")
            size = length + 1

    def number(self, key: str) -> int | None:
        """An architecture's number: `context_length` is read from `llama.context_length`."""
        value = self.meta(f"{self.meta('general.architecture')}.{key}")
        return int(value) if value is not None and value.isdigit() else None

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self.pointer, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    @property
    def size_bytes(self) -> int:
        return int(lib.llama_model_size(self.pointer))

    @property
    def trained_context(self) -> int:
        """0 = the file does not tell."""
        return max(0, int(lib.llama_model_n_ctx_train(self.pointer)))

    @property
    def can_rewind(self) -> bool:
        """Can the end of a sequence be cut off? Not where the state is recurrent."""
        return not (lib.llama_model_is_recurrent(self.pointer) or lib.llama_model_is_hybrid(self.pointer))

    @property
    def slides(self) -> bool:
        """Has it layers that see only the last tokens?"""
        return int(lib.llama_model_n_swa(self.pointer)) > 0

    def kv_cell_bytes(self, key_bits: float, value_bits: float) -> int:
        """Bytes of one token's keys and values over all layers; an upper bound for sliding windows."""
        layers = lib.llama_model_n_layer(self.pointer)
        kv_heads = lib.llama_model_n_head_kv(self.pointer)
        heads = max(1, lib.llama_model_n_head(self.pointer))
        width = lib.llama_model_n_embd(self.pointer) // heads
        keys = self.number("attention.key_length") or width
        values = self.number("attention.value_length") or width
        return int(layers * kv_heads * (keys * key_bits + values * value_bits) / 8)

    def attach_adapters(self, context: Any) -> None:
        if not self._adapters:
            return
        count = len(self._adapters)
        pointers = (lib.llama_adapter_lora_p_ctypes * count)(*(pointer for pointer, _ in self._adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in self._adapters))
        if lib.llama_set_adapters_lora(context, pointers, count, scales) != 0:
            raise LoadFailed("the LoRA adapters do not fit this model", "use adapters made for it")

    def close(self) -> None:
        if self.pointer:
            lib.llama_model_free(self.pointer)
            self.pointer = None


def check_file(path: str) -> None:
    """A missing file, or one that is no GGUF, is told before llama.cpp sees it."""
    file = Path(path)
    if not file.is_file():
        raise LoadFailed(f"{path} does not exist", "give the path of a .gguf file")
    with file.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise LoadFailed(f"{path} is not a GGUF file (it begins with {magic!r})", "download or convert it again")


def _divide(params: Any, shares: Sequence[Share]) -> int:
    """Joins the helpers; the number of layers that leave this process's RAM."""
    from xin.backends.llama_cpp import rpc

    local = [device.free for device in gpu.devices()]
    joined = rpc.join([share.endpoint for share in shares[1:]])
    layers, params.tensor_split = rpc.split(shares, joined, local)
    return layers


def _progress_callback(progress: Progress) -> Any:
    last = 0.0

    @lib.llama_progress_callback  # type: ignore[untyped-decorator]
    def report(fraction: float, user_data: Any) -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last > PROGRESS_INTERVAL_S or fraction >= 1:
            last = now
            progress(min(fraction, 1.0) * 0.9, "loading")
        return True

    return report


def _load_error(path: str) -> LoadFailed | OutOfMemory:
    lines = library.last_errors()
    cause = next((line for line in lines if "error loading model" in line or "failed to load" in line.lower()), "")
    cause = cause or (lines[-1] if lines else "llama.cpp gave no reason")
    text = cause.split("error loading model: ")[-1].strip()
    if any(word in " ".join(lines).lower() for word in _NO_MEMORY):
        return OutOfMemory(f"{Path(path).name} does not fit in memory: {text}", "choose a smaller quantization")
    if "not within the file bounds" in text or "corrupted or incomplete" in text or "failed to read" in text:
        return LoadFailed(f"{Path(path).name} is truncated or damaged: {text}", "download it again")
    return LoadFailed(f"llama.cpp could not load {Path(path).name}: {text}", "check that its architecture is supported")


def _lora(model: Any, item: str) -> tuple[Any, float]:
    path, _, scale = item.partition("=")
    try:
        factor = float(scale) if scale else 1.0
    except ValueError as exc:
        raise BadRequest(f"lora: {scale!r} is not a number", "write PATH or PATH=SCALE", param="lora") from exc
    check_file(path)
    pointer = lib.llama_adapter_lora_init(model, path.encode())
    if not pointer:
        raise LoadFailed(f"{path} is not a LoRA adapter for this model", "make one with convert_lora_to_gguf")
    return pointer, factor

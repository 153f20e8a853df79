"""How many layers go to GPU memory: all that fit, unless the user says."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import llama_cpp as lib

from xin.backends.llama_cpp.options import Options
from xin.errors import BadRequest

ALL = -1
_GPU_TYPES = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU
_RESERVE = 0.10  # of the free memory, for compute buffers and the cache
_MODE = 2  # any


class GpuDevice:
    """A ggml device as the library tells it; memory in bytes."""

    def __init__(self, name: str, free: int, total: int) -> None:
        self.name = name
        self.free = free
        self.total = total


def devices() -> list[GpuDevice]:
    """The GPUs that this build of llama.cpp can use; [] for a CPU build."""
    if not lib.llama_supports_gpu_offload():
        return []
    return _enumerate(_ggml())


def layers(path: str, options: Options) -> tuple[int, list[str]]:
    """(n_gpu_layers for the load, notes for the user). Asking for layers without a GPU is refused, never ignored."""
    found = devices()
    asked = options.n_gpu_layers
    if not found:
        if asked:
            raise BadRequest(
                "n_gpu_layers: this build of llama.cpp has no GPU backend",
                "xin engines install llama.cpp --cuda (or --metal, --rocm, --vulkan), or leave it out",
                param="n_gpu_layers",
            )
        return 0, []
    if asked is not None:
        return (10_000 if asked == ALL else asked), []
    size = Path(path).stat().st_size
    free = int(sum(device.free for device in found) * (1 - _RESERVE))
    if size <= free:
        return 10_000, [f"all layers on {', '.join(device.name for device in found)}"]
    count = _layer_count(path)
    fit = max(0, int(free / (size / (count + 1))) - 1)
    return fit, [f"{fit} of {count} layers fit in GPU memory: {size} bytes of weights, {free} bytes free"]


def _layer_count(path: str) -> int:
    params = lib.llama_model_default_params()
    params.no_alloc = True
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        return 32
    count = int(lib.llama_model_n_layer(model))
    lib.llama_model_free(model)
    return count


@lru_cache(maxsize=1)
def _ggml() -> Any:
    library = lib.llama_cpp._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_name.restype = ctypes.c_char_p
    library.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_type.restype = ctypes.c_int
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_memory.restype = None
    library.ggml_backend_dev_memory.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    return library


def _enumerate(library: Any) -> list[GpuDevice]:
    found = []
    for index in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(index)
        if library.ggml_backend_dev_type(device) in _GPU_TYPES:
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            found.append(GpuDevice(library.ggml_backend_dev_name(device).decode(), free.value, total.value))
    return found

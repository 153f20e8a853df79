"""ggml's RPC through ctypes: devices of other processes for a model, and what this process has to offer to others.

The recipe is that of llama.cpp's common/arg.cpp and tools/rpc; llama-cpp-python itself has no way to it.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llama_cpp as lib

from xin.errors import EngineMissing, LoadFailed
from xin.worker.frames import Share

NAME = b"RPC"
REACH_SECONDS = 10.0
_CPU, _GPU, _IGPU = 0, 1, 2  # GGML_BACKEND_DEVICE_TYPE_…
_BUILD = "xin engines install llama.cpp --build"


@dataclass(slots=True)
class RpcDevice:
    """A ggml device; memory in bytes as ggml tells it (of a CPU: of the whole machine)."""

    pointer: int
    name: str
    kind: int
    free: int

    @property
    def is_cpu(self) -> bool:
        return self.kind == _CPU


def join(endpoints: Sequence[str]) -> list[list[RpcDevice]]:
    """The devices of each server, which from now on are this process's own. There is no way back.

    Raises EngineMissing for a build without RPC, LoadFailed for a server that does not answer.
    """
    ggml, registry = _ggml(), _registry()
    add = _function(registry, b"ggml_backend_rpc_add_server", ctypes.c_void_p, ctypes.c_char_p)
    joined = []
    for endpoint in endpoints:
        _reach(endpoint)
        server = add(endpoint.encode())
        if not server:
            raise LoadFailed(f"the RPC server behind {endpoint} does not answer", "launch it again")
        ggml.ggml_backend_register(server)
        count = ggml.ggml_backend_reg_dev_count(server)
        joined.append([_device(ggml.ggml_backend_reg_dev_get(server, index)) for index in range(count)])
    return joined


def _reach(endpoint: str) -> None:
    """Where nobody listens ggml ends the process."""
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACH_SECONDS).close()
    except OSError as exc:
        raise LoadFailed(f"the RPC server behind {endpoint} does not answer: {exc}", "launch it again") from exc


def split(shares: Sequence[Share], joined: Sequence[Sequence[RpcDevice]], local: Sequence[int]) -> tuple[int, Any]:
    """(n_gpu_layers, tensor_split) by which llama.cpp gives each holder its layers.

    The first share is this process's own; its RAM's layers come before all others, its accelerators' (`local`: their
    free bytes) after. The output counts as one layer more of the last holder.
    """
    own, helpers = shares[0], shares[1:]
    holders = [(one.layers, [device.free for device in found]) for one, found in zip(helpers, joined, strict=True)]
    if local:
        holders.append((own.layers, [*local]))
    holders[-1] = (holders[-1][0] + 1, holders[-1][1])
    parts = [layers * part for layers, frees in holders for part in _parts(frees)]
    if len(parts) > lib.LLAMA_MAX_DEVICES:
        raise LoadFailed(f"{len(parts)} devices are more than llama.cpp takes", f"at most {lib.LLAMA_MAX_DEVICES}")
    padded = [*parts, *[0.0] * (lib.LLAMA_MAX_DEVICES - len(parts))]
    return sum(layers for layers, _ in holders), (ctypes.c_float * len(padded))(*padded)


def offered() -> list[RpcDevice]:
    """What a server of this process serves: its accelerators, else its CPU."""
    ggml = _ggml()
    found = [_device(ggml.ggml_backend_dev_get(index)) for index in range(ggml.ggml_backend_dev_count())]
    return [one for one in found if one.kind in (_GPU, _IGPU)] or [one for one in found if one.is_cpu]


def serve(endpoint: str, threads: int, devices: Sequence[RpcDevice]) -> None:
    """Serve one client after another, for ever; returns only when it cannot listen. No assertion of it is caught."""
    sizes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
    start = _function(_registry(), b"ggml_backend_rpc_start_server", None, ctypes.c_char_p, ctypes.c_char_p, *sizes)
    pointers = (ctypes.c_void_p * len(devices))(*(device.pointer for device in devices))
    start(endpoint.encode(), None, threads, len(devices), pointers)


def _parts(frees: Sequence[int]) -> list[float]:
    """Of a whole, by free memory; even where none is told."""
    total = sum(frees)
    return [free / total for free in frees] if total else [1 / len(frees)] * len(frees)


def _registry() -> int:
    found: int | None = _ggml().ggml_backend_reg_by_name(NAME)
    if not found or not lib.llama_supports_rpc():
        raise EngineMissing("this build of llama.cpp has no RPC", _BUILD)
    return found


def _function(registry: int, name: bytes, result: Any, *arguments: Any) -> Any:
    address = _ggml().ggml_backend_reg_get_proc_address(registry, name)
    if not address:
        raise EngineMissing(f"this build of llama.cpp has no {name.decode()}", _BUILD)
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def _device(pointer: int) -> RpcDevice:
    ggml = _ggml()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(pointer, ctypes.byref(free), ctypes.byref(total))
    name = ggml.ggml_backend_dev_name(pointer).decode()
    return RpcDevice(pointer, name, int(ggml.ggml_backend_dev_type(pointer)), free.value)


@lru_cache(maxsize=1)
def _ggml() -> Any:
    library = lib.llama_cpp._lib
    pointer, size, word = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    bytes_ = ctypes.POINTER(ctypes.c_size_t)
    for name, result, arguments in (
        ("ggml_backend_reg_by_name", pointer, [word]),
        ("ggml_backend_reg_get_proc_address", pointer, [pointer, word]),
        ("ggml_backend_reg_dev_count", size, [pointer]),
        ("ggml_backend_reg_dev_get", pointer, [pointer, size]),
        ("ggml_backend_register", None, [pointer]),
        ("ggml_backend_dev_count", size, []),
        ("ggml_backend_dev_get", pointer, [size]),
        ("ggml_backend_dev_name", word, [pointer]),
        ("ggml_backend_dev_type", ctypes.c_int, [pointer]),
        ("ggml_backend_dev_memory", None, [pointer, bytes_, bytes_]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library

"""llama_get_memory_breakdown: what each kind of memory holds of a context, to the byte.

It is exported, but C++: a std::map by value. Its layout is read here as GNU's standard library has it, and only where
the symbol is there; who calls it compares the answer with the log.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from typing import Any

import llama_cpp as lib

from xin.backends.llama_cpp.dry_run_words import Place

_SYMBOL = "_Z26llama_get_memory_breakdownPK13llama_context"
_MOST_PLACES = 64


class _Node(ctypes.Structure):
    """A node of the map's tree: buffer type, and bytes of model, context and compute."""


_Node._fields_ = [
    ("color", ctypes.c_size_t),
    ("parent", ctypes.POINTER(_Node)),
    ("left", ctypes.POINTER(_Node)),
    ("right", ctypes.POINTER(_Node)),
    ("buffer_type", ctypes.c_void_p),
    ("model", ctypes.c_size_t),
    ("context", ctypes.c_size_t),
    ("compute", ctypes.c_size_t),
]


class _Map(ctypes.Structure):
    _fields_ = [
        ("compare", ctypes.c_size_t),
        ("color", ctypes.c_size_t),
        ("root", ctypes.POINTER(_Node)),
        ("leftmost", ctypes.c_void_p),
        ("rightmost", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    ]


def breakdown(context: Any) -> list[Place] | None:
    """None where this build or platform does not tell. Leaks a few hundred bytes."""
    library = lib.llama_cpp._lib
    if sys.platform != "linux" or not hasattr(library, _SYMBOL):
        return None
    call = getattr(library, _SYMBOL)
    call.restype, call.argtypes = _Map, [ctypes.c_void_p]
    found = call(ctypes.cast(context, ctypes.c_void_p))
    if not 0 < found.count <= _MOST_PLACES:
        return None
    nodes = list(_walk(found.root, _MOST_PLACES))
    return [_place(library, node) for node in nodes] if len(nodes) == found.count else None


def _walk(pointer: Any, depth: int) -> Iterator[Any]:
    if pointer and depth:
        yield from _walk(pointer.contents.left, depth - 1)
        yield pointer.contents
        yield from _walk(pointer.contents.right, depth - 1)


def _place(library: Any, node: Any) -> Place:
    name, device = library.ggml_backend_buft_name, library.ggml_backend_buft_get_device
    is_host, device_name = library.ggml_backend_buft_is_host, library.ggml_backend_dev_name
    for function, result in (
        (name, ctypes.c_char_p),
        (device, ctypes.c_void_p),
        (is_host, ctypes.c_bool),
        (device_name, ctypes.c_char_p),
    ):
        function.restype, function.argtypes = result, [ctypes.c_void_p]
    owner = device(node.buffer_type)
    return Place(
        name=name(node.buffer_type).decode(),
        device=device_name(owner).decode() if owner else "",
        is_host=is_host(node.buffer_type),
        model=node.model,
        context=node.context,
        compute=node.compute,
    )

"""What a GGUF would take, by llama.cpp's own count: `python -m xin.backends.llama_cpp.dry_run`.

A Question a line on stdin, a ModelSize a line on stdout. Nothing is allocated but the header and recurrent states, so
a file of which only the beginning is there will do. The process limits its own memory, CPU time and files: a header
may be hostile, and llama.cpp then ends the process or throws.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from xin.backends.llama_cpp.dry_run_words import Cache, ContextSize, ModelSize, Question
from xin.backends.llama_cpp.projector_file import projector_of

MEMORY_BYTES = 8 * 2**30  # of address space: what Python and its libraries reserve counts too
CPU_SECONDS = 60
_CACHE = re.compile(r"size =\s*([\d.]+) MiB \(\s*(\d+) cells,\s*(\d+) layers,.*?([KR]) \(")
_COMPUTE = re.compile(r"compute buffer size =\s*([\d.]+) MiB")
_LAYER = re.compile(rb"blk\.(\d+)\.")
_MOST_LAYERS = 4096
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MOST_PARTS = 1000
_MIB = 2**20
_ROUNDED = _MIB // 100


def main() -> None:
    """Answer until stdin ends."""
    import llama_cpp  # noqa: F401 - what it reserves is not the file's doing: it comes before the limits

    from xin.backends.llama_cpp import gpu, library

    library.start()
    limit(on_gpu=bool(gpu.devices()))
    for line in sys.stdin.buffer:
        question = msgspec.json.decode(line, type=Question)
        sys.stdout.buffer.write(msgspec.json.encode(answer(question)) + b"\n")
        sys.stdout.buffer.flush()


def limit(*, on_gpu: bool) -> None:
    """GPU drivers reserve address space without end; there only what is written to counts."""
    if sys.platform == "win32":
        return
    import resource

    memory = resource.RLIMIT_DATA if on_gpu else resource.RLIMIT_AS
    for what, most in ((memory, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_FSIZE, 0)):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (OSError, ValueError):  # macOS refuses some
            print(f"limit {what} cannot be set", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer(question: Question) -> ModelSize:
    """Errors of the file or of its options are part of the answer."""
    from xin.backends.llama_cpp.context_params import cell_bytes
    from xin.backends.llama_cpp.model import Model
    from xin.backends.llama_cpp.options import Options
    from xin.backends.llama_cpp.pool import windows
    from xin.errors import XinError

    tried = [msgspec.convert(options, Options, strict=False) for options in question.options]
    try:
        model = Model.dry(question.path, tried[0] if tried else Options())
    except XinError as exc:
        return ModelSize(error=exc.message, hint=exc.hint, code=exc.code, param=exc.param)
    try:
        size = _of_model(model, question.path)
        size.contexts = [_of_context(model, question.path, options, size) for options in tried]
        if question.ladder:
            steps = windows(size.trained_context, cell_bytes(model, tried[0]), tried[0].n_parallel)
            size.ladder = [
                _of_context(model, question.path, replace(tried[0], context_length=step), size) for step in steps
            ]
        size.exact = all(context.places for context in size.contexts if not context.error)
        return size
    finally:
        model.close()


def _of_model(model: Any, path: str) -> ModelSize:
    import llama_cpp as lib

    decodes = lib.llama_model_has_decoder(model.pointer) and not lib.llama_model_has_encoder(model.pointer)
    return ModelSize(
        architecture=model.meta("general.architecture") or "",
        description=model.description,
        weights_bytes=model.size_bytes,
        layers=int(lib.llama_model_n_layer(model.pointer)),
        trained_context=model.trained_context,
        parameters=int(lib.llama_model_n_params(model.pointer)),
        layer_bytes=layer_bytes(parts(path)),
        gpu_layers=model.gpu_layers,
        slides=model.slides,
        embeds=not decodes or (model.number("pooling_type") or 0) > 0,
    )


def _of_context(model: Any, path: str, options: Any, size: ModelSize) -> ContextSize:
    import llama_cpp as lib

    from xin.backends.llama_cpp.context_params import context_params, window_of
    from xin.backends.llama_cpp.embedder import embedding_params

    window = window_of(model, options)
    params = context_params(model, options, threads=1)
    found = _measure(model.pointer, params)
    found.window = window
    vocabulary = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model.pointer)))
    found.output_bytes = int(params.n_outputs_max) * vocabulary * 4
    if size.embeds and not found.error:
        second = _measure(model.pointer, embedding_params(model, window, threads=1))
        found.embedder_bytes = second.kv_bytes + second.compute_bytes
        found.error = second.error
    if options.draft_model is not None and not found.error:
        found.draft_bytes, found.error = _of_draft(model, options, found)
    projector = projector_of(path, options.mmproj)
    if projector is not None and not found.error:
        try:
            found.projector_bytes = Path(projector).stat().st_size
        except OSError as exc:
            found.error = f"mmproj: {projector}: {exc.strerror}"
    return found


def _of_draft(model: Any, options: Any, found: ContextSize) -> tuple[int, str | None]:
    """The bytes of the draft model beside a context that was `found`, or why there can be none."""
    from xin.backends.llama_cpp.context_params import context_params
    from xin.backends.llama_cpp.draft_model import draft_options
    from xin.backends.llama_cpp.model import Model
    from xin.errors import XinError

    small = draft_options(options, window=found.window, cells=found.cells, on_gpu=model.gpu_layers != 0)
    try:
        draft = Model.dry(options.draft_model, small)
    except XinError as exc:
        return 0, f"draft_model: {exc.message}"
    try:
        size = _measure(draft.pointer, context_params(draft, small, threads=1))
        total = draft.size_bytes + size.kv_bytes + size.compute_bytes
        return total, f"draft_model: {size.error}" if size.error else None
    finally:
        draft.close()


def _measure(model: Any, params: Any) -> ContextSize:
    import llama_cpp as lib

    from xin.backends.llama_cpp import library
    from xin.backends.llama_cpp.breakdown import breakdown

    lines: list[str] = []
    library.listeners[:] = [lambda level, line: lines.append(line)]
    pointer = lib.llama_init_from_model(model, params)
    library.listeners.clear()
    if not pointer:
        return ContextSize(error=_cause(lines))
    try:
        found = _of_log(lines)
        found.cells = int(lib.llama_n_ctx(pointer))
        found.places = breakdown(pointer) or []
        kv_bytes = sum(place.context for place in found.places)
        compute_bytes = sum(place.compute for place in found.places)
        if abs(kv_bytes - found.kv_bytes) > _ROUNDED * max(1, len(found.caches)):
            found.places = []  # not what the log says: it was read wrongly
        if found.places:
            found.kv_bytes, found.compute_bytes = kv_bytes, compute_bytes
        return found
    finally:
        lib.llama_free(pointer)


def _of_log(lines: list[str]) -> ContextSize:
    found = ContextSize()
    for line in lines:
        if cache := _CACHE.search(line):
            size, cells, layers, kind = float(cache[1]), int(cache[2]), int(cache[3]), cache[4]
            name = "attention" if kind == "K" else "recurrent"
            found.caches.append(Cache(kind=name, cells=cells, layers=layers, size_bytes=round(size * _MIB)))
        elif compute := _COMPUTE.search(line):
            found.compute_bytes += round(float(compute[1]) * _MIB)
    found.kv_bytes = sum(cache.size_bytes for cache in found.caches)
    return found


def _cause(lines: list[str]) -> str:
    told = [line.rpartition("failed to initialize the context: ")[2] for line in lines if "fail" in line.lower()]
    return (told or lines[-1:] or ["llama.cpp gave no reason"])[0][:300]


def parts(path: str) -> list[str]:
    """All files of a split model, by its first one."""
    found = _PART.search(path)
    if found is None or int(found[2]) > _MOST_PARTS:
        return [path]
    return [f"{path[: found.start()]}-{n:05d}-of-{found[2]}.gguf" for n in range(1, int(found[2]) + 1)]


def layer_bytes(paths: list[str]) -> list[int]:
    """Bytes of the tensors of each layer, by their names; [] when a header cannot be read by itself."""
    sizes: dict[int, int] = {}
    for path in paths:
        for name, size in _tensors(path):
            layer = _LAYER.match(name)
            if layer and int(layer[1]) < _MOST_LAYERS:
                sizes[int(layer[1])] = sizes.get(int(layer[1]), 0) + size
    return [sizes.get(number, 0) for number in range(max(sizes, default=-1) + 1)]


def _tensors(path: str) -> list[tuple[bytes, int]]:
    """Names and bytes."""
    import llama_cpp as lib

    class Init(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

    library = lib.llama_cpp._lib
    for name, result, arguments in (
        ("gguf_init_from_file", ctypes.c_void_p, [ctypes.c_char_p, Init]),
        ("gguf_get_n_tensors", ctypes.c_int64, [ctypes.c_void_p]),
        ("gguf_get_tensor_name", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_size", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_free", None, [ctypes.c_void_p]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    header = library.gguf_init_from_file(os.fsencode(path), Init(True, None))
    if not header:
        return []
    numbers = range(library.gguf_get_n_tensors(header))
    found = [(library.gguf_get_tensor_name(header, n), library.gguf_get_tensor_size(header, n)) for n in numbers]
    library.gguf_free(header)
    return found


if __name__ == "__main__":
    main()

"""What a dry run is asked and answers: one JSON object a line, on its stdin and stdout. Sizes in bytes."""

from __future__ import annotations

from typing import Any

import msgspec


class Question(msgspec.Struct, kw_only=True):
    """A GGUF, or the beginning of one in a file of its full size, and launch options to try it with.

    `ladder`: also the first of them with other windows, up to what the model was trained with; see pool.windows.
    """

    path: str
    options: list[dict[str, Any]]
    ladder: bool = False


class Place(msgspec.Struct, kw_only=True):
    """What one kind of memory would hold. `device` is llama.cpp's name of it; `is_host`: it is RAM."""

    name: str
    device: str = ""
    is_host: bool = True
    model: int = 0
    context: int = 0
    compute: int = 0


class Cache(msgspec.Struct, kw_only=True):
    """One cache of a context. `kind`: attention or recurrent. Its size is rounded to 10 KiB."""

    kind: str
    cells: int
    layers: int
    size_bytes: int


class ContextSize(msgspec.Struct, kw_only=True):
    """One context. `error` when there is none. `embedder_bytes`: of the second context, that embeddings are made in.
    `draft_bytes`: of the draft model, all of it. `projector_bytes`: of the projector's file.

    `kv_bytes` is all its caches, recurrent states too; `cells` how many tokens they hold; `output_bytes` the most that
    its logits take.
    """

    window: int = 0
    cells: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0
    embedder_bytes: int = 0
    draft_bytes: int = 0
    projector_bytes: int = 0
    caches: list[Cache] = []
    places: list[Place] = []
    error: str | None = None


class ModelSize(msgspec.Struct, kw_only=True):
    """The answer to a Question; `error` when llama.cpp does not take the file, and then nothing else.

    `layer_bytes`: of each layer's tensors. `weights_bytes`: of all. `exact`: bytes as llama.cpp counts them; else its
    log was read, which rounds caches and compute buffers to 10 KiB.
    """

    architecture: str = ""
    description: str = ""
    weights_bytes: int = 0
    layers: int = 0
    trained_context: int = 0
    parameters: int = 0
    layer_bytes: list[int] = []
    gpu_layers: int = 0
    slides: bool = False  # some layers see only the last tokens
    embeds: bool = False
    exact: bool = True
    contexts: list[ContextSize] = []
    ladder: list[ContextSize] = []
    error: str | None = None
    hint: str | None = None
    code: str | None = None
    param: str | None = None

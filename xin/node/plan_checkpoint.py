"""What a model of safetensors is made of, by its headers and its config.json: on disk, or on a hub by ranges."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from xin.catalog.safetensors import LENGTH_BYTES, Tensor, header_bytes, tensors
from xin.catalog.spec import Shape
from xin.node import safetensors_folder

CONFIG = "config.json"
MOST_CONFIG_BYTES = 1 << 20
FIRST_BYTES = 256 << 10  # of a file on a hub: most headers are shorter
MOST_SHARDS = 200
AT_ONCE = 4
_ENDING = ".safetensors"
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# The names that architectures have for one thing.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "num_heads")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
_FEED_FORWARD = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")


class Ranges(Protocol):
    """One repository at one commit. Raises XinError."""

    async def read_range(self, repo: str, commit: str, path: str, start: int, length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`shape`: None where its configuration does not tell. `stored_bytes`: of a weight, as its configuration says."""

    tensors: list[Tensor]
    shape: Shape | None = None
    trained_context: int = 0
    stored_bytes: int = 4


def of_folder(folder: Path) -> Checkpoint | None:
    """None when there is nothing to read, or it is damaged: a launch will say how. Blocking."""
    files = safetensors_folder.shards(folder)[:MOST_SHARDS]
    try:
        found = [tensor for file in files for tensor in tensors(_header(file))]
        config = (folder / CONFIG).read_bytes()[:MOST_CONFIG_BYTES]
    except (OSError, ValueError):
        return None
    return made(found, config) if found else None


async def of_repo(hub: Ranges, repo: str, commit: str, paths: Sequence[str]) -> Checkpoint | None:
    """`paths`: of the repository. None as above; raises XinError when the hub does not give them."""
    files = [path for path in paths if path.endswith(_ENDING) and "/" not in path]
    if not files or len(files) > MOST_SHARDS or CONFIG not in paths:
        return None
    turn = asyncio.Semaphore(AT_ONCE)

    async def read(path: str) -> list[Tensor]:
        async with turn:
            head = await hub.read_range(repo, commit, path, 0, FIRST_BYTES)
            end = LENGTH_BYTES + header_bytes(head)
            if len(head) < end:
                head += await hub.read_range(repo, commit, path, len(head), end - len(head))
        return await asyncio.to_thread(tensors, head[LENGTH_BYTES:end])

    try:
        found = [tensor for part in await asyncio.gather(*map(read, files)) for tensor in part]
    except ValueError:
        return None
    return made(found, await hub.read_range(repo, commit, CONFIG, 0, MOST_CONFIG_BYTES))


def made(found: list[Tensor], config: bytes) -> Checkpoint:
    """A configuration that cannot be read tells nothing."""
    try:
        told: Any = msgspec.json.decode(config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    text = next((told[key] for key in ("text_config", "llm_config") if isinstance(told.get(key), dict)), told)
    dtype = next((str(source[key]) for source in (text, told) for key in ("dtype", "torch_dtype") if key in source), "")
    return Checkpoint(
        found,
        _shape(text, found),
        trained_context=_number(text, _POSITIONS),
        stored_bytes=_BYTES.get(dtype.removeprefix("torch."), 4),  # transformers' own default
    )


def _shape(text: dict[str, Any], found: Sequence[Tensor]) -> Shape | None:
    layers, hidden, heads = (_number(text, names) for names in (_LAYERS, _HIDDEN, _HEADS))
    if not (layers and hidden and heads):
        return None
    shared = 1 if text.get("multi_query") is True else heads
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_number(text, ("num_key_value_heads", "num_kv_heads")) or shared,
        ffn=_number(text, _FEED_FORWARD) or 4 * hidden,
        vocabulary=_number(text, ("vocab_size",)) or 1,
        head_dim=_number(text, ("head_dim",)),
        experts_used=_number(text, ("num_experts_per_tok",)),
        tied=not any("lm_head" in tensor.name for tensor in found),
    )


def _number(config: dict[str, Any], names: Sequence[str]) -> int:
    found = next((config[name] for name in names if isinstance(config.get(name), int)), 0)
    return found if 0 < found < 2**31 else 0


def _header(file: Path) -> bytes:
    with file.open("rb") as opened:
        length = header_bytes(opened.read(LENGTH_BYTES + 1))
        opened.seek(LENGTH_BYTES)
        return opened.read(length)

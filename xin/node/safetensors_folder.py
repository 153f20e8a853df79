"""A folder of safetensors as Hugging Face's libraries write it: config.json, and the weights, whole or in shards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from xin.errors import BadRequest, ModelNotFound

ENGINE = "transformers"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_MAX_CONFIG_BYTES = 1 << 20
_PICKLED = ("*.bin", "*.pt", "*.pth")
_ABILITIES = (
    ("ForSequenceClassification", ["rerank"]),
    ("ForCausalLM", ["chat", "generate"]),
    ("LMHeadModel", ["generate"]),
    ("Model", ["embed"]),
)


def shards(folder: Path) -> list[Path]:
    """Its files of weights, by name. Blocking."""
    try:
        return sorted(path for path in folder.glob("*.safetensors") if path.is_file() and path.name.isprintable())
    except OSError:
        return []


def is_complete(folder: Path) -> bool:
    """Whether it can be loaded, as far as its file names tell. Blocking."""
    try:
        if not (folder / "config.json").is_file():
            return False
    except OSError:
        return False
    files = shards(folder)
    return bool(files) and not _lacking(files)


def checked(folder: Path) -> Path:
    """The folder, if it can be loaded. Raises BadRequest or ModelNotFound with the reason. Blocking."""
    files = shards(folder)
    if not files:
        if any(next(folder.glob(glob), None) for glob in _PICKLED):
            message = f"{folder} holds its weights only as Python pickles (.bin), which can run code when loaded"
            raise BadRequest(message, "use a revision with .safetensors files", param="model_path")
        raise BadRequest(f"{folder} holds neither .gguf nor .safetensors files", "name the folder of one model")
    if not (folder / "config.json").is_file():
        raise BadRequest(
            f"{folder} has no config.json, which says what its weights are", "give the whole repository's folder"
        )
    if lacking := _lacking(files):
        raise ModelNotFound(f"there is no file {folder / lacking[0]}", "a model needs all its shards in one folder")
    for file in files:
        _check_head(file)
    return folder


def abilities(folder: Path) -> list[str]:
    """By the architecture that its configuration names; [] when it does not tell."""
    try:
        with (folder / "config.json").open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
        config: Any = msgspec.json.decode(data) if len(data) <= _MAX_CONFIG_BYTES else None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    architectures = config.get("architectures") if isinstance(config, dict) else None
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    return next((list(able) for ending, able in _ABILITIES if name.endswith(ending)), [])


def _lacking(files: list[Path]) -> list[str]:
    """Names of shards that the names of the others tell of."""
    names = {file.name for file in files}
    wanted: set[str] = set()
    for name in names:
        if found := _SHARD.fullmatch(name):
            count = min(int(found[3]), 1000)
            wanted |= {f"{found[1]}-{n:05d}-of-{found[3]}.safetensors" for n in range(1, count + 1)}
    return sorted(wanted - names)


def _check_head(file: Path) -> None:
    """The length of the header and its first byte, as the format has them."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(9)
    except OSError as exc:
        raise BadRequest(f"cannot read {file}: {exc.strerror}", "check its permissions", param="model_path") from exc
    if head[8:9] != b"{" or int.from_bytes(head[:8], "little") + 8 > size:
        raise BadRequest(f"{file} is not a safetensors file, or it is cut off", "fetch it again", param="model_path")

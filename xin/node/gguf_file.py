"""A .gguf on disk by its name and first bytes; its header is only ever parsed in a worker."""

from __future__ import annotations

import re
from pathlib import Path

from xin.backends.llama_cpp.projector_file import is_projector
from xin.errors import BadRequest, ModelNotFound

MAGIC = b"GGUF"
UNKNOWN = "unknown"
_SNIFF_BYTES = 512
_MOST_PARTS = 1000
_QUANTIZATION = re.compile(
    r"(?:^|[._-])((?:UD-)?(?:I?Q[1-8](?:_[0-9KSMLX]+)*|TQ[12]_0|MXFP4(?:_MOE)?|BF16|F16|F32))(?=[._-]|$)", re.IGNORECASE
)
_SIZE = re.compile(r"(?:^|[._-])(\d+(?:\.\d+)?)([bm])(?=[._-]|$)", re.IGNORECASE)
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?)"),
    (b"\x80\x02", "a Python pickle"),
    (b"lmgg", "an old GGML file, from before GGUF"),
    (b"fmgg", "an old GGML file, from before GGUF"),
    (b"tjgg", "an old GGML file, from before GGUF"),
    (b"FUGG", "a big-endian GGUF"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!DOCTYPE", "a web page (a download that failed?)"),
    (b"<!doctype", "a web page (a download that failed?)"),
    (b"<html", "a web page (a download that failed?)"),
)


def quantization_of(name: str) -> str:
    """`Q4_K_M` of `Model-7B.Q4_K_M.gguf`; "unknown" when the name does not tell."""
    found = _QUANTIZATION.findall(stem(name))
    return str(found[-1]).upper() if found else UNKNOWN


def size_of(name: str) -> float | None:
    """Billions of parameters that the name tells: 0.135 of `SmolLM2-135M-Instruct.Q4_1.gguf`."""
    found = _SIZE.search(stem(name))
    if found is None:
        return None
    return float(found[1]) / (1 if found[2] in "bB" else 1000)


def stem(name: str) -> str:
    """File name without `.gguf` and without the number of its part."""
    return _PART.sub("", name.removesuffix(".gguf").removesuffix(".GGUF"))


def base_name(name: str) -> str:
    """`Model-7B` of `Model-7B.Q4_K_M.gguf`: what its quantizations have in common."""
    base = stem(name)
    found = list(_QUANTIZATION.finditer(base))
    return base[: found[-1].start()] + base[found[-1].end() :] if found else base


def is_first_part(name: str) -> bool:
    """False for the second and later files of a split model, and for projectors, which are not launched alone."""
    part = _PART.search(name.removesuffix(".gguf"))
    return (part is None or int(part[1]) == 1) and not is_projector(name)


def checked(path: Path) -> Path:
    """The file to load, the first one when the model is split. Blocking.

    Raises ModelNotFound when it or a part of it is missing, BadRequest when it is something else than a GGUF.
    """
    files = parts(path)
    for part in files:
        if not part.is_file():
            raise ModelNotFound(f"there is no file {part}", _missing_hint(path, part))
    for part in files:
        try:
            with part.open("rb") as file:
                head = file.read(_SNIFF_BYTES)
        except OSError as exc:
            raise BadRequest(
                f"cannot read {part}: {exc.strerror}", "check its permissions", param="model_path"
            ) from exc
        if not head.startswith(MAGIC):
            hint = "give a model in GGUF format"
            raise BadRequest(f"{part} is not a GGUF: it is {what_is(head)}", hint, param="model_path")
    return files[0]


def parts(path: Path) -> list[Path]:
    """The file, or all files of a split model by any of them."""
    found = _PART.search(path.stem)
    if found is None or int(found[2]) > _MOST_PARTS:
        return [path]
    base = _PART.sub("", path.stem)
    return [path.with_name(f"{base}-{n:05d}-of-{found[2]}{path.suffix}") for n in range(1, int(found[2]) + 1)]


def size_bytes(path: Path) -> int:
    """Of all its parts. Blocking; 0 for what is missing."""
    return sum(part.stat().st_size for part in parts(path) if part.is_file())


def what_is(head: bytes) -> str:
    """In words, from the first bytes of a file."""
    if not head:
        return "an empty file"
    for magic, words in _FOREIGN:
        if head.startswith(magic):
            return words
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return "a safetensors file"
    try:
        head[:-4].decode()
    except UnicodeDecodeError:
        return f"unknown data (it starts with {head[:4].hex(' ')})"
    return "a text file" if b"\0" not in head else f"unknown data (it starts with {head[:4].hex(' ')})"


def _missing_hint(path: Path, part: Path) -> str:
    if part.is_dir():
        return "it is a folder: name the .gguf inside it"
    if part != path or _PART.search(path.stem):
        return "a split model needs all its parts in one folder"
    beside = sorted(file.name for file in part.parent.glob("*.gguf"))[:5] if part.parent.is_dir() else []
    return f"{part.parent} holds: {', '.join(beside)}" if beside else "check the path"

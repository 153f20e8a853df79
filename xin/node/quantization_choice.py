"""Which quantization, when nobody says: the best of those on disk, else the usual one of those to fetch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from xin.backends.llama_cpp.projector_file import is_projector, projector_among
from xin.node import gguf_file

USUAL = (
    *("Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "MXFP4", "Q4_K_L", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1"),
    *("Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q3_K_L", "Q3_K_M", "Q8_0", "Q3_K_S", "Q2_K", "BF16", "F16", "F32"),
)
# What a folder of safetensors is loaded from, besides the weights themselves.
REPO_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_LOSSLESS = {"BF16": 1, "F16": 1, "F32": 2, "MXFP4": 0, "MXFP4_MOE": 0}
_BITS = re.compile(r"(?:UD-)?(?:I|T)?Q(\d)(.*)")
_GRADES = {"_XXS": 0.1, "_XS": 0.2, "_S": 0.3, "_0": 0.35, "_1": 0.4, "_M": 0.5, "_L": 0.6, "_XL": 0.7}
T = TypeVar("T")


def best(choices: Iterable[T], quantization: Callable[[T], str]) -> T:
    """The one that loses least of those worth their size: 16 and 32 bits only where nothing of 4 bits or more is."""
    return max(choices, key=lambda choice: _rank(quantization(choice)))


def usual(choices: Sequence[T], quantization: Callable[[T], str]) -> T:
    """The one to fetch: small, and near to the original."""
    return min(choices, key=lambda choice: _place(quantization(choice)))


def chosen_files(paths: Sequence[str], wanted: str = "") -> list[str]:
    """Of a repository's files those to fetch: by a path, a glob or a quantization, else the usual GGUF or safetensors.

    [] when nothing fits. A split model comes with all its parts, safetensors with what they are loaded with.
    """
    ggufs = [path for path in paths if path.lower().endswith(".gguf")]
    firsts = [path for path in ggufs if gguf_file.is_first_part(path.rpartition("/")[2])]
    if wanted:
        fitting = [path for path in firsts if fits(path, wanted)]
        if not fitting:
            return [path for path in paths if fits(path, wanted)]
    else:
        fitting = firsts
    if fitting:
        first = usual(fitting, gguf_file.quantization_of)
        return [path for path in ggufs if gguf_file.stem(path) == gguf_file.stem(first)]
    top = [path for path in paths if "/" not in path]
    whole = [path for path in top if any(fnmatchcase(path, glob) for glob in REPO_FILES)]
    return whole if any(path.endswith(".safetensors") for path in whole) else []


def with_projector(paths: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """What is to be fetched of a repository, and the projector that stands beside its GGUF."""
    first = next((path for path in wanted if path.lower().endswith(".gguf")), None)
    if first is None or is_projector(first.rpartition("/")[2]):
        return [*wanted]
    folder, _, name = first.rpartition("/")
    beside = {path.rpartition("/")[2]: path for path in paths if path.rpartition("/")[0] == folder}
    found = projector_among(name, [*beside])
    return [*wanted] if found is None else [*wanted, beside[found]]


def fits(path: str, wanted: str) -> bool:
    """Whether a file of a repository is what stands behind the colon: its path, its name, a glob, its quantization."""
    path, wanted = path.lower(), wanted.lower()
    name = path.rpartition("/")[2]
    if wanted in (path, name, gguf_file.stem(name), gguf_file.quantization_of(name).lower()):
        return True
    return any(char in wanted for char in "*?[") and (fnmatchcase(path, wanted) or fnmatchcase(name, wanted))


def _rank(quantization: str) -> float:
    """Bits of a weight, finer grades higher; above 8 bits counted as if they were between 3 and 4."""
    name = quantization.upper()
    if name in _LOSSLESS:
        return 3.9 - 0.1 * _LOSSLESS[name] if _LOSSLESS[name] else 4.3
    if name == "NONE":
        return 16.0
    if found := re.match(r"(\d+)-BIT", name):
        return float(found[1])
    found = _BITS.fullmatch(name)
    if found is None:
        return 0.0
    grade = max((value for ending, value in _GRADES.items() if found[2].endswith(ending)), default=0.0)
    return int(found[1]) + grade


def _place(quantization: str) -> int:
    name = quantization.upper()
    return USUAL.index(name) if name in USUAL else len(USUAL)

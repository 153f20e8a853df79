"""Weights on disk: what a source tells of each, and how folders that anybody may have written are read without harm."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from xin.node import ctranslate2_folder, gguf_file, safetensors_folder

GGUF, PYTORCH = "gguf", "pytorch"
SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth")
LEAST_ORPHAN_BYTES = 1 << 20  # smaller blobs are configurations and vocabularies
MAX_DEPTH = 4
MAX_FILES = 10_000
_MAX_JSON_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """One model of one source, as it lies there.

    name          what it is called in its source, and launched by
    path          what an engine loads: a GGUF (its first part), or a folder
    repo, file    the same on the hub, where that is known; `file` is empty for a whole repository
    quantization, size_in_billions   where the source knows better than the name of the file
    note          what of it is not used, for people
    """

    source: str
    name: str
    path: Path
    format: str = GGUF
    repo: str = ""
    file: str = ""
    family: str = ""
    quantization: str = ""
    size_in_billions: float | None = None
    note: str = ""

    def files(self) -> list[Path]:
        """All its weight files. Blocking."""
        return weight_files(self.path)

    def size_bytes(self) -> int:
        return sum(size_of(path) for path in self.files())


def weight_files(path: Path) -> list[Path]:
    """Those of a model that lies at `path`: a GGUF in parts, or a folder. Blocking."""
    if not path.is_dir():
        return gguf_file.parts(path)
    if ctranslate2_folder.is_complete(path):
        return [path / ctranslate2_folder.WEIGHTS]
    return safetensors_folder.shards(path)


class WeightsSource(ABC):
    """A store of weights. Everything blocks; what cannot be read is skipped.

    foreign   another program's, or a folder of the user's: its files go only when that is asked for
    """

    kind: ClassVar[str]
    foreign: ClassVar[bool] = True

    @abstractmethod
    def roots(self) -> list[Path]:
        """Nothing outside these is ever removed."""

    @abstractmethod
    def models(self) -> list[Found]:
        """What can be launched of it."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Every weight file, also those that nothing launches: older revisions, projectors, left-overs."""

    def sides(self, names: Set[str], gone: Set[Path]) -> list[Path]:
        """Small files without a use once the models of these names are given up and the files `gone` removed."""
        return []

    def others(self, names: Set[str], path: Path) -> list[str]:
        """Models besides those of `names` that are made of the file too."""
        return []


def walk(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Files below `folder`, by name; into no linked or hidden folder, and at most MAX_FILES."""
    left = [MAX_FILES]
    yield from _walk(str(folder), depth, left)


def folders(folder: Path) -> list[Path]:
    """The folders in `folder`, links to some among them."""
    return [Path(entry.path) for entry in _entries(str(folder)) if _is_dir(entry, follow=True)]


def is_weights(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def size_of(path: Path) -> int:
    """Bytes; 0 for what is missing."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def small_file(path: Path, most_bytes: int = _MAX_JSON_BYTES) -> bytes | None:
    """What the file holds; None when it is no file, cannot be read, or is larger. A pipe does not make it wait."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            data = file.read(most_bytes + 1) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None
    return data if data is not None and len(data) <= most_bytes else None


def small_json(path: Path, kind: type[T]) -> T | None:
    """The same, of JSON of that kind."""
    data = small_file(path)
    try:
        return None if data is None else msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _walk(folder: str, depth: int, left: list[int]) -> Iterator[Path]:
    for entry in _entries(folder):
        if left[0] <= 0:
            return
        left[0] -= 1
        if _is_dir(entry, follow=False):
            if depth > 1 and not entry.name.startswith("."):
                yield from _walk(entry.path, depth - 1, left)
        elif _is_file(entry):
            yield Path(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Those whose names can be shown and sent: the others could be no model's."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if entry.name.isprintable()), key=lambda entry: entry.name)
    except OSError:
        return []


def _is_dir(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False

"""Every weight file on this machine: how large, whose, and what it is used by. Reads the disk: call it in a thread."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xin.node import gguf_file, safetensors_folder
from xin.node.local_models import known_models
from xin.node.weights_found import WeightsSource
from xin.node.weights_index import weights_sources
from xin.protocol.node import LocalModel, WeightFile

Inode = tuple[int, int]


@dataclass(slots=True)
class Stored:
    """The bytes of one file, under all the names that lead to them. `places`: (source, path), links among them."""

    size_bytes: int
    links: int
    real: Path
    places: list[tuple[WeightsSource | None, Path]] = field(default_factory=list)
    model_names: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)

    def shown(self) -> WeightFile:
        return WeightFile(
            path=str(self.places[0][1]),
            size_bytes=self.size_bytes,
            sources=list(dict.fromkeys(source.kind if source else "bundled" for source, _ in self.places)),
            paths=[str(path) for _, path in self.places],
            model_names=self.model_names,
            used_by=self.used_by,
        )


def weight_files(model_dirs: Sequence[str], in_use: Mapping[str, Sequence[str]]) -> list[Stored]:
    """Largest first, each once by its inode. `in_use`: what each running uid has loaded."""
    stored: dict[Inode, Stored] = {}
    sources = sorted(weights_sources(model_dirs), key=lambda source: source.kind == "file")  # a store's are the store's
    for source in sources:
        for path in source.files():
            _enter(stored, source, path)
    for model in known_models(model_dirs):
        for path in loaded_files(model.weights):
            one = _enter(stored, None, path) if model.source == "bundled" else _at(stored, path)
            if one is not None:
                one.model_names.append(model.model_name)
    for found in (found for source in sources for found in source.models()):
        for path in found.files():  # a second copy of what another store has under the same name
            if (one := _at(stored, path)) is not None and not one.model_names:
                one.model_names.append(f"{found.repo}:{found.file}" if found.name == found.repo else found.name)
    for uid, weights in in_use.items():
        for path in loaded_files(weights):
            if (one := _at(stored, path)) is not None:
                one.used_by.append(uid)
    return sorted(stored.values(), key=lambda one: (-one.size_bytes, str(one.real)))


def loaded_files(weights: Sequence[str]) -> list[Path]:
    """The files that a launch's paths stand for: all parts of a split GGUF, all shards of a folder."""
    files: list[Path] = []
    for path in map(Path, weights):
        files += safetensors_folder.shards(path) if path.is_dir() else gguf_file.parts(path)
    return files


def of_model(model: LocalModel, files: Sequence[Stored]) -> list[Stored]:
    inodes = {inode_of(path) for path in loaded_files(model.weights)}
    return [one for one in files if inode_of(one.real) in inodes]


def inode_of(path: Path) -> Inode | None:
    """Of what the path leads to."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _at(stored: dict[Inode, Stored], path: Path) -> Stored | None:
    inode = inode_of(path)
    return stored.get(inode) if inode else None


def _enter(stored: dict[Inode, Stored], source: WeightsSource | None, path: Path) -> Stored | None:
    try:
        about = path.stat()
    except OSError:
        return None
    real = Path(os.path.realpath(path))
    one = stored.setdefault((about.st_dev, about.st_ino), Stored(about.st_size, about.st_nlink, real))
    if all(path != known for _, known in one.places):
        one.places.append((source, path))
    return one

"""All weights on this machine, whichever program fetched them. Everything here reads the disk: call it in a thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from xin.catalog.spec import Family, Variant
from xin.node import gguf_file
from xin.node.quantization_choice import fits
from xin.node.weights_folders import Folders, MadeHere
from xin.node.weights_found import GGUF, PYTORCH, Found, WeightsSource, walk
from xin.node.weights_huggingface import HuggingFace, cached_repo, in_snapshot
from xin.node.weights_llama_cpp import LlamaCpp
from xin.node.weights_lmstudio import LmStudio
from xin.node.weights_ollama import Ollama
from xin.node.weights_xinference import Xinference


def weights_sources(model_dirs: Sequence[str]) -> list[WeightsSource]:
    """In the order in which they are asked for a name that several know."""
    return [MadeHere(), Folders(model_dirs), HuggingFace(), LmStudio(), LlamaCpp(), Ollama(), Xinference()]


class WeightsIndex:
    """Every model of every source under the one name that it is launched by."""

    def __init__(self, found: Sequence[Found]) -> None:
        self.found = _named(found)
        self.by_path = {one.path: one for one in self.found}
        self._by_repo: dict[str, list[Found]] = {}
        self._by_family: dict[str, list[Found]] = {}
        for one in self.found:
            if one.repo:
                self._by_repo.setdefault(one.repo.lower(), []).append(one)
            elif one.family:
                self._by_family.setdefault(one.family, []).append(one)

    @classmethod
    def of_disk(cls, model_dirs: Sequence[str]) -> WeightsIndex:
        return cls([model for source in weights_sources(model_dirs) for model in source.models()])

    def by_name(self, name: str) -> Found | None:
        """As its source calls it; Ollama's `latest` may be left out, and files may keep their .gguf."""
        for one in self.found:
            if name == one.name or (one.source == "ollama" and f"{name}:latest" == one.name):
                return one
        named = (one for one in self.found if one.source in ("file", "made here"))
        return next((one for one in named if name in (one.path.name, gguf_file.stem(one.path.name))), None)

    def of_repo(self, repo: str, file: str = "") -> list[Found]:
        """What is here of a repository of the hub, each file once; of `file`: a path, a glob or a quantization."""
        kept: dict[str, Found] = {}
        for one in self._by_repo.get(repo.lower(), []):
            if not file or (one.file and fits(one.file, file)):
                kept.setdefault(one.file.rpartition("/")[2].lower(), one)
        return list(kept.values())

    def variant_weights(self, family: Family, variant: Variant) -> list[Path] | None:
        """A variant's weights that the hub has, wherever they lie; None when they are not here."""
        source = variant.source
        pinned = cached_repo(source.repo, source.revision) if source.revision != "main" else None
        candidates = [
            *(in_snapshot(source.repo, pinned) if pinned else []),
            *self._by_repo.get(source.repo.lower(), []),
            *self._by_family.get(family.name, []),
        ]
        match = next((one for one in candidates if _serves(one, variant)), None)
        if match is not None:
            return [match.path]
        folder = pinned or (None if variant.format in (GGUF, PYTORCH) else cached_repo(source.repo))
        if folder is None or not source.file:
            return None
        files = [path for path in walk(folder) if fnmatchcase(path.name, source.file.rpartition("/")[2])]
        return [files[0]] if files and (variant.format != GGUF or gguf_file.is_first_part(files[0].name)) else None


def _named(found: Sequence[Found]) -> list[Found]:
    """Under names that are each one's only; of a name that several have, the first."""
    files: dict[str, set[str]] = {}
    for one in found:
        if one.name == one.repo:
            files.setdefault(one.repo, set()).add(one.file)
    named: dict[str, Found] = {}
    for one in found:
        several = one.name == one.repo and one.file and len(files[one.repo]) > 1
        name = f"{one.repo}:{one.file}" if several else one.name
        named.setdefault(name, dataclasses.replace(one, name=name))
    return list(named.values())


def quantization_of(found: Found) -> str:
    if found.format != GGUF:
        return "none"
    return found.quantization or gguf_file.quantization_of(found.file or found.path.name)


def size_in_billions_of(found: Found) -> float | None:
    return found.size_in_billions or gguf_file.size_of(found.file or found.path.name)


def _serves(one: Found, variant: Variant) -> bool:
    if one.format != variant.format:
        return False
    same_quantization = one.format != GGUF or quantization_of(one).lower() == variant.quantization.lower()
    if one.repo:
        file = variant.source.file
        return same_quantization or (bool(file and one.file) and fnmatchcase(one.file.lower(), file.lower()))
    return same_quantization and one.size_in_billions == variant.size_in_billions

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
from xin.node.weights_found import GGUF, Found, WeightsSource, walk
from xin.node.weights_huggingface import HuggingFace, cached_repo, in_snapshot
from xin.node.weights_llama_cpp import LlamaCpp
from xin.node.weights_lmstudio import LmStudio
from xin.node.weights_ollama import Ollama
from xin.node.weights_xinference import Xinference


def weights_sources(model_dirs: Sequence[str]) -> list[WeightsSource]:
    """In the order in which they are asked for a name that several know."""
    return [MadeHere(), Folders(model_dirs), HuggingFace(), LmStudio(), LlamaCpp(), Ollama(), Xinference()]


def all_weights(model_dirs: Sequence[str]) -> list[Found]:
    """Every model of every source under the one name that it is launched by."""
    found = [model for source in weights_sources(model_dirs) for model in source.models()]
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


def by_name(found: Sequence[Found], name: str) -> Found | None:
    """As its source calls it; Ollama's `latest` may be left out, and files may keep their .gguf."""
    for one in found:
        if name == one.name or (one.source == "ollama" and f"{name}:latest" == one.name):
            return one
    named = (one for one in found if one.source in ("file", "made here"))
    return next((one for one in named if name in (one.path.name, gguf_file.stem(one.path.name))), None)


def of_repo(found: Sequence[Found], repo: str, file: str = "") -> list[Found]:
    """What is here of a repository of the hub, each file once; of `file`: a path, a glob or a quantization."""
    kept: dict[str, Found] = {}
    for one in found:
        told = one.file or one.path.name
        if one.repo.lower() == repo.lower() and (not file or (one.file and fits(told, file)) or told == file):
            kept.setdefault(one.file.rpartition("/")[2].lower(), one)
    return list(kept.values())


def variant_weights(family: Family, variant: Variant, found: Sequence[Found]) -> list[Path] | None:
    """A catalogued variant's weights, wherever they lie; None when they are not here."""
    source = variant.source
    if source.kind != "huggingface":
        return None
    pinned = cached_repo(source.repo, source.revision) if source.revision != "main" else None
    candidates = [*(in_snapshot(source.repo, pinned) if pinned else []), *found]
    match = next((one for one in candidates if _serves(one, family, variant)), None)
    if match is not None:
        return [match.path]
    folder = pinned or (None if variant.format in (GGUF, "pytorch") else cached_repo(source.repo))
    if folder is None or not source.file:
        return None
    files = [path for path in walk(folder) if fnmatchcase(path.name, source.file.rpartition("/")[2])]
    return [files[0]] if files and (variant.format != GGUF or gguf_file.is_first_part(files[0].name)) else None


def quantization_of(found: Found) -> str:
    if found.format != GGUF:
        return "none"
    return found.quantization or gguf_file.quantization_of(found.file or found.path.name)


def size_in_billions_of(found: Found) -> float | None:
    return found.size_in_billions or gguf_file.size_of(found.file or found.path.name)


def _serves(one: Found, family: Family, variant: Variant) -> bool:
    if one.format != variant.format:
        return False
    same_quantization = one.format != GGUF or quantization_of(one).lower() == variant.quantization.lower()
    if one.repo:
        file = variant.source.file
        by_file = bool(file and one.file) and fnmatchcase(one.file.lower(), file.lower())
        return one.repo.lower() == variant.source.repo.lower() and (by_file or same_quantization)
    return one.family == family.name and same_quantization and one.size_in_billions == variant.size_in_billions

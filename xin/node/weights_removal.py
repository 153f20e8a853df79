"""Removing weights: what would go and what stays is found first, then done. Works on the disk: call it in a thread."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xin.errors import BadRequest, Conflict, ModelNotFound
from xin.node.local_models import known_models
from xin.node.weights_files import Stored, loaded_files, weight_files
from xin.node.weights_found import WeightsSource, size_of
from xin.protocol.node import FilesRemoved, KeptFile, LocalModel

_WORDS = {"ollama": "Ollama's", "lmstudio": "LM Studio's", "llama.cpp": "llama.cpp's", "xinference": "Xinference's"}


@dataclass(slots=True)
class Removal:
    """`gone`: each file with the store that it is in, links before what they lead to."""

    name: str
    gone: dict[Path, WeightsSource] = field(default_factory=dict)
    kept: list[KeptFile] = field(default_factory=list)
    freed_bytes: int = 0

    def keep(self, path: Path, reason: str) -> None:
        self.kept.append(KeptFile(str(path), reason))

    def shown(self, *, dry_run: bool) -> FilesRemoved:
        removed = [str(path) for path in self.gone]
        return FilesRemoved(
            name=self.name, removed=removed, kept=self.kept, freed_bytes=self.freed_bytes, dry_run=dry_run
        )


def plan_removal(
    name: str, *, foreign: bool, model_dirs: Sequence[str], in_use: Mapping[str, Sequence[str]]
) -> Removal:
    """Raises ModelNotFound, BadRequest for what has no files of its own, Conflict when a running model uses one."""
    files = weight_files(model_dirs, in_use)
    names, targets = _targets(name, files, known_models(model_dirs))
    for one, _ in targets:
        if one.used_by:
            uids = " and ".join(sorted(set(one.used_by)))
            raise Conflict(f"{one.places[0][1]} is in use by {uids}", f"end it first: xin terminate {one.used_by[0]}")
    removal = Removal(name)
    for one, wanted in targets:
        _decide(removal, one, wanted, names, foreign)
    _add_sides(removal, names, {source for _, of in targets for source, _ in of if source}, foreign)
    return removal


def remove(removal: Removal) -> None:
    """Do it. What cannot be removed is kept, with the reason."""
    for path, source in [*removal.gone.items()]:
        size = 0 if path.is_symlink() else size_of(path)
        try:
            if not _inside(path, source):
                raise OSError(0, "it is not in its store any more")
            path.unlink(missing_ok=True)
        except OSError as exc:
            del removal.gone[path]
            removal.freed_bytes = max(0, removal.freed_bytes - size)
            removal.keep(path, exc.strerror or "it cannot be removed")
        else:
            _remove_empty(path.parent, source)


def _targets(
    name: str, files: Sequence[Stored], known: Sequence[LocalModel]
) -> tuple[set[str], list[tuple[Stored, list[tuple[WeightsSource, Path]]]]]:
    """Names that are given up, and of each file the places that the name means."""
    if name.startswith(("/", "~")):
        path = Path(name).expanduser()
        for one in files:
            places = [(source, place) for source, place in one.places if source and path in (place, one.real)]
            if places:
                return set(one.model_names), [(one, places)]
        raise ModelNotFound(f"{name} is not a weight file that xin knows of", "xin files lists them", param="name")
    models = [model for model in known if model.model_name == name]
    models = models or [model for model in known if model.model_name.startswith(f"{name}:")]  # all of a repository
    if not models:
        raise ModelNotFound(f"there is no model {name!r} here", "xin files lists what is", param="name")
    if all(model.source in ("built-in", "bundled") for model in models):
        raise BadRequest(f"{name} comes with an installed package", "pip uninstall removes it", param="name")
    wanted = {path for model in models for path in loaded_files(model.weights)}
    found = [(one, [(source, path) for source, path in one.places if source and path in wanted]) for one in files]
    return {model.model_name for model in models}, [(one, places) for one, places in found if places]


def _decide(
    removal: Removal, one: Stored, wanted: list[tuple[WeightsSource, Path]], names: set[str], foreign: bool
) -> None:
    """Whether the places of one file go, and with them its bytes."""
    source, first = wanted[0]
    mine = {path for _, path in wanted}
    mine |= {path for of, path in one.places if of and of.kind == source.kind == "huggingface" and _leads(path, one)}
    ours = one.real not in mine and _inside(one.real, source)
    ends = one.real in mine or ours
    leading = [path for _, path in one.places if path not in mine and path != one.real and _leads(path, one)]
    if source.foreign and not foreign:
        removal.keep(first, f"{_owner(source)}: --foreign removes it")
    elif others := source.others(names, first):
        removal.keep(first, f"{' and '.join(others)} is made of it too")
    elif ends and leading:
        removal.keep(first, f"{leading[0]} leads to it")
    elif not all(_inside(path, source) for path in mine):
        removal.keep(first, "it is not inside its store")
    else:
        links = sorted(path for path in mine if path != one.real)
        removal.gone |= dict.fromkeys([*links, *([one.real] if ends else [])], source)
        _count(removal, one, mine, ends)


def _count(removal: Removal, one: Stored, mine: set[Path], ends: bool) -> None:
    """Bytes are free when no hard link holds them."""
    hard = {path for path in {*mine, *([one.real] if ends else [])} if not path.is_symlink()}
    if not ends:
        removal.keep(one.real, "only the link to it goes")
    elif one.links > len(hard):
        others = [path for _, path in one.places if path not in hard and not path.is_symlink()]
        removal.keep(others[0] if others else one.real, "a hard link to the same bytes: nothing is freed")
    else:
        removal.freed_bytes += one.size_bytes


def _add_sides(removal: Removal, names: set[str], sources: set[WeightsSource], foreign: bool) -> None:
    gone = {*removal.gone}
    for source in sources:
        if source.foreign and not foreign:
            continue
        for path in source.sides(names, gone):
            if path not in gone and _inside(path, source):
                removal.gone[path] = source
                removal.freed_bytes += 0 if path.is_symlink() else size_of(path)


def _leads(path: Path, one: Stored) -> bool:
    return path.is_symlink() and os.path.realpath(path) == str(one.real)


def _owner(source: WeightsSource) -> str:
    return f"it is {_WORDS[source.kind]}" if source.kind in _WORDS else "it is in a folder of yours"


def _inside(path: Path, source: WeightsSource) -> bool:
    """Whether the entry itself, not what it leads to, lies in the store, with every link on the way followed."""
    folder = os.path.realpath(path.parent)
    roots = (os.path.realpath(root) for root in source.roots())
    return any(folder == root or folder.startswith(root + os.sep) for root in roots)


def _remove_empty(folder: Path, source: WeightsSource) -> None:
    """Folders that have become empty, below the store's own."""
    roots = {os.path.realpath(root) for root in source.roots()}
    while os.path.realpath(folder) not in roots and _inside(folder, source):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent

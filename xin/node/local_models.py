"""What can be launched on this machine without fetching anything. All of it reads the disk: call it in a thread."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from xin import paths
from xin.catalog.spec import Family, Variant, families, family_of_file
from xin.node import gguf_file
from xin.protocol.node import LocalModel

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
GGUF_ENGINE = "llama.cpp"
_MAX_DEPTH = 4
_MAX_FILES = 10_000


def known_models(model_dirs: Sequence[str]) -> list[LocalModel]:
    """The catalogue's with what was made of them here, then files of `model_dirs`, then the Hugging Face cache's."""
    found = [
        _catalogued(family, variant, weights)
        for family in families().values()
        for variant in family.variants
        if (weights := variant_weights(variant)) is not None
    ]
    found += [_of_file(name, path, "made here") for name, path in made_models()]
    found += [_of_file(gguf_file.stem(path.name), path, "file") for path in gguf_files(model_dirs)]
    for repo, folder in cached_repos():
        files = repo_files(folder)
        for path in files:
            name = repo if len(files) == 1 else f"{repo}:{path.relative_to(folder).as_posix()}"
            found.append(_of_file(name, path, "huggingface"))
    return found


def variant_weights(variant: Variant) -> list[str] | None:
    """Paths of a catalogued variant's weights; [] when it needs none, None when they are not on this machine."""
    source = variant.source
    if source.kind == "built-in":
        return []
    package = importlib.util.find_spec(source.package)  # found, never imported
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], source.file) if folders else None
    return [str(path)] if path is not None and path.is_file() else None


def made_models_dir() -> Path:
    """Where quantize jobs put what they make."""
    return paths.data_dir() / "models"


def made_models() -> list[tuple[str, Path]]:
    """(name to launch it by, file) of what was made here: `smollm2:Q8_0` where the family is known, else the stem."""
    files = gguf_files([str(made_models_dir())])
    names = [_family_name(path) or gguf_file.stem(path.name) for path in files]
    return [
        (name if names.count(name) == 1 else gguf_file.stem(path.name), path)
        for name, path in zip(names, files, strict=True)
    ]


def _family_name(path: Path) -> str | None:
    family, quantization = family_of_file(path.name), gguf_file.quantization_of(path.name)
    return f"{family.name}:{quantization}" if family and quantization != gguf_file.UNKNOWN else None


def gguf_files(folders: Sequence[str]) -> list[Path]:
    """Launchable .gguf files below the folders, by name."""
    found: list[Path] = []
    for folder in folders:
        for path in _walk(Path(folder).expanduser(), _MAX_DEPTH):
            found.append(path)
            if len(found) >= _MAX_FILES:
                break
    return sorted(found, key=lambda path: path.name)


def hub_cache() -> Path:
    """The Hugging Face cache, by the variables that huggingface_hub itself reads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def cached_repos() -> list[tuple[str, Path]]:
    """(org/repo, folder of its current snapshot) of all model repositories in the Hugging Face cache."""
    try:
        folders = sorted(hub_cache().glob("models--*--*"))
    except OSError:
        return []
    repos = (folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)
    return [(repo, snapshot) for repo in repos if REPO.fullmatch(repo) and (snapshot := cached_repo(repo))]


def cached_repo(repo: str) -> Path | None:
    """The folder of the repository's current snapshot, if it is cached."""
    folder = hub_cache() / f"models--{repo.replace('/', '--')}"
    snapshots = folder / "snapshots"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        commit = ""
    if re.fullmatch(r"[0-9a-f]{40}", commit) and (snapshots / commit).is_dir():
        return snapshots / commit
    try:
        others = [path for path in snapshots.iterdir() if path.is_dir()]
    except OSError:
        return None
    return max(others, key=lambda path: path.stat().st_mtime, default=None)


def repo_files(folder: Path) -> list[Path]:
    """The launchable .gguf files of one snapshot."""
    return sorted(_walk(folder, _MAX_DEPTH))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        if path.suffix.lower() == ".gguf" and gguf_file.is_first_part(path.name) and path.is_file():
            yield path
        elif depth > 1 and not path.name.startswith(".") and path.is_dir() and not path.is_symlink():
            yield from _walk(path, depth - 1)


def _catalogued(family: Family, variant: Variant, weights: list[str]) -> LocalModel:
    return LocalModel(
        model_name=family.name,
        model_engine=variant.engine,
        model_format=variant.format,
        quantization=variant.quantization,
        model_size_in_billions=variant.size_in_billions,
        model_ability=family.abilities,
        model_lang=family.languages,
        context_length=family.context_length,
        description=family.description,
        source=variant.source.kind,
        weights=weights,
        size_bytes=sum(gguf_file.size_bytes(Path(path)) for path in weights),
    )


def _of_file(name: str, path: Path, source: str) -> LocalModel:
    family = family_of_file(path.name)
    return LocalModel(
        model_name=name,
        model_engine=GGUF_ENGINE,
        model_format="gguf",
        quantization=gguf_file.quantization_of(path.name),
        model_size_in_billions=gguf_file.size_of(path.name),
        model_ability=family.abilities if family else [],
        model_lang=family.languages if family else [],
        context_length=family.context_length if family else 0,
        source=source,
        weights=[str(path)],
        size_bytes=gguf_file.size_bytes(path),
    )

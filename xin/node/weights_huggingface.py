"""The Hugging Face cache: models--ORG--REPO/{refs,snapshots/COMMIT,blobs}."""

from __future__ import annotations

import os
import re
from collections.abc import Set
from pathlib import Path

from xin.node import ctranslate2_folder, gguf_file, safetensors_folder
from xin.node.weights_found import (
    GGUF,
    LEAST_ORPHAN_BYTES,
    MAX_DEPTH,
    PYTORCH,
    Found,
    WeightsSource,
    folders,
    is_weights,
    size_of,
    small_file,
    walk,
)

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a branch or tag that can be a file's name
_MAX_REF_BYTES = 64


class HuggingFace(WeightsSource):
    """What huggingface_hub, transformers and xin's own downloads share."""

    kind = "huggingface"
    foreign = False

    def roots(self) -> list[Path]:
        return [hub_cache()]

    def models(self) -> list[Found]:
        return [found for repo, folder in cached_repos() for found in in_snapshot(repo, folder)]

    def files(self) -> list[Path]:
        """Of all revisions, then blobs that none of them leads to: left-overs of downloads."""
        found: list[Path] = []
        for folder in _repo_folders():
            in_revisions = [path for snapshot in folders(folder / "snapshots") for path in walk(snapshot)]
            found += [path for path in in_revisions if is_weights(path)]
            reached = {os.path.realpath(path) for path in in_revisions}
            blobs = (path for path in walk(folder / "blobs", 1) if os.path.realpath(path) not in reached)
            found += [path for path in blobs if size_of(path) >= LEAST_ORPHAN_BYTES]
        return found

    def sides(self, names: Set[str], gone: Set[Path]) -> list[Path]:
        """All of a repository once none of its weights stays."""
        sides: list[Path] = []
        for folder in _repo_folders():
            held = [path for path in walk(folder, MAX_DEPTH + 2) if path not in gone]
            if any(folder in path.parents for path in gone) and not any(_counts(path) for path in held):
                sides += held
        return sides


def hub_cache() -> Path:
    """The cache's folder, by the variables that huggingface_hub itself reads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def repo_folder(repo: str) -> Path:
    """Where the cache keeps org/repo, if it does."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def cached_repos() -> list[tuple[str, Path]]:
    """(org/repo, folder of its current snapshot) of all model repositories in the cache."""
    repos = (folder.name.removeprefix("models--").replace("--", "/", 1) for folder in _repo_folders())
    return [(repo, snapshot) for repo in repos if REPO.fullmatch(repo) and (snapshot := cached_repo(repo))]


def cached_repo(repo: str, revision: str = "main") -> Path | None:
    """The folder of the repository's snapshot of a branch, tag or commit; of `main` the newest when it has no ref."""
    folder = repo_folder(repo)
    snapshots = folder / "snapshots"
    if COMMIT.fullmatch(revision):
        return snapshots / revision if (snapshots / revision).is_dir() else None
    commit = _ref(folder / "refs", revision)
    if COMMIT.fullmatch(commit) and (snapshots / commit).is_dir():
        return snapshots / commit
    if revision != "main":
        return None
    return max(folders(snapshots), key=_mtime, default=None)


def blobs_folders() -> list[Path]:
    """Where the contents of all repositories lie, each under its hash."""
    return [folder / "blobs" for folder in _repo_folders()]


def in_snapshot(repo: str, folder: Path) -> list[Found]:
    """What can be launched of one snapshot."""
    found = [
        Found("huggingface", repo, path, GGUF, repo, path.relative_to(folder).as_posix())
        for path in walk(folder)
        if path.suffix.lower() == ".gguf" and gguf_file.is_first_part(path.name)
    ]
    if safetensors_folder.is_complete(folder):
        found.append(Found("huggingface", repo, folder, PYTORCH, repo))
    if ctranslate2_folder.is_complete(folder):
        found.append(Found("huggingface", repo, folder, ctranslate2_folder.FORMAT, repo))
    return found


def _repo_folders() -> list[Path]:
    return [folder for folder in folders(hub_cache()) if folder.name.startswith("models--")]


def _ref(folder: Path, revision: str) -> str:
    if not REVISION.fullmatch(revision):
        return ""
    return (small_file(folder / revision, _MAX_REF_BYTES) or b"").decode("ascii", "replace").strip()


def _counts(path: Path) -> bool:
    return is_weights(path) or (path.parent.name == "blobs" and size_of(path) >= LEAST_ORPHAN_BYTES)


def _mtime(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0

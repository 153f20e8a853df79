"""llama.cpp's own cache, where `llama-server -hf` and its kin put things: ORG_REPO_FILE.gguf in one folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Set
from pathlib import Path

from xin.node import gguf_file
from xin.node.weights_found import Found, WeightsSource, is_weights, walk

_MANIFEST = re.compile(r"manifest=([A-Za-z0-9][A-Za-z0-9._-]*)=([A-Za-z0-9][A-Za-z0-9._-]*)=.+\.json")
_OF_REPO = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*)_([A-Za-z0-9][A-Za-z0-9._-]*?-GGUF)_(.+\.gguf)", re.IGNORECASE)
_SIDES = (".json", ".etag")


class LlamaCpp(WeightsSource):
    kind = "llama.cpp"

    def roots(self) -> list[Path]:
        if value := os.environ.get("LLAMA_CACHE"):
            return [Path(value).expanduser()]
        if sys.platform == "darwin":
            return [Path("~/Library/Caches/llama.cpp").expanduser()]
        return [Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "llama.cpp"]

    def models(self) -> list[Found]:
        repos = self._manifests()
        return [
            _model_of(path, list(repos.values()))
            for path in self.files()
            if path.suffix.lower() == ".gguf" and gguf_file.is_first_part(_without_repo(path.name))
        ]

    def files(self) -> list[Path]:
        return [path for root in self.roots() for path in walk(root, 1) if is_weights(path)]

    def sides(self, names: Set[str], gone: Set[Path]) -> list[Path]:
        """What is written of each download beside it, and the manifests of repositories that have no file left."""
        beside = (path.with_name(path.name + ending) for path in gone for ending in _SIDES)
        left = [path.name for path in self.files() if path not in gone]
        were = [path.name for path in gone]
        manifests = [
            path
            for path, (org, repo) in self._manifests().items()
            if any(name.startswith(f"{org}_{repo}_") for name in were)
            and not any(name.startswith(f"{org}_{repo}_") for name in left)
        ]
        return [*(path for path in beside if path.is_file()), *manifests]

    def _manifests(self) -> dict[Path, tuple[str, str]]:
        """(org, repo) by the names of files; what is in them is not needed."""
        named = ((path, _MANIFEST.fullmatch(path.name)) for root in self.roots() for path in walk(root, 1))
        return {path: (found[1], found[2]) for path, found in named if found}


def _model_of(path: Path, repos: list[tuple[str, str]]) -> Found:
    """A manifest tells where the name of the repository ends; without one `-GGUF` does."""
    for org, repo in repos:
        if path.name.startswith(f"{org}_{repo}_"):
            file = path.name.removeprefix(f"{org}_{repo}_")
            return Found("llama.cpp", f"{org}/{repo}", path, repo=f"{org}/{repo}", file=file)
    if found := _OF_REPO.fullmatch(path.name):
        repo = f"{found[1]}/{found[2]}"
        return Found("llama.cpp", repo, path, repo=repo, file=found[3])
    return Found("llama.cpp", gguf_file.stem(path.name), path)


def _without_repo(name: str) -> str:
    found = _OF_REPO.fullmatch(name)
    return found[3] if found else name

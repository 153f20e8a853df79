"""LM Studio's folders: PUBLISHER/REPO/FILE.gguf."""

from __future__ import annotations

from pathlib import Path

from xin.node import gguf_file, safetensors_folder
from xin.node.weights_found import GGUF, PYTORCH, Found, WeightsSource, folders, is_weights, walk
from xin.node.weights_huggingface import REPO


class LmStudio(WeightsSource):
    kind = "lmstudio"

    def roots(self) -> list[Path]:
        return [Path("~/.lmstudio/models").expanduser(), Path("~/.cache/lm-studio/models").expanduser()]

    def models(self) -> list[Found]:
        return [found for folder in self._repos() for found in self._in_repo(folder)]

    def files(self) -> list[Path]:
        return [path for folder in self._repos() for path in walk(folder) if is_weights(path)]

    def _repos(self) -> list[Path]:
        found = (repo for root in self.roots() for publisher in folders(root) for repo in folders(publisher))
        return [folder for folder in found if REPO.fullmatch(f"{folder.parent.name}/{folder.name}")]

    def _in_repo(self, folder: Path) -> list[Found]:
        repo = f"{folder.parent.name}/{folder.name}"
        found = [
            Found(self.kind, repo, path, GGUF, repo, path.relative_to(folder).as_posix())
            for path in walk(folder)
            if path.suffix.lower() == ".gguf" and gguf_file.is_first_part(path.name)
        ]
        if safetensors_folder.is_complete(folder):
            found.append(Found(self.kind, repo, folder, PYTORCH, repo))
        return found

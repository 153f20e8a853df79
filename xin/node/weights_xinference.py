"""Xinference's cache: NAME-FORMAT-SIZEb[-QUANTIZATION] folders, mostly of links into other caches."""

from __future__ import annotations

import os
import re
from collections.abc import Set
from pathlib import Path

from xin.node import gguf_file, safetensors_folder
from xin.node.weights_found import GGUF, PYTORCH, Found, WeightsSource, folders, is_weights, walk

_FOLDER = re.compile(r"(.+?)-(ggufv2|ggmlv3|pytorch|gptq|awq|fp8)-(\d+(?:_\d+)?)b(?:-(.+))?")


class Xinference(WeightsSource):
    kind = "xinference"

    def roots(self) -> list[Path]:
        return [Path(os.environ.get("XINFERENCE_HOME") or "~/.xinference").expanduser() / "cache"]

    def models(self) -> list[Found]:
        return [found for folder in self._folders() for found in self._in_folder(folder)]

    def files(self) -> list[Path]:
        return [path for folder in self._folders() for path in walk(folder) if is_weights(path)]

    def sides(self, names: Set[str], gone: Set[Path]) -> list[Path]:
        """The small files and links of a folder that has no weights left."""
        sides: list[Path] = []
        for folder in self._folders():
            held = [path for path in walk(folder) if path not in gone]
            if any(folder in path.parents for path in gone) and not any(is_weights(path) for path in held):
                sides += held
        return sides

    def _folders(self) -> list[Path]:
        """`cache/v2` is where newer versions keep theirs. A folder may itself be a link, whose target is not ours."""
        tops = [top for root in self.roots() for top in (root, root / "v2")]
        return [folder for top in tops for folder in folders(top) if folder.name != "v2"]

    def _in_folder(self, folder: Path) -> list[Found]:
        named = _FOLDER.fullmatch(folder.name)
        family = named[1] if named else ""
        size = float(named[3].replace("_", ".")) if named else None
        files = [path for path in walk(folder) if path.suffix.lower() == ".gguf"]
        files = [path for path in files if gguf_file.is_first_part(path.name)]
        names = [folder.name if len(files) == 1 else f"{folder.name}:{path.name}" for path in files]
        found = [
            Found(self.kind, name, path, GGUF, family=family, size_in_billions=size)
            for name, path in zip(names, files, strict=True)
        ]
        if safetensors_folder.is_complete(folder):
            found.append(Found(self.kind, folder.name, folder, PYTORCH, family=family, size_in_billions=size))
        return found

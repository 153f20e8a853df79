"""xin's own folder of models, and the folders that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xin import paths
from xin.catalog.spec import family_of_file
from xin.node import gguf_file, safetensors_folder
from xin.node.weights_found import PYTORCH, Found, WeightsSource, is_weights, walk


class MadeHere(WeightsSource):
    """What quantize jobs have made."""

    kind = "made here"
    foreign = False

    def roots(self) -> list[Path]:
        return [made_models_dir()]

    def models(self) -> list[Found]:
        return [Found(self.kind, name, path) for name, path in made_models()]

    def files(self) -> list[Path]:
        return [path for path in walk(made_models_dir()) if is_weights(path)]


class Folders(WeightsSource):
    """`model_dirs`: GGUF files go by their names, folders of safetensors by theirs."""

    kind = "file"

    def __init__(self, model_dirs: Sequence[str]) -> None:
        self._model_dirs = model_dirs

    def roots(self) -> list[Path]:
        return [Path(folder).expanduser() for folder in self._model_dirs]

    def models(self) -> list[Found]:
        files = [Found(self.kind, gguf_file.stem(path.name), path) for path in gguf_files(self._model_dirs)]
        holding = sorted({path.parent for path in self.files() if path.suffix == ".safetensors"})
        whole = [folder for folder in holding if safetensors_folder.is_complete(folder)]
        return [*files, *(Found(self.kind, folder.name, folder, PYTORCH) for folder in whole)]

    def files(self) -> list[Path]:
        return [path for root in self.roots() for path in walk(root) if is_weights(path)]


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


def gguf_files(folders: Sequence[str]) -> list[Path]:
    """Launchable .gguf files below the folders, by name."""
    found = [path for folder in folders for path in walk(Path(folder).expanduser())]
    launchable = [path for path in found if path.suffix.lower() == ".gguf" and gguf_file.is_first_part(path.name)]
    return sorted(launchable, key=lambda path: path.name)


def _family_name(path: Path) -> str | None:
    family, quantization = family_of_file(path.name), gguf_file.quantization_of(path.name)
    return f"{family.name}:{quantization}" if family and quantization != gguf_file.UNKNOWN else None

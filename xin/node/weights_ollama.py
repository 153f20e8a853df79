"""Ollama's store: manifests/REGISTRY/NAMESPACE/MODEL/TAG name the blobs that a model is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import msgspec

from xin.node.weights_found import LEAST_ORPHAN_BYTES, Found, WeightsSource, size_of, small_json, walk

_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_IGNORED = {"template": "template", "system": "system prompt", "params": "parameters", "messages": "messages"}
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_REGISTRY, _LIBRARY = "registry.ollama.ai", "library"
_HUBS = ("hf.co", "huggingface.co")
_MAX_LAYERS = 100


class _Layer(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []
    config: _Layer | None = None


class _Config(msgspec.Struct):
    """What Ollama writes of a model: `model_type` is its size, `file_type` its quantization."""

    model_format: str = ""
    model_type: str = ""
    file_type: str = ""


@dataclass(frozen=True, slots=True)
class _Stored:
    """One manifest: the name that people know, and where its parts lie."""

    root: Path
    file: Path
    place: tuple[str, ...]
    manifest: _Manifest

    @property
    def name(self) -> str:
        """`smollm2:135m`, `someone/model:tag`, `hf.co/org/repo:Q4_K_M`."""
        *folders, model, tag = self.place
        shown = [*folders, model]
        while shown and shown[0] in (_REGISTRY, _LIBRARY):
            shown.pop(0)
        return f"{'/'.join(shown)}:{tag}"

    def blobs(self) -> list[Path]:
        parts = [*self.manifest.layers[:_MAX_LAYERS], *filter(None, [self.manifest.config])]
        return [path for part in parts if (path := _blob(self.root, part.digest)) is not None]


class Ollama(WeightsSource):
    kind = "ollama"

    def roots(self) -> list[Path]:
        if value := os.environ.get("OLLAMA_MODELS"):
            return [Path(value).expanduser()]
        return [Path("~/.ollama/models").expanduser(), Path("/usr/share/ollama/.ollama/models")]

    def models(self) -> list[Found]:
        return [found for stored in self._stored() if (found := _model_of(stored)) is not None]

    def files(self) -> list[Path]:
        blobs = [path for root in self.roots() for path in walk(root / "blobs", 1)]
        return [path for path in blobs if size_of(path) >= LEAST_ORPHAN_BYTES]

    def sides(self, names: Set[str], gone: Set[Path]) -> list[Path]:
        """The manifests, and their small layers that no other manifest has."""
        stored = list(self._stored())
        ended = [one for one in stored if one.name in names or not gone.isdisjoint(one.blobs())]
        kept = {blob for one in stored if one not in ended for blob in one.blobs()}
        small = {blob for one in ended for blob in one.blobs() if size_of(blob) < LEAST_ORPHAN_BYTES}
        return [*(one.file for one in ended), *sorted(small - kept - gone)]

    def others(self, names: Set[str], path: Path) -> list[str]:
        return [one.name for one in self._stored() if one.name not in names and path in one.blobs()]

    def _stored(self) -> Iterator[_Stored]:
        for root in self.roots():
            for file in walk(root / "manifests", 5):
                place = file.relative_to(root / "manifests").parts
                manifest = small_json(file, _Manifest) if len(place) == 4 else None
                if manifest is not None:
                    yield _Stored(root, file, place, manifest)


def blob_of_sha256(digest: str) -> Path | None:
    """Whoever named it: only a whole sha256 becomes a path."""
    found = (_blob(root, f"sha256:{digest}") for root in Ollama().roots())
    return next((path for path in found if path is not None), None)


def _model_of(stored: _Stored) -> Found | None:
    """None for what is not one GGUF: tensors by themselves, or weights that a LoRA adapter changes."""
    kinds = [layer.media_type for layer in stored.manifest.layers[:_MAX_LAYERS]]
    if kinds.count(_MODEL) != 1 or _ADAPTER in kinds:
        return None
    blob = _blob(stored.root, stored.manifest.layers[kinds.index(_MODEL)].digest)
    config = stored.manifest.config
    config_blob = _blob(stored.root, config.digest) if config else None
    about = (small_json(config_blob, _Config) if config_blob else None) or _Config()
    if blob is None or about.model_format not in ("", "gguf"):
        return None
    registry, *space, model, tag = stored.place
    ignored = [words for part, words in _IGNORED.items() if f"application/vnd.ollama.image.{part}" in kinds]
    return Found(
        "ollama",
        stored.name,
        blob,
        repo=f"{'/'.join(space)}/{model}" if registry in _HUBS else "",
        file=f"{tag}.gguf" if registry in _HUBS else "",
        family=model if (registry, *space) == (_REGISTRY, _LIBRARY) else "",
        quantization=about.file_type.upper()[:20],
        size_in_billions=_billions(about.model_type),
        note=f"Ollama's {', '.join(ignored)} of it not used: the file's own template is" if ignored else "",
    )


def _blob(root: Path, digest: str) -> Path | None:
    """The file of a digest; only a whole sha256 becomes a path."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        return None
    for separator in "-:":
        path = root / "blobs" / f"sha256{separator}{found[1]}"
        try:
            if path.is_file():
                return path
        except OSError:
            continue
    return None


def _billions(text: str) -> float | None:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([BM])", text)
    return float(found[1]) / (1 if found[2] == "B" else 1000) if found else None

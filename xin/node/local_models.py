"""What can be launched on this machine without fetching anything. All of it reads the disk: call it in a thread."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from xin.catalog.spec import Family, Variant, families, family_of_file
from xin.node import ctranslate2_folder, quantization_choice, safetensors_folder
from xin.node.weights_folders import gguf_files as gguf_files
from xin.node.weights_folders import made_models as made_models
from xin.node.weights_folders import made_models_dir as made_models_dir
from xin.node.weights_found import GGUF, PYTORCH, Found, size_of, weight_files
from xin.node.weights_huggingface import REPO as REPO
from xin.node.weights_huggingface import cached_repo as cached_repo
from xin.node.weights_huggingface import hub_cache as hub_cache
from xin.node.weights_index import WeightsIndex, quantization_of, size_in_billions_of
from xin.protocol.node import LocalModel

GGUF_ENGINE = "llama.cpp"
_ENGINES = {
    GGUF: GGUF_ENGINE,
    PYTORCH: safetensors_folder.ENGINE,
    ctranslate2_folder.FORMAT: ctranslate2_folder.ENGINE,
}


def known_models(model_dirs: Sequence[str]) -> list[LocalModel]:
    """The catalogue's, then all else that any source holds, each under a name that resolve() takes."""
    index, known = WeightsIndex.of_disk(model_dirs), families()
    models = [model for family in known.values() for model in _of_family(family, index)]
    taken = {model.model_name for model in models}
    return [*models, *(local_model(one, known) for one in index.found if one.name not in taken)]


def variant_weights(family: Family, variant: Variant, index: WeightsIndex) -> list[Path] | None:
    """Paths of a catalogued variant's weights; [] when it needs none, None when they are not on this machine."""
    source = variant.source
    if source.kind == "built-in":
        return []
    if source.kind == "bundled":
        package = importlib.util.find_spec(source.package)  # found, never imported
        folders = package.submodule_search_locations if package else None
        path = Path(folders[0], source.file) if folders else None
        return [path] if path is not None and path.exists() else None
    if source.kind == "file":
        path = Path(source.path)
        return [path] if path.exists() else None
    return index.variant_weights(family, variant)


def preferred(here: Sequence[Variant]) -> Variant:
    """The one that a family's bare name stands for: of the first size and format here, the best quantization."""
    first = here[0]
    alike = [one for one in here if (one.size_in_billions, one.format) == (first.size_in_billions, first.format)]
    return quantization_choice.best(alike, lambda one: one.quantization)


def variant_name(family: Family, variant: Variant, here: Sequence[Variant]) -> str:
    """What a variant is launched by: the family's name, with what tells it from others here behind a colon."""
    if variant is preferred(here):
        return family.name
    several = len({one.size_in_billions for one in here}) > 1
    size = _size_tag(variant.size_in_billions) if several else ""
    of_size = [one for one in here if one.size_in_billions == variant.size_in_billions]
    if size and variant is preferred(of_size):
        return f"{family.name}:{size}"
    other = variant.format if variant.quantization == "none" else variant.quantization
    return f"{family.name}:{'-'.join(filter(None, (size, other)))}"


def engine_of(format: str) -> str:
    """The engine that loads weights of that format, where nobody has chosen another."""
    return _ENGINES[format]


def local_model(one: Found, known: Mapping[str, Family]) -> LocalModel:
    family = known.get(one.family) or family_of_file(one.path.name)
    abilities = safetensors_folder.abilities(one.path) if one.format == PYTORCH else []
    return LocalModel(
        model_name=one.name,
        model_engine=engine_of(one.format),
        model_format=one.format,
        quantization=quantization_of(one),
        model_size_in_billions=size_in_billions_of(one),
        model_ability=family.abilities if family else abilities,
        model_lang=family.languages if family else [],
        context_length=family.context_length if family else 0,
        description=one.note,
        source=one.source,
        weights=[str(one.path)],
        size_bytes=one.size_bytes(),
    )


def _of_family(family: Family, index: WeightsIndex) -> list[LocalModel]:
    weighed = [(variant, variant_weights(family, variant, index)) for variant in family.variants]
    here = {id(variant): weights for variant, weights in weighed if weights is not None}
    present = [variant for variant in family.variants if id(variant) in here]
    made: dict[str, LocalModel] = {}
    for variant in present:
        weights, name = here[id(variant)], variant_name(family, variant, present)
        source = next((index.by_path[path].source for path in weights if path in index.by_path), variant.source.kind)
        made.setdefault(name, _catalogued(family, variant, weights, name, source))
    return list(made.values())


def _catalogued(family: Family, variant: Variant, weights: list[Path], name: str, source: str) -> LocalModel:
    return LocalModel(
        model_name=name,
        model_engine=variant.engine,
        model_format=variant.format,
        quantization=variant.quantization,
        model_size_in_billions=variant.size_in_billions,
        model_ability=family.abilities,
        model_lang=family.languages,
        context_length=family.context_length,
        description=family.description,
        source=source,
        weights=[str(path) for path in weights],
        size_bytes=sum(_size_bytes(path) for path in weights),
    )


def _size_bytes(path: Path) -> int:
    return sum(size_of(file) for file in weight_files(path))


def _size_tag(size: float | None) -> str:
    if not size:
        return ""
    return f"{size:g}b" if size >= 1 else f"{size * 1000:g}m"

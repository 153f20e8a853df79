"""The catalogue as the API shows it: families with what is here of each, then what is here of no family."""

from __future__ import annotations

from collections.abc import Sequence

from xin.catalog import memory
from xin.catalog.spec import Family, Variant, built_in_families
from xin.protocol.node import CatalogueEntry, CatalogueModel, LocalModel


def catalogue_models(families: Sequence[Family], here: Sequence[LocalModel]) -> list[CatalogueModel]:
    """Of each name one. `here` is what can be launched without fetching anything."""
    by_name: dict[str, list[LocalModel]] = {}
    names = {family.name for family in families}
    for model in here:
        family_name = model.model_name.partition(":")[0]
        by_name.setdefault(family_name if family_name in names else model.model_name, []).append(model)
    listed = [_of_family(family, by_name.pop(family.name, [])) for family in families]
    return [*listed, *(_found(name, models) for name, models in by_name.items())]


def _of_family(family: Family, here: Sequence[LocalModel]) -> CatalogueModel:
    groups: dict[tuple[object, ...], list[Variant]] = {}
    for one in family.variants:
        source = (one.source.kind, one.source.repo, one.source.package, one.source.path)
        groups.setdefault((one.format, one.engine, one.size_in_billions, *source), []).append(one)
    entries = [_entry(family, group, here) for group in groups.values()]
    catalogued = {(one.format, one.size_in_billions, one.quantization) for one in family.variants}
    entries += [_local_entry(one) for one in here if _key(one) not in catalogued]
    return CatalogueModel(
        model_name=family.name,
        description=family.description,
        model_lang=family.languages,
        model_ability=family.abilities,
        context_length=family.context_length,
        origin="built-in" if family.name in built_in_families() else "registered",
        prompt_style=family.prompt_style,
        chat_sibling=family.chat_sibling,
        sampling=family.sampling,
        notes=family.notes,
        entries=entries,
    )


def _entry(family: Family, group: Sequence[Variant], here: Sequence[LocalModel]) -> CatalogueEntry:
    first = group[0]
    local = {_key(model): model for model in here}
    files = {one.quantization: local.get((one.format, one.size_in_billions, one.quantization)) for one in group}
    return CatalogueEntry(
        model_format=first.format,
        model_engine=first.engine,
        model_size_in_billions=first.size_in_billions,
        quantizations=[one.quantization for one in group],
        source=first.source.kind,
        repo=first.source.repo,
        revision=first.source.revision if first.source.repo else "",
        files=[one.source.file for one in group if one.source.file],
        unverified=any(one.source.unverified for one in group),
        remote_code=any(one.remote_code for one in group),
        here=[quantization for quantization, model in files.items() if model is not None],
        weights_bytes={one.quantization: _weights_bytes(family, one, files[one.quantization]) for one in group},
        kv_bytes=first.kv_bytes_per_token,
    )


def _weights_bytes(family: Family, variant: Variant, here: LocalModel | None) -> int:
    shape = family.shapes.get(f"{variant.size_in_billions or 0:g}")
    if variant.format == "pytorch":  # quantized when it is loaded: its files do not tell
        if shape is not None:
            return memory.pytorch_bytes(shape, variant.quantization)
        return here.size_bytes if here and variant.quantization == "none" else 0
    if known := (here.size_bytes if here else 0) or variant.size_bytes:
        return known
    return memory.gguf_bytes(shape, variant.quantization) if shape else 0


def _found(name: str, models: Sequence[LocalModel]) -> CatalogueModel:
    first = models[0]
    return CatalogueModel(
        model_name=name,
        description=first.description,
        model_lang=first.model_lang,
        model_ability=first.model_ability,
        context_length=first.context_length,
        origin="found",
        entries=[_local_entry(model) for model in models],
    )


def _local_entry(model: LocalModel) -> CatalogueEntry:
    return CatalogueEntry(
        model_format=model.model_format,
        model_engine=model.model_engine,
        model_size_in_billions=model.model_size_in_billions,
        quantizations=[model.quantization],
        source=model.source,
        files=model.weights,
        here=[model.quantization],
        weights_bytes={model.quantization: model.size_bytes},
    )


def _key(model: LocalModel) -> tuple[str, float | None, str]:
    return model.model_format, model.model_size_in_billions, model.quantization

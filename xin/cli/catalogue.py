"""The catalogue on the command line: which of its models a person asks for, and how a row names them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from xin.cli import output
from xin.errors import UsageError
from xin.protocol.node import CatalogueEntry, CatalogueModel, Device

WINDOW = 4096  # tokens whose keys and values must fit beside the weights
OVERHEAD_BYTES = 2**28  # of an engine's process and its compute buffers
MANY_LANGUAGES = "multilingual"
_MOST_SIZES = 3
_MOST_LANGUAGES = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters; None and False leave everything. `sizes` in billions, both ends included; `fits` in bytes."""

    ability: str | None = None
    sizes: tuple[float, float] | None = None
    language: str | None = None
    fits: int | None = None
    downloaded: bool = False

    def of(self, models: Iterable[CatalogueModel]) -> list[CatalogueModel]:
        """The models with the entries and quantizations that pass; those with none of them are left out."""
        named = (model for model in models if self._by_words(model))
        kept = (msgspec.structs.replace(model, entries=list(self._entries(model))) for model in named)
        return [model for model in kept if model.entries]

    def _by_words(self, model: CatalogueModel) -> bool:
        languages = {language.lower() for language in model.model_lang}
        return (self.ability is None or self.ability.lower() in model.model_ability) and (
            self.language is None or bool({self.language.lower(), MANY_LANGUAGES} & languages)
        )

    def _entries(self, model: CatalogueModel) -> Iterator[CatalogueEntry]:
        for entry in model.entries:
            kept = [one for one in entry.quantizations if self._by_bytes(entry, one)]
            if kept and self._by_size(entry.model_size_in_billions):
                yield msgspec.structs.replace(entry, quantizations=kept)

    def _by_size(self, size: float | None) -> bool:
        return self.sizes is None or (size is not None and self.sizes[0] <= size <= self.sizes[1])

    def _by_bytes(self, entry: CatalogueEntry, quantization: str) -> bool:
        if self.downloaded and quantization not in entry.here:
            return False
        if self.fits is None or entry.source == "built-in":
            return True
        weights = entry.weights_bytes.get(quantization, 0)
        return bool(weights) and weights + entry.kv_bytes * WINDOW + OVERHEAD_BYTES <= self.fits


def sizes_of(text: str) -> tuple[float, float]:
    """`7`, `7B`, `135M` and near it; `3-8` from one to the other. Raises UsageError."""
    least, dash, most = text.strip().lower().partition("-")
    try:
        ends = _billions(least), _billions(most) if dash else 0.0
    except ValueError:
        raise UsageError(f"--size {text} is not a size", "write 7, 135M or 3-8 (billions of parameters)") from None
    return ends if dash else (0.9 * ends[0], 1.1 * ends[0])


def roomiest(devices: Sequence[Device]) -> int:
    """Free bytes of the device that has most; 0 where none tells."""
    parents = {device.parent for device in devices if device.parent}
    free = (device.total_bytes if device.free_bytes is None else device.free_bytes for device in devices)
    return max((count for device, count in zip(devices, free, strict=True) if device.id not in parents), default=0)


def row(model: CatalogueModel) -> tuple[Any, ...]:
    """Name, sizes, languages, abilities, context, what is here."""
    return (
        model.model_name,
        _sizes(model),
        _languages(model.model_lang),
        ", ".join(model.model_ability) or "-",
        model.context_length or "-",
        _here(model),
    )


def best_fit(model: CatalogueModel) -> str:
    """The largest that passed, with the most bits of it: `14B Q4_K_M 8.4 GiB`."""
    choices = [
        (entry.model_size_in_billions or 0.0, entry.weights_bytes.get(quantization, 0), quantization)
        for entry in model.entries
        for quantization in entry.quantizations
    ]
    size, weights, quantization = max(choices)
    return " ".join(part for part in (output.billions(size), quantization, output.size(weights)) if part != "-")


def _sizes(model: CatalogueModel) -> str:
    found = sorted({one.model_size_in_billions for one in model.entries if one.model_size_in_billions})
    if len(found) > _MOST_SIZES:
        return f"{output.billions(found[0])} … {output.billions(found[-1])}"
    return ", ".join(map(output.billions, found)) or "-"


def _languages(languages: Sequence[str]) -> str:
    named = [language for language in languages if language != MANY_LANGUAGES]
    more = "many" if len(named) < len(languages) else len(named[_MOST_LANGUAGES:])
    return ", ".join(named[:_MOST_LANGUAGES]) + (f" +{more}" if more else "") or "-"


def _here(model: CatalogueModel) -> str:
    several = len({one.model_size_in_billions for one in model.entries if one.here}) > 1
    found = []
    for entry in model.entries:
        size = f"{output.billions(entry.model_size_in_billions)} " if several else ""
        where = f" ({entry.source})" if model.origin == "found" else ""
        found += [f"{size}{quantization}{where}" for quantization in entry.here if quantization in entry.quantizations]
    return ", ".join(found) or "-"


def _billions(text: str) -> float:
    scale = 1000 if text.endswith("m") else 1
    return float(text.rstrip("bm")) / scale

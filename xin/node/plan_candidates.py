"""What a plan has rows for: the quantizations of one size of a model, here or to be fetched. Reads the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xin.catalog import memory
from xin.catalog.spec import Family, Fetch, ModelSpec, Shape, Variant, families
from xin.errors import BadRequest, ModelNotFound
from xin.node import gguf_file
from xin.node.local_models import GGUF_ENGINE, known_models
from xin.node.resolve import resolve
from xin.protocol.node import LocalModel, PlanRequest

GGUF = "gguf"


@dataclass(slots=True)
class Candidate:
    """One quantization. `path` of a GGUF that is here; bytes and `trained_context` are 0 where they are not known."""

    model_name: str
    quantization: str
    format: str
    engine: str
    size_in_billions: float | None = None
    size_bytes: int = 0
    downloaded: bool = True
    trained_context: int = 0
    kv_bytes_per_token: int = 0
    path: str = ""
    shape: Shape | None = None
    fetch: Fetch | None = None
    without_weights: bool = False

    @property
    def weights_bytes(self) -> int:
        """By formula where no file tells, or where quantization happens at load."""
        if self.shape is not None and self.format == "pytorch":
            return memory.pytorch_bytes(self.shape, self.quantization)
        if self.size_bytes or self.shape is None:
            return self.size_bytes
        return memory.gguf_bytes(self.shape, self.quantization)

    @property
    def per_token(self) -> int:
        """Bytes of keys and values in f16."""
        return memory.kv_bytes_per_token(self.shape) if self.shape else self.kv_bytes_per_token


def candidates(order: PlanRequest, model_dirs: Sequence[str]) -> list[Candidate]:
    """Raises ModelNotFound, BadRequest."""
    name = order.model_name
    known = known_models(model_dirs)
    family = families().get(name.partition(":")[0])
    if family is not None:
        found = _of_family(family, order, known, model_dirs)
    else:
        named = next((model for model in known if model.model_name == name), None)
        group = [model for model in known if named is not None and _group(model) == _group(named)]
        found = [_local(model) for model in group] or [_of_spec(_resolved(order, model_dirs))]
    asked = [one for one in found if _asked(one, order)]
    if not asked:
        there = ", ".join(f"{one.format} {one.quantization}" for one in found) or "nothing"
        raise BadRequest(f"{name} has no such quantization", f"there is: {there}", param="quantization")
    return asked


def _resolved(order: PlanRequest, model_dirs: Sequence[str]) -> ModelSpec:
    return resolve(
        order.model_name,
        size=order.model_size_in_billions,
        format=order.model_format,
        quantization=order.quantization,
        model_dirs=model_dirs,
    )


def _asked(one: Candidate, order: PlanRequest) -> bool:
    """Is it what the order's fields name? Those that are not given name everything."""
    by_quantization = order.quantization is None or order.quantization.lower() == one.quantization.lower()
    return by_quantization and (order.model_format is None or order.model_format.lower() == one.format)


def _of_family(
    family: Family, order: PlanRequest, known: Sequence[LocalModel], model_dirs: Sequence[str]
) -> list[Candidate]:
    """All quantizations and formats of the size that a launch would take."""
    try:
        size = _resolved(order, model_dirs).size_in_billions
    except ModelNotFound:  # only what is bundled, and is not here
        size = family.variants[0].size_in_billions
    here = [model for model in known if model.model_name.partition(":")[0] == family.name]
    here = [model for model in here if model.model_size_in_billions == size]
    there = {(model.model_format, model.quantization.lower()) for model in here}
    alike = [one for one in family.variants if one.size_in_billions == size]
    absent = [one for one in alike if (one.format, one.quantization.lower()) not in there]
    return [*map(_local, here), *(_absent(family, one) for one in absent)]


def _group(model: LocalModel) -> str:
    if model.source == "huggingface":
        return model.model_name.partition(":")[0]
    return gguf_file.base_name(Path(model.weights[0]).name) if model.weights else model.model_name


def _local(model: LocalModel) -> Candidate:
    family = families().get(model.model_name.partition(":")[0])
    made = Candidate(
        model.model_name,
        model.quantization,
        model.model_format,
        model.model_engine,
        model.model_size_in_billions,
        model.size_bytes,
        trained_context=model.context_length,
        path=model.weights[0] if model.weights and model.model_format == GGUF else "",
        without_weights=not model.weights,
    )
    if family is not None:
        made.shape = family.shapes.get(_key(model.model_size_in_billions))
    return made


def _absent(family: Family, variant: Variant) -> Candidate:
    source = variant.source
    size = variant.size_in_billions
    several = len({one.size_in_billions for one in family.variants}) > 1 and size
    tag = (f"{size:g}b-" if size >= 1 else f"{size * 1000:g}m-") if several and size else ""
    what = variant.format if variant.quantization == "none" else variant.quantization
    fetch = Fetch(repo=source.repo, revision=source.revision, files=[source.file] if source.file else [])
    return Candidate(
        f"{family.name}:{tag}{what}",
        variant.quantization,
        variant.format,
        variant.engine,
        size,
        variant.size_bytes,
        downloaded=False,
        trained_context=family.context_length,
        kv_bytes_per_token=variant.kv_bytes_per_token,
        shape=family.shapes.get(_key(size)),
        fetch=fetch if source.repo else None,
    )


def _of_spec(spec: ModelSpec) -> Candidate:
    is_gguf = spec.format == GGUF and spec.engine == GGUF_ENGINE
    return Candidate(
        spec.name,
        spec.quantization,
        spec.format,
        spec.engine,
        spec.size_in_billions,
        sum(gguf_file.size_bytes(Path(path)) for path in spec.weights),
        downloaded=spec.fetch is None,
        trained_context=spec.context_length,
        path=spec.weights[0] if is_gguf and spec.weights else "",
        fetch=spec.fetch,
    )


def _key(size: float | None) -> str:
    return f"{size or 0:g}"

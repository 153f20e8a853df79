"""What a plan has rows for: the quantizations of one size of a model, here or to be fetched. Reads the disk."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xin.catalog import memory
from xin.catalog.spec import Family, Fetch, ModelSpec, Shape, Variant, families
from xin.errors import BadRequest, ModelNotFound
from xin.node import gguf_file
from xin.node.local_models import GGUF_ENGINE, known_models
from xin.node.plan_checkpoint import Checkpoint, of_folder
from xin.node.resolve import PYTORCH_QUANTIZATIONS, resolve
from xin.protocol.node import LocalModel, PlanRequest

GGUF, PYTORCH = "gguf", "pytorch"


@dataclass(slots=True)
class Candidate:
    """One quantization. `path` of a GGUF, `checkpoint` of safetensors that are here.

    Bytes and `trained_context` are 0 where they are not known. `published`: what others told of it, and when.
    """

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
    checkpoint: Checkpoint | None = None
    published: str = ""

    def weights_bytes(self, item_bytes: int = 2) -> int:
        """By formula where no file tells, or where quantization happens at load.

        `item_bytes`: of a PyTorch weight that is not quantized.
        """
        if self.format == PYTORCH and self.checkpoint is not None:
            return memory.checkpoint_bytes(self.checkpoint.tensors, self.quantization, item_bytes=item_bytes)
        if self.format == PYTORCH and self.shape is not None:
            return memory.pytorch_bytes(self.shape, self.quantization, item_bytes=item_bytes)
        if self.size_bytes or self.shape is None:
            return self.size_bytes
        return memory.gguf_bytes(self.shape, self.quantization)

    def learn(self, checkpoint: Checkpoint) -> None:
        """What its headers tell counts before what the catalogue has."""
        self.checkpoint = checkpoint
        self.shape = checkpoint.shape or self.shape
        self.trained_context = checkpoint.trained_context or self.trained_context

    @property
    def per_token(self) -> int:
        """Bytes of keys and values in f16."""
        return memory.kv_bytes_per_token(self.shape) if self.shape else self.kv_bytes_per_token


def candidates(order: PlanRequest, model_dirs: Sequence[str], platform: str = sys.platform) -> list[Candidate]:
    """`platform`: as Python names it. Raises ModelNotFound, BadRequest."""
    name = order.model_name
    known = known_models(model_dirs)
    family = families().get(name.partition(":")[0])
    if family is not None:
        found = _of_family(family, order, known, model_dirs)
    else:
        named = next((model for model in known if model.model_name == name or _of_repo(model, name)), None)
        group = [model for model in known if named is not None and _group(model) == _group(named)]
        found = [local(model) for model in group] or [_of_spec(_resolved(order, model_dirs))]
    found = [one for single in found for one in _loadable(single, found)]
    if family is not None:
        for one in found:
            one.published = _published(family, one, platform)
    asked = [one for one in found if _asked(one, order)]
    if not asked:
        there = ", ".join(f"{one.format} {one.quantization}" for one in found) or "nothing"
        raise BadRequest(f"{name} has no such quantization", f"there is: {there}", param="quantization")
    return asked


def _published(family: Family, one: Candidate, platform: str) -> str:
    """What was told of it on such a platform."""
    here = "macos" if platform == "darwin" else "linux"
    wanted = (here, one.size_in_billions, one.quantization)
    told = (row for row in family.published if (row.platform, row.size_in_billions, row.quantization) == wanted)
    return "; ".join(map(str, told)) if one.format == PYTORCH else ""


def _loadable(one: Candidate, beside: Sequence[Candidate]) -> list[Candidate]:
    """It, and the quantizations that loading makes of it."""
    if one.format != PYTORCH or one.quantization != PYTORCH_QUANTIZATIONS[0]:
        return [one]
    there = {other.quantization for other in beside if other.format == PYTORCH}
    more = [name for name in PYTORCH_QUANTIZATIONS if name not in there]
    return [one, *(replace(one, quantization=name) for name in more)]


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
    others = [one for one in alike if (one.format, one.quantization.lower()) not in there]
    return [*map(local, here), *(absent(family, one) for one in others)]


def _of_repo(model: LocalModel, repo: str) -> bool:
    return model.source == "huggingface" and model.model_name.partition(":")[0] == repo.removeprefix("hf.co/")


def _group(model: LocalModel) -> str:
    if model.source == "huggingface":
        return model.model_name.partition(":")[0]
    return gguf_file.base_name(Path(model.weights[0]).name) if model.weights else model.model_name


def local(model: LocalModel) -> Candidate:
    """Of what can be launched now."""
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
    if model.model_format == PYTORCH and model.weights:
        _read_headers(made, model.weights)
    return made


def absent(family: Family, variant: Variant) -> Candidate:
    """Of what would have to be fetched."""
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


def _read_headers(one: Candidate, weights: Sequence[str]) -> None:
    path = Path(weights[0])
    if (found := of_folder(path if path.is_dir() else path.parent)) is not None:
        one.learn(found)


def _of_spec(spec: ModelSpec) -> Candidate:
    is_gguf = spec.format == GGUF and spec.engine == GGUF_ENGINE
    made = Candidate(
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
    if spec.format == PYTORCH and spec.weights:
        _read_headers(made, spec.weights)
    return made


def of_listed(one: Candidate, ggufs: Sequence[tuple[str, int]]) -> list[Candidate]:
    """One of each (path, bytes) that a repository holds, by quantization; the first of two alike."""
    repo = one.model_name.partition(":")[0]
    found: dict[str, Candidate] = {}
    for path, size in ggufs:
        quantization = gguf_file.quantization_of(Path(path).name)
        if one.fetch is None or quantization in found:
            continue
        fetch = Fetch(repo=one.fetch.repo, revision=one.fetch.revision, files=[path])
        name = f"{repo}:{path}" if quantization == "unknown" else f"{repo}:{quantization}"
        found[quantization] = replace(one, model_name=name, quantization=quantization, size_bytes=size, fetch=fetch)
    return list(found.values())


def _key(size: float | None) -> str:
    return f"{size or 0:g}"

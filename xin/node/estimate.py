"""What of a model would fit where, from file sizes against free memory. Reads the disk: call it in a thread.

weights + keys and values of one full window (where the catalogue knows their size a token) + a little for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xin.backends import engine_class, missing
from xin.catalog.spec import Variant, families
from xin.errors import EngineMissing, UsageError
from xin.installer.status import backends
from xin.node import gguf_file
from xin.node.local_models import GGUF_ENGINE, known_models
from xin.node.resolve import resolve
from xin.protocol.node import Device, LocalModel, Plan, PlanCell, PlanRow, Verdict

OVERHEAD_BYTES = 160 * 2**20  # a worker's Python, llama.cpp and its compute buffers, as measured with small models
USUAL_CONTEXT = 8192
LEAST_CONTEXT = 512
_GGML = {"cuda": "cuda", "rocm": "hip", "metal": "metal"}


@dataclass(slots=True)
class Candidate:
    """One quantization. `kv_bytes` a token; it and `trained_context` are 0 where they are not known."""

    model_name: str
    quantization: str
    format: str
    engine: str
    weights_bytes: int
    downloaded: bool
    trained_context: int
    kv_bytes: int

    def need(self, context: int) -> int:
        return self.weights_bytes + self.kv_bytes * context + (OVERHEAD_BYTES if self.weights_bytes else 0)


def estimate(
    model_name: str, context_length: int | None, devices: Sequence[Device], *, node: str, model_dirs: Sequence[str]
) -> Plan:
    """Rows by size, largest first; cells for accelerators, then for RAM. Raises ModelNotFound, BadRequest."""
    shown = _shown(devices)
    rows = []
    for one in sorted(candidates(model_name, model_dirs), key=lambda one: -one.weights_bytes):
        row = PlanRow(
            model_name=one.model_name,
            quantization=one.quantization,
            model_format=one.format,
            model_engine=one.engine,
            weights_bytes=one.weights_bytes,
            downloaded=one.downloaded,
        )
        lacking = _lacking(one.engine)
        row.cells = [_cell(one, device, shown, context_length, lacking, node) for device in shown]
        rows.append(row)
    return Plan(model_name=model_name, rows=rows)


def candidates(model_name: str, model_dirs: Sequence[str]) -> list[Candidate]:
    """The quantizations of what `model_name` names: of its family, its repository, or its file's base name."""
    known = known_models(model_dirs)
    family = families().get(model_name.partition(":")[0])
    if family is not None:
        of_family = [model for model in known if model.model_name.partition(":")[0] == family.name]
        here = {(model.model_format, model.quantization) for model in of_family}
        absent = [one for one in family.variants if (one.format, one.quantization) not in here]
        return [*map(_local, of_family), *(_absent(family.name, family.context_length, one) for one in absent)]
    named = next((model for model in known if model.model_name == model_name), None)
    if named is not None:
        group = _group(named)
        return [_local(model) for model in known if _group(model) == group]
    spec = resolve(model_name, model_dirs=model_dirs)
    size = sum(gguf_file.size_bytes(Path(path)) for path in spec.weights)
    return [Candidate(model_name, spec.quantization, spec.format, spec.engine, size, True, spec.context_length, 0)]


def _group(model: LocalModel) -> str:
    if model.source == "huggingface":
        return model.model_name.partition(":")[0]
    return gguf_file.base_name(Path(model.weights[0]).name) if model.weights else model.model_name


def _local(model: LocalModel) -> Candidate:
    return Candidate(
        model.model_name,
        model.quantization,
        model.model_format,
        model.model_engine,
        model.size_bytes,
        True,
        model.context_length,
        _kv_bytes(model),
    )


def _absent(name: str, context_length: int, variant: Variant) -> Candidate:
    kv_bytes = variant.kv_bytes_per_token
    return Candidate(name, variant.quantization, variant.format, variant.engine, 0, False, context_length, kv_bytes)


def _kv_bytes(model: LocalModel) -> int:
    """Of a catalogued size of its family: the quantization of the weights does not change them."""
    family = families().get(model.model_name.partition(":")[0])
    variants = family.variants if family else []
    same = (one for one in variants if one.size_in_billions == model.model_size_in_billions)
    return max((one.kv_bytes_per_token for one in same), default=0)


def _shown(devices: Sequence[Device]) -> list[Device]:
    """Accelerators before RAM; not those that are cut into others."""
    parents = {device.parent for device in devices if device.parent}
    whole = [device for device in devices if device.id not in parents]
    return sorted(whole, key=lambda device: device.kind == "cpu")


def _lacking(engine: str) -> str:
    """Why no device can run the engine; empty when it is here."""
    try:
        lacking = missing(engine_class(engine))
    except (UsageError, EngineMissing):
        return f"there is no engine {engine}"
    return f"{engine} is not installed: xin engines install {engine}" if lacking else ""


def _cell(
    one: Candidate, device: Device, devices: list[Device], context: int | None, lacking: str, node: str
) -> PlanCell:
    asked = context or min(one.trained_context or USUAL_CONTEXT, USUAL_CONTEXT)
    free = device.free_bytes if device.free_bytes is not None else device.total_bytes
    verdict, longest, reason = _judge(one, device, devices, asked, free)
    if problem := lacking or _no_backend(one, device):
        verdict, reason = "no_engine", problem
    elif not one.downloaded:
        reason = "its weights are not here, so their size is not known"
    return PlanCell(
        node=node,
        device_id=device.id,
        device_name=device.name,
        free_bytes=free,
        need_bytes=one.need(asked),
        verdict=verdict,
        max_context=longest,
        reason=reason,
    )


def _judge(one: Candidate, device: Device, devices: list[Device], asked: int, free: int) -> tuple[Verdict, int, str]:
    """(verdict, longest context, why not wholly)."""
    need = one.need(asked)
    longest = one.trained_context
    if one.kv_bytes:
        longest = max(0, min(longest or asked, (free - one.need(0)) // one.kv_bytes))
    if need <= free:
        return "fits", longest, ""
    if one.kv_bytes and longest >= LEAST_CONTEXT:
        return "partial", longest, f"at most {longest} tokens of context"
    short = need - free
    ram = sum(other.free_bytes or 0 for other in devices if other.kind == "cpu")
    if device.kind != "cpu" and not device.unified and short <= ram and free > 0:
        return "partial", one.trained_context, f"{_gib(short)} of it would stay in RAM: slower"
    return "no", 0, f"short by {_gib(short)}"


def _no_backend(one: Candidate, device: Device) -> str:
    if one.engine != GGUF_ENGINE or device.kind == "cpu":
        return ""
    built = backends()
    wanted = _GGML.get(device.kind, device.kind)
    if wanted in built or "vulkan" in built:
        return ""
    return f"llama.cpp was built without {wanted}: xin engines install llama.cpp --build --{device.kind}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"

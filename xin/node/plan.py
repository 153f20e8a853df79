"""Which quantization of a model would fit on which device of this node, with how much context; and launches that do
not fit are refused. Files that are here are counted by llama.cpp itself, the others by formulas.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from xin import paths
from xin.backends import engine_class, missing
from xin.catalog.spec import Fetch, ModelSpec
from xin.errors import EngineMissing, OutOfMemory, UsageError, XinError, from_code
from xin.installer.status import backends
from xin.node import quantization_choice
from xin.node.dry_run_book import DryRunBook
from xin.node.dry_runs import TIMED_OUT, DryRuns
from xin.node.gpu_choice import visible
from xin.node.launch_plan import LaunchPlan
from xin.node.local_models import GGUF_ENGINE
from xin.node.plan_candidates import GGUF, PYTORCH, Candidate, candidates, of_listed
from xin.node.plan_checkpoint import Checkpoint
from xin.node.plan_choice import Choice, alternatives, lessens, shortens, told
from xin.node.plan_need import PROCESS_BYTES, Need, compute_bytes, counted, estimated
from xin.node.plan_pytorch import item_bytes, no_quantizer
from xin.node.plan_verdict import Judgement, free_bytes, gib, judge
from xin.node.resolve import names_file, resolve
from xin.protocol.node import Device, Plan, PlanCell, PlanRequest, PlanRow
from xin.worker.options import convert_options

MOST_HEADERS = 2  # that one plan fetches: a few MB each
_GGML = {"cuda": "cuda", "rocm": "hip", "metal": "metal"}


class Headers(Protocol):
    """Where headers of files that are not here come from; see RemoteHeaders."""

    async def sparse(self, fetch: Fetch) -> str | None: ...

    async def checkpoint(self, fetch: Fetch) -> Checkpoint | None: ...

    async def ggufs(self, fetch: Fetch) -> list[tuple[str, int]]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """The node of a plan."""

    name: str
    devices: Sequence[Device]


class Planner:
    """`place()` is the node as it is now. `headers`: None = what is not here is estimated."""

    def __init__(
        self, model_dirs: Sequence[str], place: Callable[[], Awaitable[Place]], platform: str = sys.platform
    ) -> None:
        self.runs = DryRuns(DryRunBook(paths.cache_dir() / "dry-runs.json"))
        self.headers: Headers | None = None
        self.together: Callable[[Need], Awaitable[str]] | None = None  # the flag by which several nodes hold it
        self._model_dirs = model_dirs
        self._place = place
        self._platform = platform

    async def close(self) -> None:
        await self.runs.close()

    async def plan(self, order: PlanRequest) -> Plan:
        """Raises ModelNotFound, BadRequest naming the field."""
        listed = await asyncio.to_thread(candidates, order, self._model_dirs, self._platform)
        listed = await self._listed_by_hub(listed)
        options = await asyncio.to_thread(lambda: checked_options(order.options, _engine_of(listed)))
        place = await self._place()
        lacking = await asyncio.to_thread(lambda: {one.engine: lacking_engine(one.engine) for one in listed})
        paths = await self._paths(listed)
        needs = await asyncio.gather(
            *(self._need(one, path, options, lacking[one.engine]) for one, path in zip(listed, paths, strict=True))
        )
        pairs = sorted(zip(listed, needs, strict=True), key=lambda pair: -pair[1].weights)
        rows = await asyncio.to_thread(
            lambda: [_row(one, need, place, lacking[one.engine], options) for one, need in pairs]  # it looks at builds
        )
        return Plan(model_name=order.model_name, estimate=any(row.estimate for row in rows), rows=rows)

    async def check_launch(self, launch: LaunchPlan) -> Choice:
        """What the launch leaves open and must be otherwise, so that it fits.

        Raises LoadFailed or the like for a file that llama.cpp does not take, OutOfMemory for one that does not fit.
        Of a file that is not here its header is fetched. What cannot be counted passes: the worker will tell.
        """
        spec, options = launch.spec, launch.options
        if spec.engine != GGUF_ENGINE or spec.format != GGUF:
            return Choice()
        path = spec.weights[0] if spec.weights else await self._header(spec.fetch)
        if not path:
            return Choice()
        try:
            size = await self.runs.sizes(path, [options], gpu=launch.request.gpu)
        except OSError:
            return Choice()
        if size.error:
            if size.code != TIMED_OUT:
                raise from_code(size.code, size.error, hint=size.hint, param=size.param)
            return Choice()
        need = counted(size)
        if launch.request.force or launch.request.shard or need.error:  # what is divided is counted where it is
            return Choice()
        place = await self._place()
        devices = visible(place.devices, launch.request.gpu)
        ram = [device for device in devices if device.kind == "cpu"]
        if size.gpu_layers:  # llama.cpp divides it; refused is what all devices together do not hold
            short = need.total + PROCESS_BYTES - sum(map(free_bytes, _shown(devices)))
            if short > 0 and ram:
                raise await self._refusal(spec, options, need, ram[0], short)
            return Choice()
        free = sum(map(free_bytes, ram))
        short = need.total + PROCESS_BYTES - free
        if not ram or short <= 0:
            return Choice()
        changes = alternatives(options, need.window, size.slides)
        chosen = (
            await self._fitting(path, options, [one for one in changes if not shortens(one)], free)
            or await self._other_quantization(launch, ram[0])
            or await self._fitting(path, options, [one for one in changes if shortens(one)], free)
        )
        if chosen is None:
            refusal = await self._refusal(spec, options, need, ram[0], short)
            refusal.short_bytes = short
            raise refusal
        return replace(chosen, lacks=short) if lessens(chosen) else chosen

    async def _other_quantization(self, launch: LaunchPlan, device: Device) -> Choice | None:
        """The best that fits with all that was asked for, when the launch names none.

        Of those that are here; of all, when the launch would have to fetch one anyway.
        """
        request, spec = launch.request, launch.spec
        is_file: bool = await asyncio.to_thread(names_file, request.model_name)
        if request.quantization or request.model_path or is_file:
            return None
        order = PlanRequest(
            model_name=request.model_name,
            model_size_in_billions=spec.size_in_billions,
            model_format=GGUF,
            options=launch.options,
        )
        plan = await self._plan_or_none(order)
        fitting = [
            row
            for row in (plan.rows if plan else [])
            if (row.downloaded or spec.fetch is not None)
            and row.quantization != spec.quantization
            and any(cell.device_id == device.id and cell.verdict == "fits" for cell in row.cells)
        ]
        if not fitting:
            return None
        row = quantization_choice.best(fitting, lambda row: row.quantization)
        other = await asyncio.to_thread(
            resolve,
            request.model_name,
            size=spec.size_in_billions,
            format=GGUF,
            quantization=row.quantization,
            engine=request.model_engine,
            model_dirs=self._model_dirs,
        )
        note = f"takes {row.quantization}: {spec.quantization} is too large for the {gib(free_bytes(device))} free"
        return Choice(notes=[note], spec=other)

    async def _fitting(
        self, path: str, options: dict[str, Any], changes: list[dict[str, Any]], free: int
    ) -> Choice | None:
        """The smallest change with which it fits."""
        if not changes:
            return None
        try:
            size = await self.runs.sizes(path, [{**options, **change} for change in changes])
        except OSError:
            return None
        for change, context in zip(changes, size.contexts, strict=False):
            total = size.weights_bytes + context.kv_bytes + compute_bytes(context)
            if not context.error and total + PROCESS_BYTES <= free:
                return Choice(change, told(change, gib(free)))
        return None

    async def _refusal(
        self, spec: ModelSpec, options: dict[str, Any], need: Need, device: Device, short: int
    ) -> OutOfMemory:
        free = free_bytes(device)
        message = (
            f"{spec.name} {spec.quantization} with {need.window} tokens of context does not fit: it needs "
            f"{gib(need.total + PROCESS_BYTES)}, {gib(free)} are free: short by {short} bytes ({gib(short)})"
        )
        offers: list[str] = []
        plan = await self._plan_or_none(PlanRequest(model_name=spec.name, options={**options}))
        for row in plan.rows if plan else []:
            cell = next((cell for cell in row.cells if cell.device_id == device.id), None)
            if cell is None or row.model_format != GGUF:
                continue
            if row.quantization == spec.quantization and cell.verdict == "partial":
                offers.insert(0, f"--context-length {cell.max_context} fits")
            elif row.quantization != spec.quantization and cell.verdict == "fits":
                offers.append(f"{row.model_name} ({row.quantization}) fits")
        flags = []
        if self.together is not None and (flag := await self.together(need)):
            flags = [f"{flag} holds it together"]
        hint = "; ".join([*offers[:2], *flags, "--force launches it all the same"])
        return OutOfMemory(message, hint, param="context_length" if offers else None)

    async def _header(self, fetch: Fetch | None) -> str | None:
        return await self.headers.sparse(fetch) if fetch is not None and self.headers is not None else None

    async def _plan_or_none(self, order: PlanRequest) -> Plan | None:
        try:
            return await self.plan(order)
        except XinError:
            return None

    async def _listed_by_hub(self, listed: Sequence[Candidate]) -> list[Candidate]:
        """A repository of GGUFs that names no file is a candidate for each; one of safetensors has its headers read."""
        if self.headers is None:
            return [*listed]
        found: list[Candidate] = []
        for one in listed:
            if one.fetch is not None and one.format == GGUF and not one.fetch.files:
                found += of_listed(one, await self.headers.ggufs(one.fetch)) or [one]
                continue
            if one.fetch is not None and one.format == PYTORCH and one.shape is None:
                checkpoint = await self.headers.checkpoint(one.fetch)
                if checkpoint is not None:
                    one.learn(checkpoint)
            found.append(one)
        return found

    async def _paths(self, listed: Sequence[Candidate]) -> list[str]:
        """Of files to count; headers of others are fetched when few rows need one."""
        absent = [one for one in listed if one.fetch is not None and one.format == GGUF and not one.path]
        found: dict[int, str | None] = {}
        if self.headers is not None and len(absent) <= MOST_HEADERS:
            found = {id(one): await self.headers.sparse(one.fetch) for one in absent if one.fetch is not None}
        return [one.path or found.get(id(one)) or "" for one in listed]

    async def _need(self, one: Candidate, path: str, options: dict[str, Any], lacking: str) -> Need:
        if one.format != GGUF or one.engine != GGUF_ENGINE or lacking or not path:
            return estimated(one, options)
        try:
            size = await self.runs.sizes(path, [options], ladder=True)
        except OSError as exc:
            return Need(weights=one.size_bytes, error=f"cannot read {path}: {exc.strerror}")
        if size.code == TIMED_OUT:
            return estimated(one, options)
        need = counted(size)
        need.weights = need.weights or one.size_bytes
        return need


def checked_options(options: Mapping[str, Any], engine_name: str = GGUF_ENGINE) -> dict[str, Any]:
    """Those given, as the engine takes them. Raises BadRequest naming `options.FIELD`."""
    engine = engine_class(engine_name)
    try:
        all_options = msgspec.to_builtins(convert_options(engine, dict(options)))
    except XinError as exc:
        exc.param = f"options.{exc.param}" if exc.param else "options"
        raise
    return {key: all_options[key] for key, value in options.items() if value is not None}


def _engine_of(listed: Sequence[Candidate]) -> str:
    """Whose options an order has: llama.cpp's, unless all of it is for another engine that is a part of xin."""
    engines = {one.engine for one in listed}
    if len(engines) == 1 and GGUF_ENGINE not in engines:
        [engine] = engines
        if not _unknown(engine):
            return engine
    return GGUF_ENGINE


def _row(one: Candidate, need: Need, place: Place, lacking: str, options: Mapping[str, Any]) -> PlanRow:
    shown = _shown(place.devices)
    row = PlanRow(
        model_name=one.model_name,
        quantization=one.quantization,
        model_format=one.format,
        model_engine=one.engine,
        model_size_in_billions=one.size_in_billions,
        weights_bytes=need.weights,
        downloaded=one.downloaded,
        estimate=not need.exact and not one.without_weights,
        context_length=need.window,
        trained_context=need.trained_context,
        kv_bytes=need.kv,
        compute_bytes=need.compute,
        overhead_bytes=PROCESS_BYTES if need.weights else 0,
        layers=len(need.layers) or (one.shape.layers if one.shape else 0),
        architecture=need.architecture,
        error=need.error,
        published=one.published,
    )
    for device in shown:
        there = need if one.format != PYTORCH else estimated(one, options, item_bytes(one, device))
        row.cells.append(_cell(one, there, device, shown, lacking, place.name))
    return row


def _cell(one: Candidate, need: Need, device: Device, shown: Sequence[Device], lacking: str, node: str) -> PlanCell:
    found = judge(need, device, shown)
    if problem := lacking or _no_backend(one, device) or no_quantizer(one, device):
        found.verdict, found.reason = "no_engine", problem
    elif need.error:
        found = Judgement("no", found.need, reason=need.error)
    elif not need.weights and not one.without_weights:
        found.reason = "its weights are not here, so their size is not known"
    elif one.format == PYTORCH and device.kind == "cpu" and item_bytes(one, device) > item_bytes(one):
        found.reason = "; ".join(filter(None, (found.reason, "in float32: this CPU has no instructions for bf16")))
    return PlanCell(
        node=node,
        device_id=device.id,
        device_name=device.name,
        free_bytes=free_bytes(device),
        need_bytes=found.need,
        verdict=found.verdict,
        max_context=found.max_context,
        n_gpu_layers=found.n_gpu_layers,
        reason=found.reason,
    )


def _shown(devices: Sequence[Device]) -> list[Device]:
    """Accelerators before RAM; not those that are cut into others."""
    parents = {device.parent for device in devices if device.parent}
    whole = [device for device in devices if device.id not in parents]
    return sorted(whole, key=lambda device: device.kind == "cpu")


def lacking_engine(engine: str) -> str:
    """Why no device can run the engine; empty when it is here."""
    if _unknown(engine):
        return f"no engine loads this: {engine} is not one of this xin's"
    return f"{engine} is not installed: xin engines install {engine}" if missing(engine_class(engine)) else ""


def _unknown(engine: str) -> bool:
    try:
        engine_class(engine)
    except (UsageError, EngineMissing):
        return True
    return False


def _no_backend(one: Candidate, device: Device) -> str:
    if one.engine != GGUF_ENGINE or device.kind == "cpu":
        return ""
    built = backends()
    wanted = _GGML.get(device.kind, device.kind)
    if wanted in built or "vulkan" in built:
        return ""
    return f"llama.cpp was built without {wanted}: xin engines install llama.cpp --build --{device.kind}"

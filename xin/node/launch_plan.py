"""A launch request, checked and resolved: what will run, before anything runs. Reads the disk: make it in a thread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from xin.backends import require
from xin.catalog.spec import ModelSpec
from xin.config import NodeConfig
from xin.errors import BadRequest, XinError
from xin.node.hub import is_offline
from xin.node.keep_alive import parse_keep_alive
from xin.node.local_models import GGUF_ENGINE
from xin.node.resolve import on_disk, resolve
from xin.protocol.node import RESERVED_UIDS, UID_HINT, UID_PATTERN, LaunchRequest
from xin.worker.options import convert_options

_OFFLINE = "HF_HUB_OFFLINE is set: unset it and start the node again, or fetch it with: hf download"
_UID = re.compile(UID_PATTERN)
_LONGEST_BASE = 120
MOST_REPLICAS = 64
_MODEL_TYPES = frozenset({"llm", "embedding", "rerank", "audio"})


@dataclass(slots=True)
class LaunchPlan:
    """`options` are those given; `all_options` have the engine's defaults too, so that equal plans are equal."""

    request: LaunchRequest
    spec: ModelSpec
    options: dict[str, Any]
    all_options: dict[str, Any]
    keep_alive: float | None

    def same_model(self, other: LaunchPlan) -> bool:
        own, others = (plan.request.shard for plan in (self, other))
        return self.spec == other.spec and self.all_options == other.all_options and own == others

    @property
    def threads(self) -> int | None:
        """The launch's own limit, when its engine has one."""
        threads = self.options.get("threads")
        return threads if isinstance(threads, int) and threads > 0 else None

    @property
    def base_uid(self) -> str:
        """The uid that a launch without one gets, if it is free."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.spec.name).lstrip("._-")[:_LONGEST_BASE] or "model"
        return f"{name}-1" if name in RESERVED_UIDS else name


def make_plan(request: LaunchRequest, config: NodeConfig, *, preferred_engine: str = "") -> LaunchPlan:
    """`spec.fetch`: what must be downloaded first. Raises BadRequest naming the field, ModelNotFound, EngineMissing."""
    _check_fields(request)
    keep_alive = parse_keep_alive(request.keep_alive)
    resolved = resolve(
        request.model_name,
        size=request.model_size_in_billions,
        format=request.model_format,
        quantization=request.quantization,
        engine=request.model_engine,
        model_path=request.model_path,
        model_dirs=config.model_dirs,
    )
    spec = on_disk(resolved, _OFFLINE) if is_offline() else resolved
    if preferred_engine and not request.model_engine and spec.format in require(preferred_engine).formats:
        spec.engine = preferred_engine
    try:
        engine = require(spec.engine)
    except XinError:
        if not request.model_engine:
            on_disk(spec, _no_engine(spec))  # nothing is downloaded that nothing here loads
        raise
    if spec.format not in engine.formats:
        takes = ", ".join(sorted(engine.formats))
        message = f"engine {spec.engine} cannot load {spec.format} ({spec.name})"
        raise BadRequest(message, f"{spec.engine} takes: {takes}", param="model_engine")
    if request.shard and spec.engine != GGUF_ENGINE:
        hint = f"leave shard out, or take a GGUF with {GGUF_ENGINE}"
        raise BadRequest(f"shard: {spec.engine} cannot divide a model over nodes", hint, param="shard")
    spec.sampling = {**engine.sampling_defaults, **spec.sampling}
    all_options: dict[str, Any] = msgspec.to_builtins(convert_options(engine, request.options))
    options = {key: all_options[key] for key, value in request.options.items() if value is not None}
    return LaunchPlan(request, spec, options, all_options, keep_alive)


def check_uid(uid: str) -> None:
    """Raises BadRequest for a uid that is no name, or that a route of the API has."""
    if not _UID.fullmatch(uid):
        raise BadRequest(f"{uid[:140]!r} is not a model uid", UID_HINT, param="model_uid")
    if uid in RESERVED_UIDS:
        raise BadRequest(f"{uid!r} is a word of the API, not a model uid", "choose another name", param="model_uid")


def check_replica(count: int) -> None:
    """Raises BadRequest for what is no number of replicas on one node."""
    if not 1 <= count <= MOST_REPLICAS:
        hint = "to end it: xin terminate UID" if count < 1 else "spread them over more nodes"
        raise BadRequest(f"replica is {count}: from 1 to {MOST_REPLICAS} on one node", hint, param="replica")


def _no_engine(spec: ModelSpec) -> str:
    repo = spec.fetch.repo if spec.fetch else "org/repo"
    return (
        f"no {spec.engine} here loads {spec.format}; if it holds GGUF files, name one: {repo}:FILE.gguf, {repo}:Q4_K_M"
    )


def _check_fields(request: LaunchRequest) -> None:
    if request.model_uid is not None:
        check_uid(request.model_uid)
    if not request.model_name:
        raise BadRequest("model_name is empty", "xin list --all shows those that there are", param="model_name")
    check_replica(request.replica)
    if request.shard and "n_gpu_layers" in request.options:
        raise BadRequest(
            "n_gpu_layers: the nodes of shard divide the layers by free memory", "leave it out", param="n_gpu_layers"
        )
    if request.shard and request.replica > 1:
        raise BadRequest("replica: a model that is divided over nodes runs once", "leave it out", param="replica")
    if request.model_type is not None and request.model_type.lower() not in _MODEL_TYPES:
        raise BadRequest(f"model_type {request.model_type!r} is not supported", "leave it out", param="model_type")

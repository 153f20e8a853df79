"""xin's own calls of a node's API, written once: arguments to request, reply to value."""

from __future__ import annotations

from typing import Any

import msgspec

from xin.client.exchange import Call, Request, Stream, event_reader, exchange, reader
from xin.client.request import Json, encode, get, launch_with, model_path, nothing, post, segment, uid_segment
from xin.protocol.doctor import Checkup
from xin.protocol.node import (
    CatalogueModel,
    Cluster,
    Event,
    FilesRemoved,
    Instance,
    Job,
    JobAction,
    LaunchReply,
    LaunchRequest,
    LocalModel,
    LogLine,
    NodeInfo,
    OptionSpec,
    Plan,
    Recommendations,
    RemoveFiles,
    ScaleReply,
    WeightFiles,
)
from xin.protocol.openai import Model, ModelList


class Progress(msgspec.Struct):
    """How far a launch is: `progress` from 0 to 1."""

    progress: float
    stage: str
    instance: Instance | None = None


class Health(msgspec.Struct):
    status: str
    version: str


def health() -> Call[Health]:
    return get("/health", Health)


def node() -> Call[NodeInfo]:
    """The node itself: devices, engines, version."""
    return get("/api/node", NodeInfo)


def cluster() -> Call[Cluster]:
    """The node and those that it sees."""
    return get("/api/cluster", Cluster)


def doctor() -> Call[Checkup]:
    """What is well with the node, its machine, network and cluster, and what is not."""
    return get("/api/doctor", Checkup)


def instances() -> Call[list[Instance]]:
    """Every launch on the node, in whatever state."""
    return get("/api/instances", list[Instance])


def models() -> Call[list[Model]]:
    """What can be asked by its uid, in OpenAI's shape."""
    listed = yield from get("/v1/models", ModelList)
    data: list[Model] = listed.data
    return data


def local_models() -> Call[list[LocalModel]]:
    """What the node can launch."""
    return get("/api/models", list[LocalModel])


def catalogue() -> Call[list[CatalogueModel]]:
    """All that could be launched: families, with what is here of each, then what is here of no family."""
    return get("/api/catalogue", list[CatalogueModel])


def recommend(n: int = 5, ability: str = "chat", *, here: bool = False) -> Call[Recommendations]:
    """What the nodes of the cluster run well, the best first; `here`: only the node that is asked."""
    only = {"here": "true"} if here else {}
    return get("/api/recommend", Recommendations, {"n": str(n), "ability": ability, **only})


def launch(request: LaunchRequest, *, wait: bool = True, on_demand: bool = False) -> Call[str]:
    """Launch a model and give its uid; `wait` until it is ready, or has failed with the cause.

    `on_demand`: it may be unloaded when idle, and does not come back when the node starts again.
    """
    reply = yield from launch_with(_fields(request), wait=wait, on_demand=on_demand)
    return reply.model_uid


def launch_anywhere(request: LaunchRequest, *, on_demand: bool = False) -> Call[LaunchReply]:
    """As `launch` without waiting; also tells which node of the cluster has it, and why that one."""
    return launch_with(_fields(request), wait=False, on_demand=on_demand)


def scale(uid: str, replica: int, *, wait: bool = True) -> Call[ScaleReply]:
    """Run so many replicas in all, over the nodes; those that are too many answer what they have, and end then."""
    params = {} if wait else {"wait_ready": "false"}
    body = encode({"replica": replica})
    return exchange(Request("POST", f"{model_path(uid)}/scale", params, body, timeout=None), reader(ScaleReply))


def terminate(uid: str, *, kill: bool = False, here: bool = False) -> Call[None]:
    """End it, all replicas on all nodes, or those of this node; `kill` its process at once, even one that hangs."""
    params = {name: "true" for name, wanted in (("kill", kill), ("here", here)) if wanted}
    return exchange(Request("DELETE", model_path(uid), params, timeout=None), nothing)


def cancel_launch(uid: str) -> Call[None]:
    return exchange(Request("POST", f"{model_path(uid)}/cancel", timeout=None), nothing)


def progress(uid: str) -> Call[Progress]:
    return get(f"{model_path(uid)}/progress", Progress)


def events(*, samples: bool = False, peer: bool = False) -> Stream[Event]:
    """What happens on the node, a snapshot first; `samples` adds devices and workers once a second.

    `peer`: only what the node tells of itself, nothing of other nodes.
    """
    params = {name: "1" for name, wanted in (("samples", samples), ("peer", peer)) if wanted}
    return Stream(Request("GET", "/api/events", params, timeout=60.0), event_reader(Event))


def proof(challenge: str) -> Call[dict[str, str]]:
    """A node's answer to `challenge`, which shows that it holds the nonce of its file."""
    return exchange(Request("GET", "/api/proof", {"challenge": challenge}, timeout=3.0), reader(dict[str, str]))


def logs(uid: str, *, tail: int = 200) -> Call[list[LogLine]]:
    """The last lines of an instance's log."""
    return get(f"/api/logs/{uid_segment(uid)}", list[LogLine], {"tail": str(tail)})


def follow_logs(uid: str, *, tail: int = 200) -> Stream[LogLine]:
    """The last lines, then those that come."""
    params = {"tail": str(tail), "follow": "1"}
    return Stream(Request("GET", f"/api/logs/{uid_segment(uid)}", params, timeout=60.0), event_reader(LogLine))


def jobs() -> Call[list[Job]]:
    """What the node works at and the last of what it did, oldest first."""
    return get("/api/jobs", list[Job])


def job(job_id: str) -> Call[Job]:
    return get(f"/api/jobs/{segment(job_id, 'id')}", Job)


def job_log(job_id: str) -> Call[list[LogLine]]:
    return get(f"/api/jobs/{segment(job_id, 'id')}/log", list[LogLine])


def start_job(kind: str, **fields: Any) -> Call[Job]:
    """launch: LaunchRequest's fields · install: name, build, accelerator · quantize: source, quantization, name."""
    return post("/api/jobs", {"kind": kind, **fields}, Job)


def job_action(job_id: str, action: JobAction) -> Call[Job]:
    """The job afterwards; with retry the new one."""
    return exchange(
        Request("POST", f"/api/jobs/{segment(job_id, 'id')}/{segment(action, 'action')}", timeout=None), reader(Job)
    )


def plan(model_name: str, options: Json | None = None, **fields: Any) -> Call[Plan]:
    """Which quantization of a model would fit on which device. `fields`: others of PlanRequest."""
    return post("/api/plan", {"model_name": model_name, "options": options or {}, **fields}, Plan)


def engine_options(engine: str) -> Call[list[OptionSpec]]:
    """The launch options that an engine takes."""
    return get(f"/api/engines/{segment(engine, 'engine')}/options", list[OptionSpec])


def files() -> Call[WeightFiles]:
    """Every weight file on the node's machine, with its size and who uses it."""
    return get("/api/files", WeightFiles)


def remove_files(name: str, *, foreign: bool = False, dry_run: bool = False) -> Call[FilesRemoved]:
    """Remove the weights of a model, or a weight file by its path; `foreign`: also other programs'."""
    order = RemoveFiles(name=name, foreign=foreign, dry_run=dry_run)
    return post("/api/files/remove", msgspec.to_builtins(order), FilesRemoved)


def stop() -> Call[None]:
    """Ask the node to drain and end."""
    return exchange(Request("POST", "/api/stop"), nothing)


def _fields(request: LaunchRequest) -> Json:
    fields = {key: value for key, value in msgspec.to_builtins(request).items() if value is not None}
    return {**fields.pop("options"), **fields}

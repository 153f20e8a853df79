"""Read-only routes that the unmodified xinference-client asks for besides /v1/models."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from xin import __version__
from xin.node.keys import IDENTITY, MANAGER, SAMPLER
from xin.node.routes.body import flag, json_response
from xin.protocol.node import Device, Instance

_STATUS = {
    "downloading": "CREATING",
    "loading": "LOADING",
    "ready": "READY",
    "stopping": "TERMINATING",
    "failed": "ERROR",
}


async def instances(request: web.Request) -> web.Response:
    """Filtered by `model_name` and `model_uid`; the key `instance` holds all that this node knows."""
    name, uid = request.query.get("model_name"), request.query.get("model_uid")
    address = request.app[IDENTITY].endpoint
    running = request.app[MANAGER].instances()
    found = [
        _instance(instance, [one for one in running if one.served_uid == instance.model_uid], address)
        for instance in running
        if not instance.serves
        if name in (None, "", instance.model_name) and uid in (None, "", instance.model_uid)
    ]
    return json_response(found)


async def auth(request: web.Request) -> web.Response:
    """What the client asks first: whether a key is needed."""
    return json_response({"auth": request.app[IDENTITY].keyed})


async def info(request: web.Request) -> web.Response:
    devices = await request.app[SAMPLER].current()
    accelerators = [device for device in devices if device.kind != "cpu"]
    memory = sum(device.total_bytes for device in accelerators)
    worker: dict[str, Any] = {
        "node_type": "Worker",
        "ip_address": request.app[IDENTITY].host,
        "gpu_count": len(accelerators),
        "gpu_vram_total": f"{memory >> 20}MiB",
    }
    if flag(request, "detailed"):
        worker |= _details(devices, accelerators)
    return json_response([worker])


async def version(request: web.Request) -> web.Response:
    return json_response({"version": __version__, "full-revisionid": __version__, "server": "xin"})


async def devices(request: web.Request) -> web.Response:
    found = await request.app[SAMPLER].current()
    return json_response(sum(device.kind != "cpu" for device in found))


def _instance(instance: Instance, replicas: list[Instance], address: str) -> dict[str, Any]:
    status, created = _STATUS[instance.state], int(instance.launched_at)
    return {
        "model_name": instance.model_name,
        "model_uid": instance.model_uid,
        "model_version": None,
        "model_ability": instance.model_ability,
        "replica": instance.replica,
        "status": status,
        "instance_created_ts": created,
        "n_worker": 1,
        "replica_statuses": [_replica(number, one, address) for number, one in enumerate(replicas)],
        "instance": instance,
    }


def _replica(number: int, instance: Instance, address: str) -> dict[str, Any]:
    return {
        "replica_id": number,
        "replica_model_uid": f"{instance.served_uid}-{number}",
        "worker_address": address,
        "status": _STATUS[instance.state],
        "model_state": instance.state,
        "created_ts": int(instance.launched_at),
        "error_message": instance.cause,
    }


def _details(devices: list[Device], accelerators: list[Device]) -> dict[str, Any]:
    host = next((device for device in devices if device.kind == "cpu"), None)
    busy = [device.utilization for device in accelerators if device.utilization is not None]
    free = None if host is None else host.free_bytes
    total = 0 if host is None else host.total_bytes
    return {
        "cpu_count": host.cores if host else None,
        "mem_total": total,
        "mem_available": free,
        "mem_used": total - (free or 0),
        "gpu_vram_total": sum(device.total_bytes for device in accelerators),
        "gpu_vram_available": sum(device.free_bytes or 0 for device in accelerators),
        "gpu_utilization": sum(busy) / len(busy) if busy else None,
        "software_version": __version__,
    }

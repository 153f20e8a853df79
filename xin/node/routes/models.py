"""/v1/models: OpenAI's list and get; launch, terminate, progress and cancel in Xinference's shape."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from xin.errors import BadRequest, ModelNotFound, UnsupportedParameter
from xin.node.keys import IDENTITY, MANAGER, PLACEMENT, RELAY, SPREAD
from xin.node.placement import Placed
from xin.node.relay import HOPS
from xin.node.routes.body import encoded, flag, invalid, json_response, read_object
from xin.protocol.node import Instance, LaunchReply, LaunchRequest, Peer
from xin.protocol.openai import Model, ModelList

LISTED = frozenset({"downloading", "loading", "ready"})
MODEL_TYPES = ("LLM", "embedding", "rerank", "audio")
_LAUNCH_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(LaunchRequest))
# Keys of the Xinference client that this node has no use for, with the values that ask for nothing.
_NOT_HONOURED: dict[str, tuple[Any, ...]] = {
    "n_worker": (1,),
    "n_gpu": ("auto",),
    "peft_model_config": ({},),
    "request_limits": (),
    "worker_ip": (),
    "gpu_idx": (),
    "replica_config": ([],),
    "download_hub": ("auto",),
    "enable_thinking": (),
    "enable_virtual_env": (False,),
    "virtual_env_packages": ([],),
    "virtual_env_find_links": ([],),
    "envs": ({},),
    "trust_remote_code": (False,),
}
_HINTS = {
    "n_gpu": "n_gpu_layers says how much of the model goes to the GPU",
    "peft_model_config": "llama.cpp takes LoRA adapters in the option lora",
    "enable_thinking": "send enable_thinking with each chat request",
}


async def launch(request: web.Request) -> web.StreamResponse:
    """Replies when the model is ready, or with `wait_ready=false` at once.

    With `on_demand=true` as if a request had asked for the model: unloaded when idle, not brought back at a start.
    """
    wait = flag(request, "wait_ready", default=True)
    on_demand = flag(request, "on_demand")
    order = launch_request(await read_object(request))
    placed = Placed()
    if HOPS not in request.headers:
        if on_demand and not order.node:
            order.node = request.app[IDENTITY].id
        if order.replica > 1 and not order.node and request.app[PLACEMENT].members():
            return await _launch_spread(request, order, wait)
        placed = await request.app[PLACEMENT].place(order)
        if placed.peer is not None:
            return await _launch_there(request, order, placed.peer, placed.reason)
        order.placed = placed.reason
    instance = await request.app[MANAGER].launch(order, wait=wait, explicit=not on_demand)
    own = request.app[IDENTITY]
    return json_response(LaunchReply(instance.model_uid, own.name, own.id, placed.reason))


async def _launch_there(request: web.Request, order: LaunchRequest, peer: Peer, reason: str) -> web.StreamResponse:
    """On a node that `reason` speaks for."""
    body = msgspec.json.encode(msgspec.structs.replace(order, node=None, placed=reason))
    answer = await request.app[RELAY].through(request, peer.id, request.rel_url.raw_path_qs, body)
    if answer.status != 200 or not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
        return answer
    uid = msgspec.json.decode(answer.body, type=LaunchReply).model_uid
    return json_response(LaunchReply(uid, peer.name, peer.id, reason))


async def _launch_spread(request: web.Request, order: LaunchRequest, wait: bool) -> web.Response:
    """Several replicas over the nodes."""
    spread, own = request.app[SPREAD], request.app[IDENTITY]
    uid, counts = await spread.launch(order, wait=wait)
    holder = next((node_id for node_id, count in counts.items() if count and node_id), own.id)
    node_id = own.id if counts.get("") else holder
    name = own.name if node_id == own.id else next(iter(spread.named(counts)), "")
    return json_response(LaunchReply(uid, name, node_id, spread.in_words(counts)))


async def list_models(request: web.Request) -> web.Response:
    """What runs here, then what runs on the other nodes that this one trusts."""
    endpoint = request.app[IDENTITY].endpoint
    here = [(instance, endpoint) for instance in request.app[MANAGER].instances()]
    there = [(target.instance, target.peer.endpoint or "") for target in request.app[RELAY].remote()]
    listed: dict[str, Model] = {}
    for instance, address in [*here, *there]:
        if instance.state in LISTED:
            found = listed.get(instance.served_uid)
            if found is None:
                found = listed[instance.served_uid] = model_of(instance, address)
                found.replica = 0
            found.replica += 1
    return json_response(ModelList(list(listed.values())))


async def get_model(request: web.Request) -> web.Response:
    uid = request.match_info["uid"]
    try:
        instance = request.app[MANAGER].get(uid)
    except ModelNotFound:
        if not (elsewhere := request.app[RELAY].targets(uid)):
            raise
        return json_response(model_of(elsewhere[0].instance, elsewhere[0].peer.endpoint or ""))
    return json_response(model_of(instance, request.app[IDENTITY].endpoint))


async def terminate(request: web.Request) -> web.Response:
    """With `kill=true` its process gets no time to end by itself."""
    await request.app[MANAGER].terminate(request.match_info["uid"], kill=flag(request, "kill"))
    return json_response(None)


async def progress(request: web.Request) -> web.Response:
    instance = request.app[MANAGER].get(request.match_info["uid"])
    stage = {"ready": "completed"}.get(instance.state, instance.stage or instance.state)
    done = 1.0 if instance.state == "ready" else instance.progress
    return json_response({"progress": done, "stage": stage, "instance": instance})


async def cancel(request: web.Request) -> web.Response:
    await request.app[MANAGER].cancel_launch(request.match_info["uid"])
    return json_response(None)


def launch_request(data: dict[str, Any]) -> LaunchRequest:
    """The body of a launch: keys that are no field of LaunchRequest are options of the engine."""
    for name, harmless in _NOT_HONOURED.items():
        value = data.pop(name, None)
        if value is not None and value not in harmless:
            raise UnsupportedParameter(f"{name} is not supported", _HINTS.get(name, f"leave {name} out"), param=name)
    fields = {name: value for name, value in data.items() if name in _LAUNCH_FIELDS}
    try:
        order = msgspec.convert(fields, LaunchRequest)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from exc
    if order.model_type is not None and order.model_type not in MODEL_TYPES:
        expected = ", ".join(MODEL_TYPES)
        raise BadRequest(f"model_type: expected one of {expected}, got {order.model_type!r}", param="model_type")
    options = {name: value for name, value in data.items() if name not in _LAUNCH_FIELDS}
    order.options = {**order.options, **options}
    encoded(order.options, "options")
    return order


def model_of(instance: Instance, address: str) -> Model:
    return Model(
        id=instance.served_uid,
        created=int(instance.launched_at),
        owned_by="xin",
        model_type=_type_of(instance.model_ability),
        model_name=instance.model_name,
        model_engine=instance.model_engine,
        model_format=instance.model_format,
        model_size_in_billions=instance.model_size_in_billions,
        quantization=instance.quantization,
        model_ability=instance.model_ability,
        model_lang=instance.model_lang,
        context_length=instance.context_length,
        state=instance.state,
        replica=instance.replica,
        address=address,
    )


def _type_of(abilities: list[str]) -> str:
    """In Xinference's words: its client picks a handle by them."""
    if "transcribe" in abilities and "chat" not in abilities:
        return "audio"
    only = abilities[0] if len(abilities) == 1 else ""
    return {"embed": "embedding", "rerank": "rerank"}.get(only, "LLM")

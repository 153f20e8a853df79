"""Routes that another node answers: those whose model runs there, and all under /api/nodes/{id}."""

from __future__ import annotations

from functools import wraps

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from xin.errors import BadRequest, ModelNotFound
from xin.node.keys import MANAGER, RELAY
from xin.node.relay import HOPS


class _Asked(msgspec.Struct):
    model: str = ""


_decode = msgspec.json.Decoder(_Asked).decode


def relayed(handler: Handler) -> Handler:
    """`handler` answers what runs here, what runs nowhere, and what another node has passed on already."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        relay = request.app[RELAY]
        if HOPS not in request.headers and next(relay.remote(), None) is not None:
            model = _model(await request.read())
            targets = [] if _runs_here(request, model) else relay.targets(model)
            if targets:
                return await relay.answer(request, targets)
        return await handler(request)

    return answer


async def through(request: web.Request) -> web.StreamResponse:
    """`/api/nodes/ID/v1/models` is `/v1/models` of that node: every route of it, for who may manage this one."""
    node_id = request.match_info["id"]
    if HOPS in request.headers:
        raise BadRequest("this request has passed through a node already", "ask the node itself")
    path = request.rel_url.raw_path_qs.partition(f"/api/nodes/{node_id}")[2]
    return await request.app[RELAY].through(request, node_id, path)


def of_uid(handler: Handler) -> Handler:
    """`handler` acts on the instance of this node that the path names; one that runs elsewhere is acted on there."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        uid, relay = request.match_info["uid"], request.app[RELAY]
        if HOPS not in request.headers and all(one.model_uid != uid for one in request.app[MANAGER].instances()):
            for target in relay.remote():
                if target.instance.model_uid == uid:
                    return await relay.through(request, target.peer.id, request.rel_url.raw_path_qs)
        return await handler(request)

    return answer


def _model(body: bytes) -> str:
    """ "" where the body names none; the handler says what is wrong with it."""
    try:
        return _decode(body).model
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""


def _runs_here(request: web.Request, model: str) -> bool:
    try:
        return not model or request.app[MANAGER].get(model).state != "failed"
    except ModelNotFound:
        return False

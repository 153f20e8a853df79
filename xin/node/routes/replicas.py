"""Replicas of a uid, on one node or over several: their number, what they were launched with, their common end."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from aiohttp import web

from xin.errors import ModelNotFound
from xin.node.keys import IDENTITY, MANAGER, RELAY, SPREAD
from xin.node.relay import HOPS
from xin.node.routes.body import flag, json_response, read_struct
from xin.protocol.node import Instance, ScaleReply, ScaleRequest


async def scale(request: web.Request) -> web.Response:
    """So many in all the cluster; asked by another node, on this one. `wait_ready=false` replies at once."""
    uid, wait = request.match_info["uid"], flag(request, "wait_ready", default=True)
    asked = await read_struct(request, ScaleRequest)
    if HOPS not in request.headers:
        return json_response(await request.app[SPREAD].scale(uid, asked.replica, wait=wait))
    leaving = await request.app[MANAGER].scale(uid, asked.replica, wait=wait)
    name = request.app[IDENTITY].name
    return json_response(ScaleReply(model_uid=uid, replica=asked.replica, nodes={name: asked.replica}, leaving=leaving))


async def order(request: web.Request) -> web.Response:
    """What an instance of this node was launched with."""
    return json_response(request.app[MANAGER].request_of(request.match_info["uid"]))


async def terminate(request: web.Request) -> web.Response:
    """All replicas, on whichever nodes; with `here=true` those of this node. `kill=true`: they get no time to end."""
    uid, kill = request.match_info["uid"], flag(request, "kill")
    manager, relay = request.app[MANAGER], request.app[RELAY]
    only_here = flag(request, "here") or HOPS in request.headers
    peers = {target.peer.id: target.peer for target in relay.remote() if uid in _names(target.instance)}
    if only_here or not peers:
        await manager.terminate(uid, kill=kill)
        return json_response(None)
    path = f"/v1/models/{quote(uid, safe='')}{'?kill=true' if kill else ''}"
    ends = [relay.ask(peer, "DELETE", path) for peer in peers.values()]
    runs_here = any(uid in _names(instance) for instance in manager.instances())
    ended = await asyncio.gather(
        *ends, *([manager.terminate(uid, kill=kill)] if runs_here else []), return_exceptions=True
    )
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, ModelNotFound):
            raise error
    return json_response(None)


def _names(instance: Instance) -> tuple[str, str]:
    return instance.model_uid, instance.served_uid

"""POST /api/members/helpers, its WebSocket and its way through: a part of another member's model. Mutual TLS only."""

from __future__ import annotations

from aiohttp import web

from xin.node.admission import PEER
from xin.node.keys import HELPERS
from xin.node.routes.body import json_response, read_struct
from xin.protocol.shard import HelperOrder


async def open_helper(request: web.Request) -> web.Response:
    """An RPC server in a child of its own, for the member that asks."""
    order = await read_struct(request, HelperOrder)
    return json_response(await request.app[HELPERS].open(request[PEER], order))


async def watch(request: web.Request) -> web.WebSocketResponse:
    """The helper lasts as long as this."""
    return await request.app[HELPERS].watch(request[PEER], request.match_info["id"], request)


async def stream(request: web.Request) -> web.StreamResponse:
    return await request.app[HELPERS].stream(request[PEER], request.match_info["id"], request)

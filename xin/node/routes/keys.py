"""GET, POST /api/keys; DELETE /api/keys/{id}."""

from __future__ import annotations

from aiohttp import web

from xin.node.keys import KEY_BOOK
from xin.node.routes.body import json_response, read_struct
from xin.protocol.trust import AddKey


async def list_keys(request: web.Request) -> web.Response:
    return json_response(request.app[KEY_BOOK].keys())


async def add(request: web.Request) -> web.Response:
    """The answer is the only one that ever holds the key."""
    order = await read_struct(request, AddKey)
    return json_response(await request.app[KEY_BOOK].add(order.name, order.scopes))


async def revoke(request: web.Request) -> web.Response:
    return json_response(await request.app[KEY_BOOK].revoke(request.match_info["id"]))

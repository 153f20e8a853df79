"""GET, POST and DELETE /api/door: the node's API for apps on other hosts."""

from __future__ import annotations

import msgspec
from aiohttp import web

from xin.node.key_book import ALL_SCOPES
from xin.node.keys import APP_DOOR, CONFIG, KEY_BOOK
from xin.node.routes.body import json_response, read_struct
from xin.protocol.trust import OpenDoor


async def door(request: web.Request) -> web.Response:
    return json_response(request.app[APP_DOOR].info())


async def open_door(request: web.Request) -> web.Response:
    """Where nobody has a key yet, the answer holds a first one, this once."""
    order = await read_struct(request, OpenDoor)
    info = await request.app[APP_DOOR].open(order)
    book = request.app[KEY_BOOK]
    if request.app[CONFIG].api_key is None and not book.keys():
        info = msgspec.structs.replace(info, first_key=(await book.add("first", ALL_SCOPES)).key)
    return json_response(info)


async def close_door(request: web.Request) -> web.Response:
    await request.app[APP_DOOR].close()
    return json_response(request.app[APP_DOOR].info())

"""GET /api/certificate."""

from __future__ import annotations

import asyncio

from aiohttp import web

from xin.errors import NotFound
from xin.node.keys import APP_DOOR
from xin.node.routes.body import json_response


async def certificate(request: web.Request) -> web.Response:
    """What apps on other hosts know this node by."""
    door = request.app[APP_DOOR].tls
    if door is None:
        raise NotFound(
            "this node has no certificate for apps", "xin node open --tls, or start it with --host 0.0.0.0 --tls"
        )
    return json_response(await asyncio.to_thread(door.told))

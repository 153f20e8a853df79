"""GET /api/logs/{uid}: the last lines as JSON, or with `follow` as SSE from there on."""

from __future__ import annotations

from contextlib import aclosing

import msgspec
from aiohttp import web

from xin.node.keys import MANAGER
from xin.node.routes.body import count, flag, json_response
from xin.node.routes.event_stream import event_stream
from xin.protocol import sse

MAX_LINES = 100_000
_encode = msgspec.json.Encoder().encode


async def logs(request: web.Request) -> web.StreamResponse:
    log = request.app[MANAGER].log(request.match_info["uid"])
    tail = count(request, "tail", default=200, limit=MAX_LINES)
    if not flag(request, "follow"):
        return json_response(log.tail(tail))
    async with event_stream(request) as stream, aclosing(log.follow(tail)) as lines:
        async for line in lines:
            await stream.write(sse.encode(_encode(line)))
    return stream.response

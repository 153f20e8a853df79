"""GET /api/doctor."""

from __future__ import annotations

from aiohttp import web

from xin.node.doctor import examine
from xin.node.keys import IDENTITY
from xin.node.routes.body import json_response
from xin.protocol.doctor import Checkup


async def doctor(request: web.Request) -> web.Response:
    return json_response(Checkup(node=request.app[IDENTITY].name, checks=await examine(request.app)))

"""POST /api/plan: which quantization of a model would fit on which device of this node."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import web

from xin.errors import BadRequest, Unreachable
from xin.node.keys import FORMATS, PLANNER
from xin.node.routes.body import json_response, read_struct
from xin.protocol.node import PlanRequest


async def plan(request: web.Request) -> web.Response:
    order = await read_struct(request, PlanRequest)
    if not order.model_name:
        raise BadRequest("model_name is empty", "GET /api/models lists what is here", param="model_name")
    with suppress(Unreachable):
        order = await request.app[FORMATS].settled(order)
    return json_response(await request.app[PLANNER].plan(order))

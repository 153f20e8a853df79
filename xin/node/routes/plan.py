"""POST /api/plan: which quantization of a model would fit on which device of this node."""

from __future__ import annotations

import asyncio

from aiohttp import web

from xin.errors import BadRequest
from xin.node.estimate import estimate
from xin.node.keys import CONFIG, DESCRIPTION
from xin.node.routes.body import json_response, read_struct
from xin.protocol.node import PlanRequest

MOST_CONTEXT = 16_777_216


async def plan(request: web.Request) -> web.Response:
    order = await read_struct(request, PlanRequest)
    if not order.model_name:
        raise BadRequest("model_name is empty", "GET /api/models lists what is here", param="model_name")
    context = order.options.get("context_length")
    if context is not None and (type(context) is not int or not 1 <= context <= MOST_CONTEXT):
        param = "options.context_length"
        raise BadRequest(f"{param}: expected a number from 1 to {MOST_CONTEXT}", param=param)
    node = await request.app[DESCRIPTION].current()
    made = await asyncio.to_thread(
        estimate,
        order.model_name,
        context,
        node.devices,
        node=node.name,
        model_dirs=request.app[CONFIG].model_dirs,
    )
    return json_response(made)

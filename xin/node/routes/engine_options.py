"""GET /api/engines/{name}/options: what a launch on that engine may be given."""

from __future__ import annotations

import asyncio

from aiohttp import web

from xin.backends import engine_class
from xin.backends.option_specs import option_specs
from xin.errors import NotFound, UsageError
from xin.node.routes.body import json_response
from xin.protocol.node import OptionSpec


async def options(request: web.Request) -> web.Response:
    return json_response(await asyncio.to_thread(_look_up, request.match_info["name"]))


def _look_up(name: str) -> list[OptionSpec]:
    try:
        return option_specs(engine_class(name).Options)
    except UsageError as exc:
        raise NotFound(exc.message, exc.hint, param="name") from exc

"""GET /api/catalogue: all that could be launched, here or fetched first."""

from __future__ import annotations

import asyncio

from aiohttp import web

from xin.catalog.spec import families
from xin.node.catalogue_view import catalogue_models
from xin.node.keys import MANAGER
from xin.node.routes.body import json_response


async def catalogue(request: web.Request) -> web.Response:
    here = await request.app[MANAGER].known_models()
    every = await asyncio.to_thread(families)
    return json_response(catalogue_models(list(every.values()), here))

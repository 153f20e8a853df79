"""GET /health."""

from __future__ import annotations

import time

from aiohttp import web

from xin import __version__
from xin.node.routes.body import json_response


async def health(request: web.Request) -> web.Response:
    return json_response({"status": "ok", "version": __version__, "time": time.time()})

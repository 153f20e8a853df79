"""GET /api/recommend: what this node runs well."""

from __future__ import annotations

from aiohttp import web

from xin.errors import BadRequest
from xin.node.keys import RECOMMENDER
from xin.node.routes.body import json_response

_FIELDS = {"n", "ability"}


async def recommend(request: web.Request) -> web.Response:
    if unknown := request.query.keys() - _FIELDS:
        name = sorted(unknown)[0]
        raise BadRequest(f"there is no field {name[:100]!r}", f"there are: {', '.join(sorted(_FIELDS))}", param=name)
    given = request.query.get("n", "5")
    if not given.isascii() or not given.isdigit() or len(given) > 4:
        raise BadRequest(f"n is {given[:20]!r}, not a number", "leave it out for five", param="n")
    ability = request.query.get("ability", "chat")
    return json_response(await request.app[RECOMMENDER].recommend(int(given), ability))

"""GET /api/recommend: what the nodes of the cluster run well; with `here=true` this node alone."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from xin.errors import BadRequest, XinError
from xin.node.keys import RECOMMENDER, RELAY
from xin.node.recommend import merged
from xin.node.relay import HOPS
from xin.node.routes.body import flag, json_response
from xin.protocol.node import Peer, Recommendations

ANSWER_SECONDS = 20.0  # the first time a node measures its memory
_FIELDS = {"n", "ability", "here"}
log = logging.getLogger("xin.node")


async def recommend(request: web.Request) -> web.Response:
    if unknown := request.query.keys() - _FIELDS:
        name = sorted(unknown)[0]
        raise BadRequest(f"there is no field {name[:100]!r}", f"there are: {', '.join(sorted(_FIELDS))}", param=name)
    given = request.query.get("n", "5")
    if not given.isascii() or not given.isdigit() or len(given) > 4:
        raise BadRequest(f"n is {given[:20]!r}, not a number", "leave it out for five", param="n")
    count, ability = int(given), request.query.get("ability", "chat")
    own = request.app[RECOMMENDER].recommend(count, ability)
    if flag(request, "here") or HOPS in request.headers:
        return json_response(await own)
    peers = [one for one in request.app[RELAY].trusted() if one.relation == "peer" and one.status == "alive"]
    told, *others = await asyncio.gather(own, *(_of_peer(request, peer, count, ability) for peer in peers))
    assert told is not None
    heard = [one for one in others if one is not None]
    return json_response(merged(told, heard, count) if heard else told)


async def _of_peer(request: web.Request, peer: Peer, count: int, ability: str) -> Recommendations | None:
    path = f"/api/recommend?{urlencode({'n': count, 'ability': ability})}"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return msgspec.json.decode(await request.app[RELAY].ask(peer, "GET", path), type=Recommendations)
    except (XinError, TimeoutError, msgspec.MsgspecError) as exc:
        log.info("%s recommends nothing: %s", peer.name, exc)
        return None

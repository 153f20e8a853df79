"""GET /api/node, /api/proof, /api/cluster, /api/instances, /api/models; POST /api/stop."""

from __future__ import annotations

import time

from aiohttp import web

from xin.errors import BadRequest
from xin.node.keys import DESCRIPTION, IDENTITY, MANAGER, PEERS, STOP
from xin.node.local_registry import CHALLENGE, prove
from xin.node.routes.body import json_response
from xin.protocol.node import Cluster, Peer


async def node(request: web.Request) -> web.Response:
    return json_response(await request.app[DESCRIPTION].current())


async def proof(request: web.Request) -> web.Response:
    """?challenge=HEX: its HMAC under the nonce of this node's 0600 file. Only whom that file is for can ask and check.

    The nonce itself never leaves the file: whoever took the port later could show it again.
    """
    challenge = request.query.get("challenge", "")
    if not CHALLENGE.fullmatch(challenge):
        raise BadRequest("challenge must be 16 to 64 hexadecimal digits", param="challenge")
    return json_response({"proof": prove(request.app[IDENTITY].nonce, challenge)})


async def cluster(request: web.Request) -> web.Response:
    """This node first, then the others."""
    return json_response(Cluster([await self_as_peer(request.app), *request.app[PEERS].cluster()]))


async def instances(request: web.Request) -> web.Response:
    return json_response(request.app[MANAGER].instances())


async def models(request: web.Request) -> web.Response:
    """What can be launched here without fetching anything."""
    return json_response(await request.app[MANAGER].known_models())


async def stop(request: web.Request) -> web.Response:
    """Begin the graceful stop of this node; replies before it ends."""
    request.app[STOP].set()
    return json_response({"stopping": True, "pid": request.app[IDENTITY].pid})


async def self_as_peer(app: web.Application) -> Peer:
    info = await app[DESCRIPTION].current()
    return Peer(
        id=info.id,
        name=info.name,
        relation="self",
        status="alive",
        version=info.version,
        endpoint=info.endpoint,
        seen_at=time.time(),
        node=info,
        instances=app[MANAGER].instances(),
    )

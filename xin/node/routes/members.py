"""GET /api/members; what members tell one another over mutual TLS: POST /api/members/greet, renew, left."""

from __future__ import annotations

from aiohttp import web

from xin.errors import BadRequest
from xin.node.admission import PEER
from xin.node.keys import CLUSTER, TRUST
from xin.node.routes.body import json_response, read_struct
from xin.protocol.trust import Member, Members, Passport


async def members(request: web.Request) -> web.Response:
    """The whole cluster, this node first."""
    return json_response(await _members(request))


async def greet(request: web.Request) -> web.Response:
    """A member says where it listens, and hears whom this one knows."""
    member = await read_struct(request, Member)
    if member.id != request[PEER]:
        raise BadRequest("a node greets for itself only", param="id")
    remote = (request.remote or "").removeprefix("::ffff:")
    member.addresses = list(dict.fromkeys([*([remote] if remote else []), *member.addresses]))[:16]
    await request.app[TRUST].add([member], direct=True)
    return json_response(await _members(request))


async def renew(request: web.Request) -> web.Response:
    await request.app[CLUSTER].renewed(await read_struct(request, Passport))
    return json_response(None)


async def left(request: web.Request) -> web.Response:
    await request.app[TRUST].remove(request[PEER])
    return json_response(None)


async def _members(request: web.Request) -> Members:
    trust = request.app[TRUST]
    if trust.papers is None:
        return Members(cluster_id=None)
    return Members(cluster_id=trust.cluster_id, members=[await trust.own_member(), *trust.members()])

"""POST, DELETE /api/pairing; POST /api/pairing/join; POST /api/trust/rotate, revoke, leave."""

from __future__ import annotations

import re

from aiohttp import web

from xin.errors import BadRequest, Conflict
from xin.node.keys import CLUSTER, CONFIG, PAIRING, PEERS
from xin.node.routes.body import json_response, read_struct
from xin.node.trust.cluster import host_and_port
from xin.node.trust.token import PREFIX
from xin.protocol.trust import JoinCluster, OpenPairing, RevokeMember

_DIGITS = re.compile(r"[0-9]{6}")


async def open_pairing(request: web.Request) -> web.Response:
    order = await read_struct(request, OpenPairing)
    if request.app[CONFIG].private:
        raise Conflict("this node is private", "start it without --private to pair it")
    pairing = request.app[PAIRING]
    return json_response(await (pairing.open_token(order.minutes * 60) if order.token else pairing.open_digits()))


async def close_pairing(request: web.Request) -> web.Response:
    await request.app[PAIRING].close()
    return json_response(None)


async def join(request: web.Request) -> web.Response:
    order = await read_struct(request, JoinCluster)
    if request.app[CONFIG].private:
        raise Conflict("this node is private", "start it without --private to pair it")
    if order.secret.startswith(PREFIX):
        return json_response(await request.app[CLUSTER].join(order.secret))
    digits = order.secret.replace(" ", "")
    if not _DIGITS.fullmatch(digits) or not order.address:
        raise BadRequest("a token, or six digits and the other node's address", "xin pair there shows both")
    addresses, port = _where(request, order.address)
    return json_response(await request.app[CLUSTER].pair(addresses, port, digits))


async def rotate(request: web.Request) -> web.Response:
    return json_response(await request.app[CLUSTER].rotate())


async def revoke(request: web.Request) -> web.Response:
    order = await read_struct(request, RevokeMember)
    return json_response(await request.app[CLUSTER].rotate(out=order.node))


async def leave(request: web.Request) -> web.Response:
    await request.app[CLUSTER].leave()
    return json_response(None)


def _where(request: web.Request, address: str) -> tuple[list[str], int]:
    """A host, or the name or id of a node that the network told of."""
    host, port = host_and_port(address, request.app[CONFIG].pair_port)
    for peer in request.app[PEERS].cluster():
        if host in (peer.name, peer.id) and peer.addresses:
            return peer.addresses, port
    return [host], port

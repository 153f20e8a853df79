"""/api/members/weights: what members of a cluster have of the hub's files, and the bytes of them by ranges."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import hdrs, web

from xin.errors import Forbidden, NotFound
from xin.node import weights_given
from xin.node.admission import PEER
from xin.node.keys import TRUST
from xin.node.relay import HOPS
from xin.node.routes.body import json_response, read_struct
from xin.protocol.weights import Held, WhichFiles, WhoHolds

log = logging.getLogger("xin.node")


async def held(request: web.Request) -> web.Response:
    asked = await read_struct(request, WhoHolds)
    return json_response(Held(sizes=await asyncio.to_thread(weights_given.sizes, asked.etags)))


async def listing(request: web.Request) -> web.Response:
    asked = await read_struct(request, WhichFiles)
    return json_response(await asyncio.to_thread(weights_given.listing, asked.repo, asked.revision))


async def content(request: web.Request) -> web.StreamResponse:
    """One file, or the range that is asked for. Not through a third node, which would hold all of it in memory."""
    if HOPS in request.headers:
        raise Forbidden("weights are given to a paired node itself", "let that node fetch them: xin pull")
    etag = request.match_info["etag"]
    path = await asyncio.to_thread(weights_given.file_of, etag)
    if path is None:
        raise NotFound(f"no file with the hash {etag[:80]!r} is here", param="etag")
    range_asked = request.headers.get(hdrs.RANGE, "all of it")
    log.info("gives %s to %s: %s", etag[:16], _name_of(request), range_asked[:80])
    return web.FileResponse(path, headers={hdrs.CONTENT_TYPE: "application/octet-stream"})


def _name_of(request: web.Request) -> str:
    member = next((one for one in request.app[TRUST].members() if one.id == request[PEER]), None)
    return member.name if member else str(request[PEER])

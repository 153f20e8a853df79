"""/api/files: the weights on this machine, and removing them."""

from __future__ import annotations

import asyncio

from aiohttp import web

from xin.node.keys import CONFIG, MANAGER
from xin.node.routes.body import json_response, read_struct
from xin.node.weights_files import weight_files
from xin.node.weights_removal import plan_removal, remove
from xin.protocol.node import RemoveFiles, WeightFiles

_GONE = frozenset({"failed"})


async def files(request: web.Request) -> web.Response:
    found = await asyncio.to_thread(weight_files, request.app[CONFIG].model_dirs, _in_use(request))
    total = sum(one.size_bytes for one in found)
    return json_response(WeightFiles(total_bytes=total, files=[one.shown() for one in found]))


async def remove_files(request: web.Request) -> web.Response:
    """What goes and what stays; with `dry_run` nothing is done. 409 for what a running model uses."""
    order = await read_struct(request, RemoveFiles)
    removal = await asyncio.to_thread(
        plan_removal,
        order.name,
        foreign=order.foreign,
        model_dirs=request.app[CONFIG].model_dirs,
        in_use=_in_use(request),
    )
    if not order.dry_run:
        await asyncio.shield(asyncio.to_thread(remove, removal))  # a client that leaves does not stop it half way
    return json_response(removal.shown(dry_run=order.dry_run))


def _in_use(request: web.Request) -> dict[str, list[str]]:
    running = request.app[MANAGER].instances()
    return {one.model_uid: one.weights for one in running if one.state not in _GONE and one.weights}

"""/api/jobs: what the node works at, and what it may be told of it."""

from __future__ import annotations

from typing import cast, get_args

from aiohttp import web

from xin.errors import BadRequest, NotFound
from xin.node.job_download import DownloadOrder
from xin.node.job_install import InstallOrder
from xin.node.job_quantize import QuantizeOrder
from xin.node.keys import JOBS
from xin.node.routes.body import json_response, read_object, to_struct
from xin.node.routes.models import launch_request
from xin.protocol.node import JobAction

STARTABLE = ("launch", "install", "quantize", "download")


async def list_jobs(request: web.Request) -> web.Response:
    return json_response(request.app[JOBS].all())


async def get(request: web.Request) -> web.Response:
    return json_response(request.app[JOBS].get(request.match_info["id"]))


async def log(request: web.Request) -> web.Response:
    return json_response(request.app[JOBS].log(request.match_info["id"]))


async def begin(request: web.Request) -> web.Response:
    """{kind, …}: replies with the job at once; one that does the same already is joined."""
    body = await read_object(request)
    kind = body.pop("kind", None)
    jobs = request.app[JOBS]
    match kind:
        case "launch":
            on_demand = body.pop("on_demand", False)
            if not isinstance(on_demand, bool):
                raise BadRequest("on_demand: expected bool", param="on_demand")
            return json_response(await jobs.launch(launch_request(body), explicit=not on_demand))
        case "install":
            return json_response(await jobs.install(to_struct(body, InstallOrder)))
        case "quantize":
            return json_response(await jobs.quantize(to_struct(body, QuantizeOrder)))
        case "download":
            return json_response(await jobs.download(to_struct(body, DownloadOrder)))
    given = "field 'kind' is required" if kind is None else f"kind: {str(kind)[:80]!r} cannot be begun"
    raise BadRequest(given, f"one of: {', '.join(STARTABLE)}", param="kind")


async def act(request: web.Request) -> web.Response:
    """pause, resume, cancel, delete, retry; replies with the job afterwards, for retry with the new one."""
    action = request.match_info["action"]
    if action not in get_args(JobAction):
        raise NotFound(
            f"there is no action {action[:80]!r}", f"one of: {', '.join(get_args(JobAction))}", param="action"
        )
    return json_response(await request.app[JOBS].act(request.match_info["id"], cast(JobAction, action)))

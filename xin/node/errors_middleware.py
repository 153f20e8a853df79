"""The node's one translation point: what a handler raises becomes a body for OpenAI's and Xinference's clients."""

from __future__ import annotations

import logging
import re
import secrets
from urllib.parse import quote

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from xin import __version__
from xin.errors import InternalError, MethodNotAllowed, NotFound, TooLarge, XinError, from_code
from xin.node.keys import BODY_LIMIT, IDENTITY

REQUEST_ID = "x-request-id"
SERVED_BY = "xin-node"  # the name of the node that answered, percent-encoded
RETRIED = "xin-retried"  # how many replicas were lost before one gave the answer
log = logging.getLogger("xin.node")
_encode = msgspec.json.Encoder().encode
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@web.middleware
async def errors_to_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost middleware: also aiohttp's own 404, 405 and 413 get a body."""
    given = request.headers.get(REQUEST_ID, "")
    request[REQUEST_ID] = given if _SAFE_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
    try:
        return await handler(request)
    except XinError as exc:
        return error_response(exc)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        return _foreign(request, exc)
    except Exception:  # border: a defect of ours must still be an answer
        log.exception("%s %s failed (%s)", request.method, request.path, request[REQUEST_ID])
        return error_response(internal(request))


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """`on_response_prepare`: every response names its request and its node."""
    response.headers[REQUEST_ID] = request.get(REQUEST_ID, "")
    response.headers.setdefault(SERVED_BY, quote(request.app[IDENTITY].name))
    if retried := request.get(RETRIED):
        response.headers[RETRIED] = str(retried)
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["Server"] = f"xin/{__version__}"


def internal(request: web.Request) -> InternalError:
    """What a caller may know of a defect; the log has the rest under the same id."""
    request_id = request.get(REQUEST_ID, "")
    return InternalError(f"internal error (request {request_id})", "the node's log has the details under this id")


def error_response(exc: XinError) -> web.Response:
    headers = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(exc.status)
    return web.Response(
        body=_encode(exc.body()), status=exc.status, content_type="application/json", charset="utf-8", headers=headers
    )


def _foreign(request: web.Request, exc: web.HTTPException) -> web.Response:
    """An error that aiohttp itself raised."""
    translated: XinError
    match exc:
        case web.HTTPNotFound():
            translated = NotFound(f"no route {request.method} {request.path}", "docs/api.md lists the routes")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exc.allowed_methods))
            translated = MethodNotAllowed(f"{request.path} does not take {request.method}", f"it takes {allowed}")
        case web.HTTPRequestEntityTooLarge():
            limit = request.app[BODY_LIMIT] // 2**20
            translated = TooLarge(f"the body is larger than {limit} MiB", "send less in one request")
        case _:
            translated = from_code(None, exc.reason, status=exc.status)
    response = error_response(translated)
    response.set_status(exc.status)
    if "Allow" in exc.headers:
        response.headers["Allow"] = exc.headers["Allow"]
    return response

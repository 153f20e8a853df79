"""What keeps web pages out of a node that listens on loopback without a key.

Host is checked on every request (DNS rebinding), Origin and Sec-Fetch-Site on everything that may change state
(Fetch metadata, W3C), and a body must be JSON, which a page cannot send elsewhere without a preflight.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from xin.errors import Forbidden, WrongMediaType

SAFE_METHODS = frozenset({"GET", "HEAD"})
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def make_guard(own_host: str) -> Middleware:
    """The middleware for a node that listens on `own_host`."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        check_host(request, own_host)
        if request.method not in SAFE_METHODS or hdrs.UPGRADE in request.headers:
            check_origin(request)
        check_body_type(request)
        return await handler(request)

    return guard


def check_host(request: web.Request, own_host: str) -> None:
    """Forbidden unless Host is a loopback name or address, or what the node listens on; any port."""
    given = request.headers.getall(hdrs.HOST, [])
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    name = match["name"].strip("[]").lower().rstrip(".") if match else ""
    if not name or not (is_loopback(name) or name == own_host.lower()):
        shown = ", ".join(given)[:200] or "none"
        raise Forbidden(f"host {shown!r} is not served here", "address the node as 127.0.0.1 or localhost")


def is_loopback(name: str) -> bool:
    """`localhost`, a name under it (RFC 6761), or a loopback address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_origin(request: web.Request) -> None:
    """Forbidden when a web page of another origin sent this."""
    site = request.headers.get("Sec-Fetch-Site", "none").lower()
    origin = request.headers.get(hdrs.ORIGIN)
    own = request.headers.get(hdrs.HOST, "").lower()
    foreign = origin is not None and not _same_origin(origin, own)
    if foreign or site not in ("same-origin", "none"):
        raise Forbidden(
            f"a web page of another origin ({(origin or site)[:200]}) may not do this",
            "call the node from a program, not from a page",
        )


def check_body_type(request: web.Request) -> None:
    """WrongMediaType when there is a body that does not say it is JSON."""
    if not request.body_exists or request.content_type == "application/json":
        return
    given = request.headers.get(hdrs.CONTENT_TYPE, "nothing")[:200]
    raise WrongMediaType(f"content type is {given}, expected application/json", "send content-type: application/json")


class MergedSlashes(web.PlainResource):
    """`//v1/models` means `/v1/models`: clients that join a base URL ending in a slash send the former."""

    def __init__(self, router: web.UrlDispatcher) -> None:
        super().__init__("/")
        self._router = router

    async def resolve(self, request: web.Request) -> tuple[UrlMappingMatchInfo | None, set[str]]:
        path = request.rel_url.raw_path
        if "//" not in path:
            return None, set()
        merged = request.rel_url.with_path(re.sub("/{2,}", "/", path), encoded=True, keep_query=True)
        match = await self._router.resolve(request.clone(rel_url=merged))
        if isinstance(match.http_exception, web.HTTPMethodNotAllowed):
            return None, set(match.http_exception.allowed_methods)
        return (None if match.http_exception else match), set()


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host

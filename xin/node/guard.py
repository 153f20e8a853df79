"""What keeps web pages out of a node, and strangers out of one that others can reach.

Host is checked on every request (DNS rebinding), Origin and Sec-Fetch-Site on everything that may change state
(Fetch metadata, W3C), and a body must be JSON, which a page cannot send elsewhere without a preflight. Recordings
alone come in forms, as OpenAI has them: what a page of another origin sends stops at its Origin.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from xin.errors import Forbidden, WrongMediaType

SAFE_METHODS = frozenset({"GET", "HEAD"})
JSON, FORM = "application/json", "multipart/form-data"
FORM_PATHS = ("/v1/audio/transcriptions", "/v1/audio/translations")  # also behind /api/nodes/ID
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def make_guard(
    own_host: str,
    allowed_hosts: Sequence[str] = (),
    *,
    admit: Callable[[web.Request], None],
    answers_to: Callable[[str], bool] = lambda name: False,
) -> Middleware:
    """The middleware for a node that listens on `own_host`. `admit` raises for whom may not do what is asked.

    `answers_to`: further names by which it may be addressed now.
    """
    at_start = own_names(own_host, allowed_hosts)

    def names(name: str) -> bool:
        return at_start(name) or answers_to(name)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not has_client_certificate(request):  # a browser has none, so no name can be rebound to that door
            check_host(request, names)
        if request.method not in SAFE_METHODS or hdrs.UPGRADE in request.headers:
            check_origin(request)
        check_body_type(request)
        admit(request)
        return await handler(request)

    return guard


def own_names(own_host: str, allowed_hosts: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name or address in Host means this node.

    One that listens everywhere has many addresses: any is taken, since only names can be rebound.
    """
    known = {own_host.lower(), *(name.lower().rstrip(".") for name in allowed_hosts)}
    everywhere = own_host in ("0.0.0.0", "::")
    if everywhere:
        own = socket.gethostname().lower()
        known |= {own, f"{own}.local"}
    return lambda name: is_loopback(name) or name in known or (everywhere and _is_address(name))


def check_host(request: web.Request, is_own: Callable[[str], bool]) -> None:
    """Forbidden unless Host is a name or address of this node; any port."""
    given = request.headers.getall(hdrs.HOST, [])
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    name = match["name"].strip("[]").lower().rstrip(".") if match else ""
    if not name or not is_own(name):
        shown = ", ".join(given)[:200] or "none"
        raise Forbidden(f"host {shown!r} is not served here", "address the node as 127.0.0.1 or localhost")


def has_client_certificate(request: web.Request) -> bool:
    """Only the door for paired nodes asks for one, and the handshake has verified it."""
    return request.transport is not None and bool(request.transport.get_extra_info("peercert"))


def is_loopback(name: str) -> bool:
    """`localhost`, a name under it (RFC 6761), or a loopback address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
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
    """WrongMediaType when there is a body that does not say it is JSON, or a form where there is a file to send."""
    wanted = FORM if request.path.replace("//", "/").endswith(FORM_PATHS) else JSON
    if not request.body_exists or request.content_type == wanted:
        return
    given = request.headers.get(hdrs.CONTENT_TYPE, "nothing")[:200]
    raise WrongMediaType(f"content type is {given}, expected {wanted}", f"send content-type: {wanted}")


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

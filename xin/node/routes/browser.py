"""GET /: the workbench in a browser. Its WebSocket and files stand under /ui, a file it saves under /download."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web
from aiohttp.helpers import content_disposition_header

from xin.errors import BadRequest, InternalError, NotFound
from xin.node.browser.visitors import bounded
from xin.node.guard import is_loopback
from xin.node.keys import IDENTITY, VISITORS

_FOLDER = Path(__file__).parents[1] / "browser"
_PAGE = (_FOLDER / "page.html").read_text(encoding="utf-8")
_CSP = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # xterm.js styles the elements that it makes
        "font-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self' ws://{host}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


def browser_routes() -> Iterable[web.AbstractRouteDef]:
    return [
        web.get("/", page),
        web.get("/ui/ws", visit),
        web.get("/ui/{file:(page\\.css|start\\.js)}", own_file),
        web.static("/ui/static", _static_folder()),
        web.get("/download/{key}", download),
    ]


async def page(request: web.Request) -> web.Response:
    """The page starts nothing by itself: a visit begins with its WebSocket."""
    _endpoint(request)
    headers = {
        "Content-Security-Policy": _CSP.format(host=request.host),
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    name = html.escape(request.app[IDENTITY].name)
    text = _PAGE.replace("{name}", name).replace("{socket}", f"ws://{html.escape(request.host)}/ui/ws")
    text = text.replace("{font_size}", str(min(max(_number(request, "fontsize", 16), 6), 72)))
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


async def own_file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(_FOLDER / request.match_info["file"], headers={"Cache-Control": "no-cache"})


async def visit(request: web.Request) -> web.StreamResponse:
    """The WebSocket of textual-serve's page: ?width=&height= in cells."""
    size = (bounded(_number(request, "width", 80)), bounded(_number(request, "height", 24)))
    return await request.app[VISITORS].receive(request, _endpoint(request), size)


async def download(request: web.Request) -> web.StreamResponse:
    """A file that a visitor's workbench delivers, by its unguessable key."""
    downloads, key = request.app[VISITORS].downloads, request.match_info["key"]
    try:
        file = await downloads.get_download_metadata(key)
    except KeyError:
        raise NotFound("there is no such download", "save it again in the workbench") from None
    response = web.StreamResponse()
    response.content_type = file.mime_type or "application/octet-stream"
    response.headers["Content-Disposition"] = content_disposition_header("attachment", filename=file.file_name)
    await response.prepare(request)
    async for chunk in downloads.download(key):
        await response.write(chunk)
    await response.write_eof()
    return response


def _endpoint(request: web.Request) -> str:
    """Where the visitor's workbench finds this node: the address at which this request came in."""
    address = request.transport.get_extra_info("sockname") if request.transport else None
    if not isinstance(address, tuple) or not is_loopback(str(address[0])):
        raise NotFound("the workbench in a browser is served on loopback only", "ssh -L 9997:127.0.0.1:9997 THIS_HOST")
    host, port = str(address[0]), int(address[1])
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _number(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} is not a whole number", param=name) from None


def _static_folder() -> Path:
    found = importlib.util.find_spec("textual_serve")
    if found is None or not found.submodule_search_locations:
        raise InternalError("textual-serve is not installed", "pip install textual-serve")
    return Path(found.submodule_search_locations[0]) / "static"

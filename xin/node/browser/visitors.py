"""All visitors of this node's page. Each has a process of its own, so there is a bound on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from aiohttp import WSMessage, WSMsgType, web
from textual_serve.download_manager import DownloadManager

from xin.errors import Busy
from xin.node.browser.visit import Visit, workbench

MOST_VISITORS = 8
MOST_MESSAGE_BYTES = 16 * 2**20  # a paste is one message
HEARTBEAT_SECONDS = 15.0
SIZES = range(1, 2001)
log = logging.getLogger("xin.node")


class Visitors:
    """`close` ends them all and waits until their processes are gone."""

    def __init__(self, most: int = MOST_VISITORS, command: Callable[[str], Sequence[str]] = workbench) -> None:
        """`command`: what to run for a visitor of the node at an endpoint."""
        self.most = most
        self._command = command
        self._sockets: set[web.WebSocketResponse] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self.downloads = DownloadManager()

    def __len__(self) -> int:
        return len(self._sockets) + len(self._endings)

    def check_room(self) -> None:
        """Raises Busy when there are as many as may be."""
        if len(self) >= self.most:
            raise Busy(f"{self.most} browsers show this workbench already", "close one, or run `xin tui` in a terminal")

    async def receive(self, request: web.Request, endpoint: str, size: tuple[int, int]) -> web.WebSocketResponse:
        """One visit, from its WebSocket's opening to its end. Raises Busy."""
        self.check_room()
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=MOST_MESSAGE_BYTES, compress=False)
        self._sockets.add(socket)
        try:
            await socket.prepare(request)
            visit = Visit(
                self._command(endpoint),
                write_bytes=socket.send_bytes,
                write_str=socket.send_str,
                close=socket.close,
                downloads=self.downloads,
            )
            try:
                await visit.start(*size)
                log.info("a browser opened the workbench (%d by %d)", *size)
                await _listen(socket, visit)
            finally:
                self._in_background(visit.stop())
        finally:
            self._sockets.discard(socket)
        return socket

    async def close(self) -> None:
        await asyncio.gather(*(socket.close() for socket in [*self._sockets]), return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.gather(*self._endings, return_exceptions=True)

    def _in_background(self, ending: Coroutine[Any, Any, None]) -> None:
        """A visitor that leaves cancels the handler, never the end of the process."""
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


async def _listen(socket: web.WebSocketResponse, visit: Visit) -> None:
    """Messages of textual-serve's page, until it closes. One that is not understood ends the visit."""
    async for message in socket:
        try:
            await _take(message, socket, visit)
        except (msgspec.MsgspecError, ValueError) as exc:
            log.warning("a browser's message was not understood: %s", exc)
            await socket.close()
            return


async def _take(message: WSMessage, socket: web.WebSocketResponse, visit: Visit) -> None:
    if message.type is not WSMsgType.TEXT:
        return
    match msgspec.json.decode(message.data, type=list[Any]):
        case ["stdin", str(text)]:
            await visit.send_bytes(text.encode("utf-8", "replace"))
        case ["resize", {"width": int(width), "height": int(height)}]:
            await visit.set_terminal_size(bounded(width), bounded(height))
        case ["ping", data]:
            await socket.send_json(["pong", data])
        case ["focus", *_]:
            await visit.focus()
        case ["blur", *_]:
            await visit.blur()
        case other:
            raise ValueError(f"{str(other)[:80]}")


def bounded(cells: int) -> int:
    return min(max(cells, SIZES.start), SIZES.stop - 1)

"""An open SSE response: one write per wake-up, a comment when idle, and an error as the last event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
from aiohttp import HttpVersion11, web

from xin.errors import XinError
from xin.node.errors_middleware import REQUEST_ID, internal
from xin.protocol import sse

PING_SECONDS = 15.0
IDLE_SHARE = 0.25  # of that: who has heard something so lately waits for the next time
MOST_UNSENT = 64 * 1024  # bytes of one response that may wait for its client before its producer is held back
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
log = logging.getLogger("xin.node")
_encode = msgspec.json.Encoder().encode


class EventStream:
    def __init__(self, request: web.Request, response: web.StreamResponse, ping_seconds: float | None = None) -> None:
        self.response = response
        self._ping_seconds = ping_seconds or PING_SECONDS
        self._transport = request.transport
        self._time = asyncio.get_running_loop().time
        self._wrote_at = self._time()

    async def write(self, data: bytes) -> None:
        """Send whole events. Raises ConnectionResetError when the client has left."""
        self._wrote_at = self._time()
        await self.response.write(data)

    def write_now(self, data: bytes) -> bool:
        """Send whole events from a callback. False: nothing was sent, since the client is slow, gone, or HTTP/1.0.

        Only after a first `write`: that one carries the headers.
        """
        transport = self._transport
        if (
            transport is None
            or not self.response.chunked
            or transport.is_closing()
            or transport.get_write_buffer_size() > MOST_UNSENT
        ):
            return False
        self._wrote_at = self._time()
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    async def ping_when_idle(self) -> None:
        """At multiples of the clock: a node wakes once for all who listen to it, and they once for all nodes."""
        with suppress(ConnectionResetError):
            while True:
                await asyncio.sleep(self._ping_seconds - time.time() % self._ping_seconds)
                if self._time() - self._wrote_at >= self._ping_seconds * IDLE_SHARE:
                    await self.write(sse.PING)


@asynccontextmanager
async def event_stream(
    request: web.Request, headers: dict[str, str] | None = None, *, ping_seconds: float | None = None
) -> AsyncIterator[EventStream]:
    """Send the headers and lend the stream. A failure inside becomes its last event; a client that left is none."""
    response = web.StreamResponse(headers={**HEADERS, **(headers or {})})
    if request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    await response.prepare(request)
    stream = EventStream(request, response, ping_seconds)
    pinger = asyncio.create_task(stream.ping_when_idle(), name="sse ping")
    with suppress(ConnectionResetError):
        try:
            yield stream
        except ConnectionResetError:
            raise
        except XinError as exc:
            await stream.write(error_event(exc))
        except Exception:  # border: the status line is gone, so a defect of ours is told in the stream
            log.exception("%s failed in mid-stream (%s)", request.path, request.get(REQUEST_ID, ""))
            await stream.write(error_event(internal(request)))
        finally:
            pinger.cancel()
        await response.write_eof()


def error_event(exc: XinError) -> bytes:
    return sse.encode(_encode(exc.body()))

"""GET /api/events: a snapshot, then every change, as SSE; `?ping=` sets after how many idle seconds it says so."""

from __future__ import annotations

import time

from aiohttp import web

from xin.node.keys import DESCRIPTION, EVENTS, JOBS, MANAGER, PEERS
from xin.node.routes.body import flag, seconds
from xin.node.routes.event_stream import PING_SECONDS, event_stream
from xin.protocol import sse
from xin.protocol.node import Event, encode_event


async def events(request: web.Request) -> web.StreamResponse:
    app = request.app
    samples, peer = flag(request, "samples"), flag(request, "peer")
    ping = seconds(request, "ping", PING_SECONDS, least=1.0, most=3600.0)
    # Subscribed before the snapshot is taken, so that nothing falls between the two.
    with app[EVENTS].subscribe(samples=samples, peer=peer) as subscription:
        snapshot = Event(
            type="snapshot",
            at=time.time(),
            node=await app[DESCRIPTION].current(),
            instances=app[MANAGER].instances(),
            jobs=app[JOBS].all(),
            peers=None if peer else app[PEERS].cluster(),
        )
        async with event_stream(request, ping_seconds=ping) as stream:
            await stream.write(sse.encode(encode_event(snapshot)))
            async for event in subscription:
                waiting = [event, *subscription.drain()]
                await stream.write(b"".join(sse.encode(encode_event(item)) for item in waiting))
    return stream.response

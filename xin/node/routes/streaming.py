"""The token path: a delta goes from the worker's pipe to the client's socket in one callback, without a task switch."""

from __future__ import annotations

from aiohttp import web

from xin.node.routes.chunks import Chunks
from xin.node.routes.event_stream import event_stream
from xin.node.routes.generation import Generations
from xin.protocol import sse
from xin.worker.frames import Done


async def stream_answer(
    request: web.Request, running: Generations, chunks: Chunks, headers: dict[str, str], *, usage: bool
) -> web.StreamResponse:
    """Send all that `running` gives, as SSE, to its end. Raises what fails before the first token: nothing is sent."""
    await running.begin()
    async with event_stream(request, headers) as stream:
        while True:
            offset, batch = await running.next_batch()
            if not batch:
                break
            for item in batch:
                if isinstance(item, Done):
                    running.count(item)
            await stream.write(b"".join([chunks.encode(item, offset) for item in batch]))
            running.send_through(lambda delta: stream.write_now(chunks.encode(delta)))
        await stream.write((chunks.usage(running.usage()) if usage else b"") + sse.DONE)
    return stream.response

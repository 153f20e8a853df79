"""A node of real parts but for its models: `python small_node.py PORT NAME [PEER_URL]`, for tests that kill it.

Prints its port once it listens; stops at a line on its stdin.
"""

import asyncio
import json
import sys
import time

from aiohttp import web

from xin.config import NodeConfig
from xin.node.events import EventHub
from xin.node.identity import Identity, identify
from xin.node.listener import open_listener
from xin.node.local_registry import prove
from xin.node.peers import Peers
from xin.protocol import sse
from xin.protocol.node import Device, Event, Instance, NodeInfo, WorkerInfo, encode_event


class SmallNode:
    """`async with` it in a test, or run it as a child. `hub` is its event hub, `peers` its view of others."""

    def __init__(self, config: NodeConfig, interfaces: list[str] | None = None):
        self.config = config
        self.identity: Identity = identify(config)
        self.hub = EventHub()
        self.peers = Peers(config, self.identity, self.hub, interfaces=interfaces)
        self.instances: dict[str, Instance] = {}
        self.asked: list[str] = []
        self.frozen = False

    async def __aenter__(self):
        app = web.Application()
        app.add_routes([web.get("/api/events", self._events), web.get("/api/proof", self._proof)])
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        opened = await open_listener(self.config)
        self.identity.port = opened.getsockname()[1]
        await web.SockSite(self._runner, opened).start()
        await self.peers.__aenter__()
        await self.peers.announce()
        return self

    async def __aexit__(self, *exc):
        self.hub.publish(Event(type="stopping", at=time.time()))
        await self.peers.__aexit__(*exc)
        self.hub.close()
        await self._runner.cleanup()

    def info(self):
        me = self.identity
        return NodeInfo(
            id=me.id, name=me.name, version="0.1", endpoint=me.endpoint, pid=me.pid, started_at=me.started_at
        )

    def set_instance(self, uid, state):
        one = Instance(
            model_uid=uid, model_name=uid, model_engine="echo", model_format="echo", quantization="none", state=state
        )
        self.instances[uid] = one
        self.hub.publish(Event(type="instance", at=time.time(), instance=one))

    def publish_samples(self):
        device = Device(id="cpu", kind="cpu", name="x", total_bytes=1, utilization=50.0)
        workers = {uid: WorkerInfo(pid=1, rss_bytes=77) for uid in self.instances}
        self.hub.publish(Event(type="samples", at=time.time(), devices=[device], workers=workers))

    async def _proof(self, request):
        return web.json_response({"proof": prove(self.identity.nonce, request.query["challenge"])})

    async def _events(self, request):
        self.asked.append(request.query_string)
        samples, peer = "samples" in request.query, "peer" in request.query
        with self.hub.subscribe(samples=samples, peer=peer) as subscription:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            snapshot = Event(type="snapshot", at=time.time(), node=self.info(), instances=list(self.instances.values()))
            await response.write(sse.encode(encode_event(snapshot)))
            async for event in subscription:
                await response.write(sse.encode(encode_event(event)))
        return response


async def main(port, name, *peers):
    config = NodeConfig(port=int(port), name=name, peers=list(peers))
    async with SmallNode(config, ["127.0.0.1"]) as node:
        print(json.dumps({"port": node.identity.port, "id": node.identity.id}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""RPC servers that this node runs for other members: a child each, which ends when nobody watches it any more."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from xin.errors import BadRequest, Busy, Conflict, EngineMissing, NotFound, Unreachable
from xin.installer.status import backends, llama_build
from xin.node.plan import Place
from xin.node.plan_verdict import free_bytes
from xin.node.relay import HEARTBEAT_SECONDS
from xin.node.shards.server_process import ServerProcess
from xin.node.shards.tunnel import Upgraded, asks_for_upgrade, carry
from xin.protocol.shard import HelperOrder, HelperReply

UNWATCHED_SECONDS = 5.0
CLOSE_SECONDS = 2.0
MOST = 16  # as many as one model can have
log = logging.getLogger("xin.node")


class _Helper:
    def __init__(self, owner: str, order: HelperOrder, process: ServerProcess) -> None:
        self.id = secrets.token_hex(16)
        self.owner = owner
        self.order = order
        self.process = process
        self.watched = False
        self.over = asyncio.Event()


class Helpers:
    """`name`: of this node. Who opened a helper, and nobody else, watches it and is tied to its server."""

    def __init__(self, name: str, threads: Callable[[], int], place: Callable[[], Awaitable[Place]]) -> None:
        self._name = name
        self._threads = threads
        self._place = place
        self._helpers: dict[str, _Helper] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self, owner: str, order: HelperOrder) -> HelperReply:
        """Raises EngineMissing without RPC, BadRequest for another build, Busy, LoadFailed."""
        await asyncio.to_thread(self._check, order.build)
        if self._closing or len(self._helpers) >= MOST:
            raise Busy(f"{self._name} takes no more parts of models", "name another node", param="shard")
        helper = _Helper(owner, order, await ServerProcess.start(self._threads()))
        self._helpers[helper.id] = helper
        asyncio.get_running_loop().call_later(UNWATCHED_SECONDS, self._drop_unwatched, helper)
        where = "" if helper.process.word.isolated else ", on a port that this machine's programs can reach"
        log.info("holds a part of %s for %s (pid %s%s)", order.model_uid, owner, helper.process.pid, where)
        devices = helper.process.word.devices
        if not all(device.is_cpu for device in devices):
            return HelperReply(id=helper.id, free_bytes=sum(one.free_bytes for one in devices), on_gpu=True)
        place = await self._place()
        return HelperReply(id=helper.id, free_bytes=sum(free_bytes(one) for one in place.devices if one.kind == "cpu"))

    async def watch(self, owner: str, helper_id: str, request: web.Request) -> web.WebSocketResponse:
        """Lasts as long as the helper; what ended it is the last word. Whoever hangs up ends it."""
        helper = self._of(owner, helper_id)
        if helper.watched:
            raise Conflict("this helper is watched already")
        helper.watched = True
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, timeout=CLOSE_SECONDS, compress=False)
        ended = asyncio.create_task(helper.process.ended())
        hung_up: asyncio.Task[None] | None = None
        try:
            await socket.prepare(request)
            hung_up = asyncio.create_task(_hung_up(socket))
            await asyncio.wait({ended, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                with suppress(OSError, RuntimeError):
                    await socket.send_str(ended.result())
        finally:
            ended.cancel()
            if hung_up is not None:
                hung_up.cancel()
            await asyncio.shield(self._end(helper))
        await socket.close()
        return socket

    async def stream(self, owner: str, helper_id: str, request: web.Request) -> web.StreamResponse:
        """One connection to its server."""
        helper = self._of(owner, helper_id)
        if not asks_for_upgrade(request):
            raise BadRequest("this is no resource but a way through", "ask for an upgrade to tcp")
        try:
            server = await helper.process.connect()
        except OSError as exc:
            raise Unreachable("the RPC server does not answer", "launch the model again") from exc
        try:
            asked = Upgraded(request)
        except BaseException:
            server.close()
            raise
        await carry(server, asked)
        return asked.finish()

    async def close(self) -> None:
        """Those who watch are told that this node stops."""
        self._closing = True
        helpers = [*self._helpers.values()]
        for helper in helpers:
            helper.process.kill("is stopping")
        await asyncio.gather(*(self._end(helper) if not helper.watched else helper.over.wait() for helper in helpers))

    def _of(self, owner: str, helper_id: str) -> _Helper:
        helper = self._helpers.get(helper_id)
        if helper is None or helper.owner != owner:
            raise NotFound("there is no such helper", "launch the model again", param="id")
        return helper

    def _drop_unwatched(self, helper: _Helper) -> None:
        if not helper.watched and helper.id in self._helpers:
            helper.process.kill("was asked for and then left alone")
            task = asyncio.get_running_loop().create_task(self._end(helper))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self, helper: _Helper) -> None:
        if self._helpers.pop(helper.id, None) is not None:
            log.info("holds no part of %s any more: it %s", helper.order.model_uid, helper.process.cause or "is over")
        await helper.process.close()
        helper.over.set()

    def _check(self, build: str) -> None:
        check_rpc(self._name)
        own = llama_build()
        if own != build:
            raise BadRequest(
                f"shard: llama.cpp must be the same everywhere: {self._name} has {own}, not {build}",
                f"the same release of xin on all, then: {BUILD}",
                param="shard",
            )


BUILD = "xin engines install llama.cpp --build"


def check_rpc(name: str) -> None:
    """EngineMissing unless llama.cpp here has RPC. Blocking."""
    built = backends()
    if "rpc" not in built:
        lacks = "has no llama.cpp" if not built else "has a llama.cpp that was built without RPC"
        raise EngineMissing(f"shard: {name} {lacks}", f"on {name}: {BUILD}", param="shard")


async def _hung_up(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass

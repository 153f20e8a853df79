"""A launch that is divided: the nodes that help are asked, and tied to its worker through their mutual TLS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec

from xin.backends.llama_cpp.dry_run_words import ModelSize
from xin.errors import LoadFailed, Unreachable, WorkerDied, XinError, from_code
from xin.installer.status import backends, llama_build
from xin.node.local_models import GGUF_ENGINE
from xin.node.plan import Place
from xin.node.plan_need import Need, counted
from xin.node.plan_verdict import free_bytes
from xin.node.relay import Relay
from xin.node.shards.company import Company, Order
from xin.node.shards.division import Room, divide, in_words, together
from xin.node.shards.helpers import check_rpc
from xin.node.shards.tunnel import Connection, carry, is_own
from xin.protocol.node import Device, NodeInfo, Peer
from xin.protocol.shard import HelperOrder, HelperReply
from xin.worker.frames import Share

HELPERS = "/api/members/helpers"
ALIVE_SECONDS = 10.0  # after a start of this node the others have to be met first
ASK_SECONDS = 90.0
Sizes = Callable[[str, Sequence[dict[str, Any]]], Awaitable[ModelSize]]
log = logging.getLogger("xin.node")
_reply = msgspec.json.Decoder(HelperReply).decode


class Gathering:
    """`own`: id and name of this node. `sizes`: DryRuns.sizes."""

    def __init__(self, own: tuple[str, str], relay: Relay, sizes: Sizes, place: Callable[[], Awaitable[Place]]) -> None:
        self._id, self._name = own
        self._relay = relay
        self._sizes = sizes
        self._place = place

    async def gather(self, order: Order) -> Company:
        """All that help are ready. Raises Unreachable, EngineMissing, BadRequest, OutOfMemory, LoadFailed."""
        company = Company()
        try:
            await self._gather(company, order)
        except BaseException:
            await company.close()
            raise
        return company

    async def offer(self, need: Need) -> str:
        """The flag with which living members would hold together what none holds alone; empty where there is none.

        By what they last told of their memory.
        """
        members = [one for one in self._relay.trusted() if one.relation == "peer" and one.status == "alive"]
        build = await asyncio.to_thread(lambda: llama_build() if "rpc" in backends() else "")
        able = [one for one in members if build and one.node is not None and _build_of(one.node) == build]
        if not able:
            return ""
        own = _room(self._name, self._id, (await self._place()).devices)
        rooms = [own, *(_room(one.name, one.id, one.node.devices) for one in able if one.node is not None)]
        chosen = together(need, rooms)
        return f"--shard {','.join(room.node for room in chosen)}" if chosen else ""

    async def _gather(self, company: Company, order: Order) -> None:
        await asyncio.to_thread(check_rpc, self._name)
        build = await asyncio.to_thread(llama_build)
        peers = [await self._alive(node_id) for node_id in order.shard if node_id != self._id]
        need, on_gpu = await self._need(order.path, order.options)
        free = [free_bytes(one) for one in (await self._place()).devices if (one.kind != "cpu") == on_gpu]
        rooms = [Room(self._name, self._id, sum(free), on_gpu)]
        doors: list[str] = []
        for peer in peers:
            reply = await self._helper(company, peer, HelperOrder(build=build, model_uid=order.uid))
            rooms.append(Room(peer.name, peer.id, reply.free_bytes, reply.on_gpu))
            doors.append(await self._door(company, peer, reply.id))
        company.parts = divide(need, rooms, force=order.force)
        endpoints = ["", *doors]
        company.shares = [Share(part.layers, way) for part, way in zip(company.parts, endpoints, strict=True)]
        company.notes.append(f"divided: {in_words(company.parts)}")
        if "prefix_cache" not in order.options:
            company.options["prefix_cache"] = 0
            company.notes.append("keeps no conversations between requests: they would cross the network (prefix_cache)")

    async def _alive(self, node_id: str) -> Peer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ALIVE_SECONDS
        while True:
            peer = next((one for one in self._relay.trusted() if one.id == node_id), None)
            if peer is not None and peer.status != "gone":
                return peer
            if loop.time() > deadline:
                name = peer.name if peer is not None else node_id
                raise Unreachable(f"{name} is to hold a part and does not answer", "xin nodes shows who is there")
            await asyncio.sleep(0.2)

    async def _need(self, path: str, options: Mapping[str, Any]) -> tuple[Need, bool]:
        """With whether this node's part goes to accelerators."""
        try:
            size = await self._sizes(path, [dict(options)])
        except OSError as exc:
            raise LoadFailed(f"cannot read {path}: {exc.strerror}", "xin list --all shows what is here") from exc
        if size.error:
            raise from_code(size.code, size.error, hint=size.hint, param=size.param)
        need = counted(size)
        if need.error:
            raise LoadFailed(need.error, "other options of the context may do")
        return need, size.gpu_layers > 0

    async def _helper(self, company: Company, peer: Peer, order: HelperOrder) -> HelperReply:
        """Open on `peer`, and watched from here; it ends with the company."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reply = _reply(await self._relay.ask(peer, "POST", HELPERS, msgspec.json.encode(order)))
                socket = await self._relay.socket(peer, f"{HELPERS}/{reply.id}/watch")
        except TimeoutError as exc:
            raise Unreachable(f"{peer.name} did not get ready for its part", "xin nodes shows who is there") from exc
        watching = asyncio.create_task(_watch(company, peer, order.model_uid, socket))

        async def end() -> None:
            watching.cancel()
            await asyncio.wait({watching})
            await socket.close()

        company.opened.push_async_callback(end)
        return reply

    async def _door(self, company: Company, peer: Peer, helper_id: str) -> str:
        """A port of loopback that leads to the helper's server, for programs of this user alone."""
        inside: set[asyncio.Task[None]] = set()

        async def let_in(end: Connection) -> None:
            try:
                if end.transport is None or not await asyncio.to_thread(is_own, end.transport):
                    log.warning("another user's program came to the way to %s, and was turned away", peer.name)
                    return
                other = await self._relay.raw(peer, f"{HELPERS}/{helper_id}/stream")
                end.transport.resume_reading()
                await carry(end, other)
            except XinError as exc:
                log.info("no way to the part on %s: %s", peer.name, exc.message)
            finally:
                end.close()

        class Door(Connection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                assert self.transport is not None
                self.transport.pause_reading()  # nothing is taken of who may have to be turned away
                task = asyncio.create_task(let_in(self), name=f"way to {peer.name}")
                inside.add(task)
                task.add_done_callback(inside.discard)

        server = await asyncio.get_running_loop().create_server(Door, "127.0.0.1", 0)

        async def shut() -> None:
            server.close()
            for task in [*inside]:
                task.cancel()
            await asyncio.gather(*inside, return_exceptions=True)

        company.opened.push_async_callback(shut)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _build_of(node: NodeInfo) -> str:
    """Of its llama.cpp; empty without RPC."""
    details = next((engine.details for engine in node.engines if engine.name == GGUF_ENGINE), {})
    return str(details.get("build", "")) if details.get("rpc") else ""


def _room(name: str, node_id: str, devices: Sequence[Device]) -> Room:
    accelerators = [free_bytes(one) for one in devices if one.kind != "cpu"]
    ram = [free_bytes(one) for one in devices if one.kind == "cpu"]
    return Room(name, node_id, sum(accelerators or ram), bool(accelerators))


async def _watch(company: Company, peer: Peer, uid: str, socket: aiohttp.ClientWebSocketResponse) -> None:
    told = ""
    with suppress(aiohttp.ClientError, OSError):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                told = message.data
    hint = "it can be launched again when that node is back: xin nodes shows who is there"
    company.lose(WorkerDied(f"{peer.name}, which holds a part of {uid}, {told or 'was lost'}", hint))

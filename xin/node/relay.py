"""Requests for a model that runs on another node: passed on byte for byte, and the answer back as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import HttpVersion11, web
from yarl import URL

from xin.client.exchange import error_of
from xin.errors import Busy, ModelNotFound, NotFound, Unreachable, WorkerDied
from xin.node.errors_middleware import REQUEST_ID, SERVED_BY
from xin.node.peers import Peers
from xin.node.routes.event_stream import error_event
from xin.node.shards.tunnel import Connection, dial
from xin.protocol.node import Instance, Peer

HOPS = "xin-hops"  # a request that carries it came from another node, and goes no further
RETURN_SECONDS = 10.0  # within which a node that was lost may be back
CONNECT_SECONDS = 2.0
READ_BYTES = 1 << 16
SOCKET_SECONDS = 10.0
SOCKET_CLOSE_SECONDS = 2.0
HEARTBEAT_SECONDS = 4.0  # of a WebSocket, and half of it for the answer
SERVING = ("ready", "loading")
PASSED_BACK = ("Content-Type", "Cache-Control", "X-Accel-Buffering", "Retry-After", "xin-ignored", "Allow")
ELSEWHERE = (Unreachable, WorkerDied, Busy, ModelNotFound)  # of a replica: another one may do better
_ERROR_EVENT = b'data: {"error":'
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError)
log = logging.getLogger("xin.node")


@dataclass(slots=True)
class Target:
    peer: Peer
    instance: Instance


class Relay:
    """`async with` it."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._session: aiohttp.ClientSession | None = None
        self._waiting: dict[str, set[asyncio.Timeout]] = {}
        self._ran: dict[str, set[str]] = {}  # what each node answered for when it was heard of last
        self._lost_at: dict[str, float] = {}
        peers.on_change.append(self._on_peer)

    async def __aenter__(self) -> Relay:
        self._session = aiohttp.ClientSession(
            trust_env=False, auto_decompress=False, read_bufsize=READ_BYTES, connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._peers.on_change.remove(self._on_peer)
        if self._session is not None:
            await self._session.close()

    def trusted(self) -> list[Peer]:
        """This user's other nodes on this host, and the members of the cluster; those that are gone too."""
        return [peer for peer in self._peers.cluster() if peer.relation in ("local", "peer")]

    def remote(self) -> Iterator[Target]:
        """What runs on nodes that are trusted and answer."""
        for peer in self.trusted():
            if peer.status != "gone":
                yield from (Target(peer, instance) for instance in peer.instances)

    def targets(self, model: str) -> list[Target]:
        """Where `model`, a uid or a name, runs elsewhere: each replica, ready before loading."""
        found = [target for target in self.remote() if answers_for(target.instance, model)]
        return sorted(found, key=lambda target: target.instance.state != "ready")

    def may_return(self, model: str) -> bool:
        """Was a node lost a moment ago that answered for it? One that said farewell is not expected back."""
        now = asyncio.get_running_loop().time()
        lost = [peer_id for peer_id, at in self._lost_at.items() if now - at < RETURN_SECONDS]
        return any(model in self._ran.get(peer_id, ()) for peer_id in lost)

    async def answer(self, request: web.Request, peer: Peer, *, is_last: bool) -> web.StreamResponse:
        """The answer of one node. What was lost after something of it was passed on ends with an error that names it.

        Before that, raises Unreachable, and unless `is_last` those of ELSEWHERE that the node answers with.
        """
        passing = _Passing(request, peer, request.rel_url.raw_path_qs, is_last)
        try:
            with self._until_gone(peer) as limit:
                async with limit:
                    return await self._passed(passing, await request.read())
        except _FAILURES as exc:
            log.info("%s was lost while it answered (%s): %r", peer.name, request[REQUEST_ID], exc)
            if passing.response is not None:
                return await passing.broken_off()
            raise Unreachable(f"{peer.name} went away before it answered", "try again, or xin nodes") from exc

    async def ask(self, peer: Peer, method: str, path: str, body: bytes = b"") -> bytes:
        """A question of this node's own. Raises Unreachable, or the error that the other node answers with."""
        assert self._session is not None
        endpoint, how = self._peers.way_to(peer.id)
        headers = {"Content-Type": "application/json", HOPS: "1", **how.get("headers", {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        settings = {**how, "headers": headers, "timeout": timeout}
        try:
            url = URL(f"{endpoint}{path}", encoded=True)
            async with self._session.request(method, url, data=body, **settings) as answer:
                text = await answer.read()
        except _FAILURES as exc:
            raise Unreachable(f"node {peer.name} does not answer", "xin nodes shows who is there") from exc
        if answer.status != 200:
            raise error_of(text, answer.status) or Unreachable(f"node {peer.name} answers with {answer.status}")
        return text

    async def socket(self, peer: Peer, path: str) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket to `peer`, for this node's own use; closed by who asked for it. Raises Unreachable."""
        assert self._session is not None
        endpoint, how = self._peers.way_to(peer.id)
        limits = aiohttp.ClientWSTimeout(ws_close=SOCKET_CLOSE_SECONDS)
        settings = {**how, "headers": {HOPS: "1", **how.get("headers", {})}, "heartbeat": HEARTBEAT_SECONDS}
        try:
            async with asyncio.timeout(SOCKET_SECONDS):
                socket: aiohttp.ClientWebSocketResponse = await self._session.ws_connect(
                    URL(f"{endpoint}{path}", encoded=True), timeout=limits, **settings
                )
        except _FAILURES as exc:
            raise Unreachable(f"node {peer.name} does not answer", "xin nodes shows who is there") from exc
        return socket

    async def raw(self, peer: Peer, path: str) -> Connection:
        """A connection to `peer` without frames, upgraded from HTTP, for this node's own use. Raises Unreachable."""
        endpoint, how = self._peers.way_to(peer.id)
        parts = urlsplit(endpoint)
        tls = (how["ssl"], how["server_hostname"]) if "ssl" in how else None
        try:
            headers = {HOPS: "1", **how.get("headers", {})}
            return await dial(parts.hostname or "", parts.port or 0, path, headers, tls)
        except (OSError, TimeoutError) as exc:
            raise Unreachable(f"node {peer.name} does not answer", "xin nodes shows who is there") from exc

    async def through(
        self, request: web.Request, node_id: str, path: str, body: bytes | None = None
    ) -> web.StreamResponse:
        """Any request, to one node; `body` in place of its own. Raises NotFound, Unreachable."""
        peer = next((one for one in self._peers.cluster() if one.id == node_id), None)
        if peer is None or peer.relation == "found":
            raise NotFound(f"no paired node has the id {node_id}", "xin nodes --json shows the ids", param="id")
        passing = _Passing(request, peer, path)
        try:
            with self._until_gone(peer) as limit:
                async with limit:
                    return await self._passed(passing, await request.read() if body is None else body)
        except _FAILURES as exc:
            if passing.response is not None:
                return await passing.broken_off()
            raise Unreachable(f"node {peer.name} does not answer", "xin nodes shows who is there") from exc

    async def _passed(self, passing: _Passing, body: bytes) -> web.StreamResponse:
        assert self._session is not None
        request, peer = passing.request, passing.peer
        endpoint, how = self._peers.way_to(peer.id)
        headers = {
            "Content-Type": request.headers.get("Content-Type", "application/json"),
            REQUEST_ID: request[REQUEST_ID],
            HOPS: "1",
            **how.get("headers", {}),
        }
        settings = {**how, "headers": headers}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        url = URL(f"{endpoint}{passing.path}", encoded=True)
        async with self._session.request(request.method, url, data=body, timeout=timeout, **settings) as upstream:
            if upstream.content_type != "text/event-stream":
                return passing.whole(upstream, await upstream.read())
            await passing.stream(upstream)
            assert passing.response is not None
            return passing.response

    @contextmanager
    def _until_gone(self, peer: Peer) -> Iterator[asyncio.Timeout]:
        """A limit that is reached when `peer` is known to be gone, however long its answer may take."""
        limit = asyncio.timeout(None)
        waiting = self._waiting.setdefault(peer.id, set())
        waiting.add(limit)
        try:
            yield limit
        finally:
            waiting.discard(limit)

    def _on_peer(self, peer: Peer) -> None:
        if peer.status != "gone":
            serving = [one for one in peer.instances if one.state in SERVING]
            self._ran[peer.id] = {name for one in serving for name in (one.served_uid, one.model_name)}
            self._lost_at.pop(peer.id, None)
        else:
            now = asyncio.get_running_loop().time()
            self._lost_at.setdefault(peer.id, now)
            for limit in self._waiting.pop(peer.id, set()):
                with suppress(RuntimeError):  # it has just ended
                    limit.reschedule(now)


class _Passing:
    """One attempt. `response` is there once something of the answer was passed on."""

    def __init__(self, request: web.Request, peer: Peer, path: str, is_last: bool = True) -> None:
        self.request = request
        self.peer = peer
        self.path = path
        self._is_last = is_last
        self.response: web.StreamResponse | None = None

    def whole(self, upstream: aiohttp.ClientResponse, body: bytes) -> web.Response:
        if upstream.status >= 400:
            self._refuse(body, upstream.status)
        return web.Response(body=body, status=upstream.status, headers=self._headers(upstream))

    async def stream(self, upstream: aiohttp.ClientResponse) -> None:
        """Headers wait for the first event, since until then another node may answer."""
        async for chunk in _chunks(upstream):
            if self.response is None:
                if chunk.startswith(b":") and b"data:" not in chunk:
                    continue
                if chunk.startswith(_ERROR_EVENT):
                    self._refuse(chunk.removeprefix(b"data: ").strip(), 500)
                self.response = await self._begun(upstream)
            await self.response.write(chunk)
        if self.response is None:
            self.response = await self._begun(upstream)
        await self.response.write_eof()

    async def broken_off(self) -> web.StreamResponse:
        assert self.response is not None
        lost = Unreachable(f"node {self.peer.name} was lost in mid-answer", "ask again; xin nodes shows who is there")
        with suppress(ConnectionError, aiohttp.ClientError):
            await self.response.write(b"\n\n" + error_event(lost))
            await self.response.write_eof()
        return self.response

    def _refuse(self, body: bytes, status: int) -> None:
        """Raise what another node may do better, where there is one."""
        error = None if self._is_last else error_of(body, status)
        if isinstance(error, ELSEWHERE):
            raise error

    async def _begun(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers=self._headers(upstream))
        if self.request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(self.request)
        return response

    def _headers(self, upstream: aiohttp.ClientResponse) -> dict[str, str]:
        passed = {name: upstream.headers[name] for name in PASSED_BACK if name in upstream.headers}
        return {**passed, SERVED_BY: upstream.headers.get(SERVED_BY, quote(self.peer.name))}


def answers_for(instance: Instance, model: str) -> bool:
    """Does a request for `model`, a uid, a name or one replica, mean it?"""
    return instance.state in SERVING and model in (instance.served_uid, instance.model_uid, instance.model_name)


async def _chunks(upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for chunk in upstream.content.iter_any():
        yield chunk

"""Follows one trusted node through its event stream."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from xin.errors import Forbidden
from xin.local_nodes import proves
from xin.protocol import sse
from xin.protocol.local_key import local_key
from xin.protocol.node import Event, Instance, Peer, decode_event

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 20.0  # a node pings each 15
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0
MAX_EVENT_BYTES = 16 << 20

_FAILURES = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    msgspec.DecodeError,
    msgspec.ValidationError,
    ValueError,
    Forbidden,
)


class Follower:
    """`run` it as a task, for as long as the node may come back.

    `on_peer(peer, at_once)` hears every change; `on_left(peer)` that the node said farewell; `on_samples(event)` its
    device samples, while wanted. `nonce`: what stands in the node's 0600 file; None trusts the endpoint as it is.
    """

    relation = "local"
    silence_seconds: float | None = None

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        nonce: str | None,
        *,
        on_peer: Callable[[Peer, bool], None],
        on_left: Callable[[Peer], None],
        on_samples: Callable[[Event], None],
        samples: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.nonce = nonce
        self.peer: Peer | None = None
        self._session = session
        self._on_peer = on_peer
        self._on_left = on_left
        self._on_samples = on_samples
        self._samples = samples
        self._response: aiohttp.ClientResponse | None = None
        self._stopping = False
        # Of every request: how it is encrypted, or the key by which programs of one user know one another.
        self.how: Mapping[str, Any] = {"headers": {"Authorization": f"Bearer {local_key(nonce)}"}} if nonce else {}
        self._query: Mapping[str, str] = {"peer": "1"}

    def want_samples(self, wanted: bool) -> None:
        """Asks anew, since a stream's kind is fixed when it opens."""
        if wanted != self._samples:
            self._samples = wanted
            if self._response is not None:
                self._response.close()

    async def run(self) -> None:
        """One connection after the other. A node is gone when it cannot be reached at once after its stream ended."""
        delay = FIRST_RETRY_SECONDS
        while True:
            heard = False
            try:
                await self._prove()
                heard = await self._follow()
            except TimeoutError:
                if self.peer is not None and self.peer.status == "alive":
                    self._set_status("slow")
                else:
                    self._lost()
            except _FAILURES as exc:
                log.debug("peer %s: %r", self.endpoint, exc)
                self.give_up()
            if heard and self._stopping:
                self.give_up()
            delay = FIRST_RETRY_SECONDS if heard else min(delay * 2, LAST_RETRY_SECONDS)
            await asyncio.sleep(delay)

    def give_up(self) -> None:
        """The node does not answer: it has left if it said farewell, else it is gone."""
        if not self._stopping:
            self._lost()
            return
        peer, self.peer, self._stopping = self.peer, None, False
        if peer is not None:
            self._on_left(peer)

    async def _prove(self) -> None:
        """Raises Forbidden when who answers does not know the nonce."""
        if self.nonce is None:
            return
        challenge = secrets.token_hex(16)
        timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        url = f"{self.endpoint}/api/proof"
        async with self._session.get(url, params={"challenge": challenge}, timeout=timeout) as response:
            answer = msgspec.json.decode(await response.content.read(1024), type=dict[str, str])
        if not proves(self.nonce, challenge, answer):
            raise Forbidden(f"{self.endpoint} is not the node that its file names")

    async def _follow(self) -> bool:
        """Until the stream ends; tells whether it began with the node's snapshot."""
        began = False
        query = {**self._query, "samples": "1"} if self._samples else self._query
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=self.silence_seconds or SILENCE_SECONDS
        )
        url = f"{self.endpoint}/api/events"
        try:
            async with self._session.get(url, params=query, timeout=timeout, **self.how) as response:
                response.raise_for_status()
                self._response = response
                decoder = sse.Decoder()
                async for chunk in response.content.iter_any():
                    self._heard()
                    for data in decoder.feed(chunk):
                        self._apply(decode_event(data))
                        began = True
        except aiohttp.ClientError as exc:
            # Also how want_samples ends a stream. Whether the node is gone, the next attempt tells.
            if not began or isinstance(exc, TimeoutError):
                raise
        finally:
            self._response = None
        return began

    def _heard(self) -> None:
        if self.peer is not None:
            self.peer.seen_at = time.time()
            self._set_status("alive")

    def _apply(self, event: Event) -> None:
        if event.type == "snapshot":
            self._begin(event)
        elif event.type == "stopping":
            self._stopping = True
        elif self.peer is None:
            raise ValueError("the stream did not begin with a snapshot")
        elif event.type == "instance" and event.instance is not None:
            self._put(event.instance)
        elif event.type == "instance_removed":
            self.peer.instances = [one for one in self.peer.instances if one.model_uid != event.model_uid]
            self._on_peer(self.peer, False)
        elif event.type == "samples":
            self._take_samples(self.peer, event)

    def _begin(self, event: Event) -> None:
        node = event.node
        if node is None:
            raise ValueError("the snapshot has no node")
        if self.peer is not None and self.peer.id != node.id:
            self.give_up()
        self._stopping = False
        self.peer = Peer(
            id=node.id,
            name=node.name,
            relation=self.relation,
            status="alive",
            version=node.version,
            endpoint=self.endpoint,
            addresses=[urlsplit(self.endpoint).hostname or ""],
            lan_port=node.lan_port,
            seen_at=time.time(),
            node=node,
            instances=event.instances or [],
        )
        self._on_peer(self.peer, True)

    def _put(self, instance: Instance) -> None:
        """Replace it where it stands, or add it; a change of state is told at once, a number may wait."""
        assert self.peer is not None
        uids = [one.model_uid for one in self.peer.instances]
        if instance.model_uid in uids:
            index = uids.index(instance.model_uid)
            at_once = self.peer.instances[index].state != instance.state
            self.peer.instances[index] = instance
        else:
            at_once = True
            self.peer.instances.append(instance)
        self._on_peer(self.peer, at_once)

    def _take_samples(self, peer: Peer, event: Event) -> None:
        if peer.node is not None and event.devices is not None:
            peer.node.devices = event.devices
        for instance in peer.instances:
            instance.worker = (event.workers or {}).get(instance.model_uid, instance.worker)
        event.peer_id = peer.id
        self._on_samples(event)

    def _lost(self) -> None:
        """It ended without farewell, and so did its models."""
        if self.peer is not None and self.peer.status != "gone":
            self.peer.instances = []
            self._set_status("gone")

    def _set_status(self, status: str) -> None:
        if self.peer is not None and self.peer.status != status:
            self.peer.status = status
            self._on_peer(self.peer, True)

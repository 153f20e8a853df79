"""The other nodes: this user's on this host and the cluster's are followed and trusted, others are only found."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from xin import __version__
from xin.config import LAN_PORT, NodeConfig
from xin.discovery import Advertiser, FoundNode, Mdns, NodeBrowser, as_peer
from xin.errors import Unreachable, UsageError, XinError
from xin.local_nodes import LocalNode
from xin.node import local_registry
from xin.node.events import EventHub
from xin.node.follower import Follower
from xin.node.guard import is_loopback
from xin.node.identity import Identity
from xin.node.paired import PairedNodes
from xin.node.trust.trust import Trust
from xin.protocol.node import Event, Peer

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
RESCAN_SECONDS = 10.0
FLUSH_SECONDS = 0.25
GONE_SECONDS = 3600.0
MDNS_DELAY_SECONDS = 0.5
MDNS_RETRY_SECONDS = 60.0


class Peers:
    """`async with` it, and `announce` once the node is bound. `interfaces` bounds mDNS to those addresses (tests).

    `trust`: whose members to follow.

    Raises UsageError for what is no address of a node in `peers`.
    """

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        events: EventHub,
        *,
        trust: Trust | None = None,
        interfaces: list[str] | None = None,
    ) -> None:
        self._private = config.private
        self._identity = identity
        self._events = events
        self._interfaces = interfaces
        self._static = [loopback_endpoint(url) for url in config.peers if lan_address(url) is None]
        elsewhere = [address for url in config.peers if (address := lan_address(url)) is not None]
        self._peers: dict[str, Peer] = {}
        self._followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed: set[str] = set()
        self._file: Path | None = None
        self._session: aiohttp.ClientSession | None = None
        self.on_change: list[Callable[[Peer], None]] = []
        self._announced_anew = asyncio.Event()
        self.mdns = "not announced yet"  # or "announced", or why not
        self._paired: PairedNodes | None = None
        if trust is not None:
            self._paired = PairedNodes(
                trust, elsewhere, on_peer=self._on_peer, on_left=self._on_left, on_samples=self._on_samples
            )
            trust.on_papers.append(self._announce_anew)

    async def __aenter__(self) -> Peers:
        self._session = aiohttp.ClientSession(trust_env=False, read_bufsize=1 << 16)
        self._events.on_watchers.append(self._on_watchers)
        self._reconcile([])
        if self._paired is not None:
            self._paired.start(self._session)
        if not self._private:
            self._tasks.append(asyncio.create_task(self._watch_registry(), name="local nodes"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            await asyncio.to_thread(local_registry.remove, self._file)
        self._events.on_watchers.remove(self._on_watchers)
        tasks = [*self._tasks, *(task for _, task in self._followers.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._paired is not None:
            await self._paired.close()
        if self._session is not None:
            await self._session.close()

    async def announce(self) -> None:
        """Make this node known, on this host at once and on the network from the background; nothing if private."""
        if self._private:
            return
        try:
            self._file = await asyncio.to_thread(local_registry.write, self._identity)
        except OSError as exc:
            log.warning("other nodes on this host will not see this one: %s", exc)
        self._tasks.append(asyncio.create_task(self._join_network(), name="mDNS"))

    def cluster(self) -> list[Peer]:
        """The others, those of this host first, then by name."""
        return sorted(self._peers.values(), key=lambda peer: (peer.relation != "local", peer.name, peer.id))

    def way_to(self, peer_id: str) -> tuple[str, Mapping[str, Any]]:
        """The endpoint of a trusted node, and the arguments of every request to it. Raises Unreachable."""
        peer = self._peers.get(peer_id)
        paired = self._paired.follower(peer_id) if self._paired is not None else None
        if peer is not None and peer.relation == "peer" and paired is not None:
            return paired.endpoint, paired.how
        for follower, _ in self._followers.values():
            if follower.peer is peer and peer is not None:
                return follower.endpoint, follower.how
        raise Unreachable(f"there is no way to node {peer.name if peer else peer_id}", "xin nodes shows who is there")

    async def _watch_registry(self) -> None:
        """A stat per second; the files are read when one came or went, and now and then for dead ones."""
        stamp, read_at = -1, float("-inf")
        while True:
            now = await asyncio.to_thread(local_registry.stamp)
            if now != stamp or time.monotonic() - read_at > RESCAN_SECONDS:
                entries = await asyncio.to_thread(local_registry.read_all)
                stamp, read_at = now, time.monotonic()
                self._reconcile(entries)
                self._drop_long_gone()
            await asyncio.sleep(WATCH_SECONDS)

    def _reconcile(self, entries: list[LocalNode]) -> None:
        """Follow each node that was named or stands in the registry, by the nonce that stands there, and no others."""
        wanted: dict[str, str | None] = dict.fromkeys(self._static)
        for entry in entries:
            if entry.nonce != self._identity.nonce and _is_loopback_url(entry.endpoint):
                wanted[_normal(entry.endpoint)] = entry.nonce
        for endpoint, (follower, _) in list(self._followers.items()):
            if endpoint not in wanted or follower.nonce != wanted[endpoint]:
                self._unfollow(endpoint)
        for endpoint, nonce in wanted.items():
            if endpoint not in self._followers:
                self._follow(endpoint, nonce)

    def _follow(self, endpoint: str, nonce: str | None) -> None:
        assert self._session is not None
        follower = Follower(
            self._session,
            endpoint,
            nonce,
            on_peer=self._on_peer,
            on_left=self._on_left,
            on_samples=self._on_samples,
            samples=self._events.client_watchers > 0,
        )
        task = asyncio.create_task(follower.run(), name=f"peer {endpoint}")
        self._followers[endpoint] = follower, task

    def _unfollow(self, endpoint: str) -> None:
        follower, task = self._followers.pop(endpoint)
        task.cancel()
        follower.give_up()

    def _on_peer(self, peer: Peer, at_once: bool) -> None:
        known = self._peers.get(peer.id)
        is_known_here = known is not None and known.relation == "local" and known.status != "gone"
        if peer.id == self._identity.id or (peer.relation == "peer" and is_known_here):
            return
        self._peers[peer.id] = peer
        if at_once:
            self._publish(peer.id)
        elif peer.id not in self._changed:
            self._changed.add(peer.id)
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush, peer.id)

    def _flush(self, peer_id: str) -> None:
        if peer_id in self._changed:
            self._publish(peer_id)

    def _publish(self, peer_id: str) -> None:
        """A copy: the peer changes while the event waits in somebody's queue."""
        self._changed.discard(peer_id)
        if peer := self._peers.get(peer_id):
            for callback in self.on_change:
                callback(peer)
            snapshot = msgspec.structs.replace(peer, instances=list(peer.instances))
            self._events.publish(Event(type="peer", at=time.time(), peer=snapshot))

    def _on_left(self, peer: Peer) -> None:
        self._changed.discard(peer.id)
        known = self._peers.get(peer.id)
        if known is not None and known.relation == peer.relation:
            del self._peers[peer.id]
            self._events.publish(Event(type="peer_removed", at=time.time(), peer_id=peer.id))

    def _on_samples(self, event: Event) -> None:
        self._events.publish(event)

    def _on_watchers(self, _count: int) -> None:
        """Peers ask one another for samples only on behalf of clients, else two of them would keep each other at it."""
        wanted = self._events.client_watchers > 0
        for follower, _ in self._followers.values():
            follower.want_samples(wanted)
        if self._paired is not None:
            self._paired.want_samples(wanted)

    def _drop_long_gone(self) -> None:
        for peer in list(self._peers.values()):
            if peer.status == "gone" and time.time() - peer.seen_at > GONE_SECONDS:
                self._on_left(peer)

    async def _join_network(self) -> None:
        """Announce and browse until cancelled; a host without network is asked again."""
        await asyncio.sleep(MDNS_DELAY_SECONDS)
        while True:
            self._announced_anew.clear()
            try:
                async with (
                    Mdns(self._interfaces) as mdns,
                    NodeBrowser(mdns, self._on_found, self._on_lost),
                    Advertiser(mdns, self._announcement()),
                ):
                    self.mdns = "announced"
                    await self._announced_anew.wait()
            except XinError as exc:
                self.mdns = exc.message
                log.warning("%s (%s)", exc.message, exc.hint)
                await asyncio.sleep(MDNS_RETRY_SECONDS)

    def _announcement(self) -> FoundNode:
        this = self._identity
        return FoundNode(
            id=this.id,
            name=this.name,
            version=__version__,
            port=this.lan_port or LAN_PORT,
            lan_open=this.lan_port is not None,
        )

    async def _announce_anew(self) -> None:
        self._announced_anew.set()

    def _on_found(self, found: FoundNode) -> None:
        """What the network claims never touches a node that is known from this host."""
        if self._paired is not None and found.lan_open:
            self._paired.heard_of(found.id, list(found.addresses), found.port)
        known = self._peers.get(found.id)
        if found.id == self._identity.id or (known is not None and known.relation != "found"):
            return
        self._on_peer(as_peer(found), True)

    def _on_lost(self, found: FoundNode) -> None:
        known = self._peers.get(found.id)
        if known is not None and known.relation == "found":
            self._on_left(known)


def lan_address(url: str) -> tuple[str, int] | None:
    """Where a member on another host listens, from HOST, HOST:PORT or https://HOST:PORT; None for one on this host."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host = parts.hostname or ""
        plain = not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
        if parts.scheme == "https" and plain and host and not is_loopback(host):
            return host, parts.port or LAN_PORT
    except ValueError:
        pass
    return None


def loopback_endpoint(url: str) -> str:
    """The base URL of a node on this host. Raises UsageError for any other."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        plain = not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
        if parts.scheme == "http" and plain and parts.port and is_loopback(parts.hostname or ""):
            return _normal(parts.geturl())
    except ValueError:
        pass
    raise UsageError(
        f"{url} is no address of a node",
        "give --peer as http://127.0.0.1:PORT for one on this machine, HOST or HOST:PORT for a paired one on another",
    )


def _is_loopback_url(url: str) -> bool:
    try:
        return bool(loopback_endpoint(url))
    except UsageError:
        return False


def _normal(url: str) -> str:
    """One spelling for each endpoint."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = "127.0.0.1" if host.endswith("localhost") else f"[{host}]" if ":" in host else host
    return f"http://{host}:{parts.port}"

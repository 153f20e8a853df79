"""Follows nodes by their event streams into the store: reconnects, tells who is silent or gone, turns to another."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from urllib.parse import urlsplit

from xin import local_nodes
from xin.client import AsyncClient
from xin.errors import Forbidden, Unreachable, XinError
from xin.protocol.node import Event, Peer
from xin.tui.store import Store
from xin.tui.text import clean

SLOW_SECONDS = 3.0  # a node that is watched speaks each second
GONE_SECONDS = 10.0
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0
FORGET_SECONDS = 600.0
SEARCH_SECONDS = 1.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Follower:
    """One node. `home`: the one talked to, which also tells of others; another is taken only if it is `node_id`."""

    def __init__(self, fleet: Fleet, endpoint: str, node_id: str | None, *, home: bool) -> None:
        self.endpoint = endpoint
        self.node_id = node_id
        self.home = home
        self.alive = False
        self.task: asyncio.Task[None] | None = None
        self._fleet = fleet
        self._silence: asyncio.TimerHandle | None = None
        self._proved = False

    async def run(self) -> None:
        """One connection after the other. What cannot be reached at once after its stream ended is gone."""
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                await self._prove()
                await self._follow()
                cause = f"the node at {self.endpoint} ended its stream"
            except TimeoutError:
                self.alive, cause = False, f"the node at {self.endpoint} is silent"
            except XinError as exc:
                cause = exc.message
            finally:
                self._expect_silence()
            heard, self.alive = self.alive, False
            if not heard:
                self._fleet.lost(self, cause)
            delay = FIRST_RETRY_SECONDS if heard else min(delay * 2, LAST_RETRY_SECONDS)
            await asyncio.sleep(delay)

    async def _prove(self) -> None:
        """A node that has a file of this user must hold its nonce. Raises Forbidden."""
        entries = await asyncio.to_thread(local_nodes.read_all) if is_loopback(self.endpoint) else []
        port = urlsplit(self.endpoint).port
        nonces = [entry.nonce for entry in entries if entry.port == port]
        if not nonces and not self._proved:
            return
        challenge = secrets.token_hex(16)
        answer = await self._fleet.client(self.endpoint).proof(challenge)
        if not any(local_nodes.proves(nonce, challenge, answer) for nonce in nonces):
            raise Forbidden(f"{self.endpoint} is not the node that its file names")
        self._proved = True

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        stream = self._fleet.client(self.endpoint).events(samples=True, peer=not self.home)
        async with aclosing(stream) as events, asyncio.timeout(GONE_SECONDS) as deadline:
            async for event in events:
                deadline.reschedule(loop.time() + GONE_SECONDS)
                self._heard(loop)
                if event.type == "snapshot":
                    self._begin(event)
                elif self.node_id is not None:
                    self._fleet.take(self, event)

    def _begin(self, event: Event) -> None:
        if event.node is None:
            raise Unreachable(f"{self.endpoint} does not say which node it is")
        if not self.home and self.node_id not in (None, event.node.id):
            raise Unreachable(f"another node answers at {self.endpoint}")
        self._fleet.found(self, event)
        self.alive = True

    def _heard(self, loop: asyncio.AbstractEventLoop) -> None:
        self._expect_silence()
        self._silence = loop.call_later(SLOW_SECONDS, self._silent)
        if self.alive and self.node_id is not None:
            self._fleet.store.heard(self.node_id)

    def _expect_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()

    def _silent(self) -> None:
        if self.alive and self.node_id is not None:
            self._fleet.store.set_status(self.node_id, "slow")


class Fleet:
    """All that is followed. `run` it as a task; cancelling it ends every stream.

    `client`: of an endpoint. `search`: endpoints of this user's nodes, asked for while none answers.
    """

    def __init__(
        self, store: Store, client: Callable[[str], AsyncClient], search: Callable[[], Awaitable[list[str]]] | None
    ) -> None:
        self.store = store
        self.client = client
        self._search = search
        self._followers: dict[str, Follower] = {}
        self._searching: asyncio.Task[None] | None = None
        self._swept_at = time.monotonic()

    async def run(self, endpoint: str) -> None:
        """Follow the node there, and those of its host that it tells of, until cancelled."""
        self.store.set_link("connecting", endpoint)
        self.follow(endpoint, None, home=True)
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        tasks = [follower.task for follower in self._followers.values()] + [self._searching]
        self._followers.clear()
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def follow(self, endpoint: str, node_id: str | None, *, home: bool = False) -> None:
        """Begin, or begin anew in another role."""
        old = self._followers.get(endpoint)
        if old is not None and old.task is not None:
            old.task.cancel()
        follower = self._followers[endpoint] = Follower(self, endpoint, node_id, home=home)
        follower.task = asyncio.create_task(follower.run(), name=f"follow {endpoint}")

    def is_followed(self, node_id: str) -> bool:
        return any(one.node_id == node_id and one.alive for one in self._followers.values())

    # ---- what followers tell

    def found(self, follower: Follower, event: Event) -> None:
        """Its snapshot: the stream has begun."""
        assert event.node is not None
        if follower.node_id not in (None, event.node.id):
            self.store.forget(follower.node_id or "")
        follower.node_id = event.node.id
        known = self.store.node(event.node.id)
        relation = known.relation if known is not None and known.relation == "peer" else "local"
        self.store.put_snapshot(event, follower.endpoint, "self" if follower.home else relation)
        if follower.home:
            self._stop_search()
            self.store.set_link("live", follower.endpoint)
            self._take_peers(event.peers or [])

    def take(self, follower: Follower, event: Event) -> None:
        """A later event of its stream."""
        assert follower.node_id is not None
        if event.peer is not None:
            self._take_peer(event.peer)
        elif event.type == "peer_removed" and event.peer_id is not None:
            self._peer_left(event.peer_id)
        elif event.peer_id is None:
            self.store.put_event(follower.node_id, event)
        elif not self.is_followed(event.peer_id):
            self.store.put_event(event.peer_id, event)
        self._sweep()

    def lost(self, follower: Follower, cause: str) -> None:
        """It cannot be reached. When it was the one talked to, another node that answers takes its place."""
        if follower.node_id is not None:
            self.store.set_status(follower.node_id, "gone")
        if not follower.home:
            return
        heir = next((one for one in self._followers.values() if one.alive and one is not follower), None)
        if heir is not None:
            follower.home = False
            self.store.set_home(heir.node_id or "")
            self.store.set_link("live", heir.endpoint)
            self.follow(heir.endpoint, heir.node_id, home=True)
            return
        self.store.set_link("lost", follower.endpoint, clean(cause))
        if self._search is not None and self._searching is None:
            self._searching = asyncio.create_task(self._look_around(), name="search for nodes")

    # ---- other nodes

    def _take_peers(self, peers: list[Peer]) -> None:
        listed = {peer.id for peer in peers}
        for view in list(self.store.nodes.values()):
            if view.relation == "found" and view.id not in listed:
                self.store.forget(view.id)
        for peer in peers:
            self._take_peer(peer)

    def _take_peer(self, peer: Peer) -> None:
        self.store.put_peer(peer, followed=self.is_followed(peer.id))
        if peer.relation != "local" or not peer.endpoint or not self._is_here(peer.endpoint):
            return
        known = self._followers.get(peer.endpoint)
        if known is None:
            self.follow(peer.endpoint, peer.id)
        elif known.node_id != peer.id and not known.home and peer.status != "gone":
            if known.node_id is not None:
                self.store.forget(known.node_id)
            self.follow(peer.endpoint, peer.id)

    def _peer_left(self, peer_id: str) -> None:
        """One that was only seen is forgotten; one that was known is kept as gone for a while."""
        view = self.store.node(peer_id)
        if view is None or self.is_followed(peer_id) or view.relation == "self":
            return
        if view.relation == "found":
            self.store.forget(peer_id)
        else:
            self.store.set_status(peer_id, "gone")

    def _is_here(self, endpoint: str) -> bool:
        """The address counts on the node's own host only: that of a node behind a tunnel would be another one here."""
        return is_loopback(endpoint) and is_loopback(self.store.link.endpoint or "") and self._is_this_host()

    def _is_this_host(self) -> bool:
        """The node talked to listens where it is talked to, so there is no tunnel between."""
        home = self.store.home
        if home is None or home.info is None or not self.store.link.endpoint:
            return False
        return urlsplit(home.info.endpoint).port == urlsplit(self.store.link.endpoint).port

    def _sweep(self) -> None:
        """Forget what is gone for long, and stop asking for it."""
        if time.monotonic() - self._swept_at < SEARCH_SECONDS * 60:
            return
        self._swept_at = time.monotonic()
        for view in list(self.store.nodes.values()):
            if view.status == "gone" and time.time() - view.seen_at > FORGET_SECONDS:
                self.store.forget(view.id)
                for endpoint, follower in list(self._followers.items()):
                    if follower.node_id == view.id and follower.task is not None and not follower.home:
                        follower.task.cancel()
                        del self._followers[endpoint]

    # ---- when none answers

    async def _look_around(self) -> None:
        """Another node of this user, perhaps the same one on another port, becomes the one talked to."""
        assert self._search is not None
        while True:
            await asyncio.sleep(SEARCH_SECONDS)
            for endpoint in await self._search():
                if endpoint not in self._followers:
                    for follower in self._followers.values():
                        follower.home = False
                    self._searching = None
                    self.follow(endpoint, None, home=True)
                    return

    def _stop_search(self) -> None:
        task, self._searching = self._searching, None
        if task is not None:
            task.cancel()


def is_loopback(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "") in LOOPBACK

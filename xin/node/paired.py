"""The other members of the cluster, each followed over mutual TLS at whichever of its addresses answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from collections.abc import Sequence as Many
from typing import Any

import aiohttp
import msgspec

from xin.errors import Forbidden
from xin.node.follower import Follower
from xin.node.trust.trust import Trust
from xin.protocol.node import Event, Peer
from xin.protocol.trust import Member, Members, tls_name

PING_SECONDS = 1.0
LARGE_PING_SECONDS = 1.5  # in a large cluster: what a word costs is paid for every other node
LARGE = 12
SILENCE_SECONDS = 2.5
GREET_SECONDS = 1.5
log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Members).decode


class PairedFollower(Follower):
    """Greets before it follows: each tells the other where it listens, and whom else it knows.

    A node that says nothing for 2.5 seconds is slow, and gone when it does not take a greeting then.
    """

    relation = "peer"
    silence_seconds = SILENCE_SECONDS

    def __init__(
        self,
        session: aiohttp.ClientSession,
        trust: Trust,
        member: Member,
        elsewhere: Many[tuple[str, int]] = (),
        **callbacks: Any,
    ) -> None:
        super().__init__(session, "", None, **callbacks)
        self.member = member
        self._elsewhere = elsewhere
        self._trust = trust
        self._turn = -1
        self.peer = Peer(id=member.id, name=member.name, relation="peer", status="gone", addresses=member.addresses)

    def give_up(self) -> None:
        """A member that ended is still one: it is gone, and may come back."""
        if self._stopping and self.peer is not None:  # it said so: what it ran is not expected back
            self.peer.instances = []
            self._on_peer(self.peer, True)
        self._stopping = False
        self._lost()

    def _begin(self, event: Event) -> None:
        if event.node is None or event.node.id != self.member.id:
            raise ValueError("the snapshot is another node's")
        super()._begin(event)

    async def _prove(self) -> None:
        """The handshake proves who it is; the next address in turn is tried."""
        papers = self._trust.papers
        member = self.member
        ways = [*((address, member.port) for address in member.addresses), *self._elsewhere]
        if papers is None or not self._trust.is_open or not ways:
            raise Forbidden(f"there is no way to {member.name}")
        self._turn += 1
        address, port = ways[self._turn % len(ways)]
        self.endpoint = f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"
        self.how = tls_of(self._trust, member)
        body = msgspec.json.encode(await self._trust.own_member())
        timeout = aiohttp.ClientTimeout(total=GREET_SECONDS)
        url = f"{self.endpoint}/api/members/greet"
        json = {"Content-Type": "application/json"}
        async with self._session.post(url, data=body, headers=json, timeout=timeout, **self.how) as response:
            response.raise_for_status()
            told = _decode(await response.read())
        self._turn -= 1  # it was the right one
        await self._trust.add(told.members)
        self._query = self._wanted_query()

    def keep_pace(self) -> None:
        """Asks anew where the cluster has become larger or smaller than it was when the stream began."""
        if self._response is not None and self._query != self._wanted_query():
            self._response.close()

    def _wanted_query(self) -> dict[str, str]:
        often = PING_SECONDS if len(self._trust.members()) < LARGE else LARGE_PING_SECONDS
        return {"peer": "1", "ping": f"{often:g}"}


class PairedNodes:
    """`elsewhere`: where a member may be found that is not where it was, host and port, each tried for all of them.

    `start`, then `reconcile` whenever members may have changed. What it hears goes to the callbacks of Follower."""

    def __init__(
        self,
        trust: Trust,
        elsewhere: Many[tuple[str, int]] = (),
        *,
        on_peer: Callable[[Peer, bool], None],
        on_left: Callable[[Peer], None],
        on_samples: Callable[[Event], None],
    ) -> None:
        self._trust = trust
        self._elsewhere = elsewhere
        self._callbacks = {"on_peer": on_peer, "on_left": on_left, "on_samples": on_samples}
        self._on_peer = on_peer
        self._on_left = on_left
        self._following: dict[str, tuple[PairedFollower, asyncio.Task[None]]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._samples = False

    def start(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._trust.on_members.append(self.reconcile)
        self.reconcile()

    async def close(self) -> None:
        self._trust.on_members.remove(self.reconcile)
        tasks = [task for _, task in self._following.values()]
        self._following.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reconcile(self) -> None:
        """Follow every member where it is said to be, and nobody else."""
        assert self._session is not None
        wanted = {member.id: member for member in self._trust.members()}
        for node_id, (follower, task) in list(self._following.items()):
            if node_id not in wanted:
                del self._following[node_id]
                task.cancel()
                if follower.peer is not None:
                    self._on_left(follower.peer)
            else:
                follower.member = wanted[node_id]
                follower.keep_pace()
        for node_id, member in wanted.items():
            if node_id not in self._following:
                self._follow(self._session, member)

    def want_samples(self, wanted: bool) -> None:
        self._samples = wanted
        for follower, _ in self._following.values():
            follower.want_samples(wanted)

    def heard_of(self, node_id: str, addresses: list[str], port: int) -> None:
        """The network claims that a member is there. Tried like any address: only the member itself gets an answer."""
        if found := self._following.get(node_id):
            member = found[0].member
            merged = list(dict.fromkeys([*member.addresses, *addresses]))[-16:]
            found[0].member = msgspec.structs.replace(member, addresses=merged, port=port or member.port)

    def follower(self, node_id: str) -> PairedFollower | None:
        found = self._following.get(node_id)
        return found[0] if found else None

    def _follow(self, session: aiohttp.ClientSession, member: Member) -> None:
        follower = PairedFollower(
            session, self._trust, member, self._elsewhere, samples=self._samples, **self._callbacks
        )
        self._following[member.id] = follower, _task(follower.run(), member.id)
        assert follower.peer is not None
        self._on_peer(follower.peer, True)


def tls_of(trust: Trust, member: Member) -> dict[str, Any]:
    """Arguments of an aiohttp request by which only `member` gets to read it."""
    assert trust.papers is not None
    return {"ssl": trust.papers.client, "server_hostname": tls_name(member.id)}


def _task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=f"member {name}")

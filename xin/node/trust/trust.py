"""Which cluster this node is in, and who else is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from xin.errors import NotFound
from xin.node.identity import Identity
from xin.node.trust.papers import Drawer, Papers
from xin.protocol.trust import MOST_MEMBERS, Card, Member, Passport, issuer_name

MOST_ADDRESSES = 8
log = logging.getLogger("xin.node")


class Trust:
    """`papers` is None while this node is on its own; then nothing of it is open to other hosts.

    `on_papers` are awaited one after the other when they changed, `on_members` called when a member came or went.
    `addresses`: where others reach this node.
    """

    def __init__(self, identity: Identity, folder: Path, addresses: Callable[[], Sequence[str]]) -> None:
        self.papers: Papers | None = None
        self.on_papers: list[Callable[[], Awaitable[None]]] = []
        self.on_members: list[Callable[[], None]] = []
        self._identity = identity
        self._addresses = addresses
        self._drawer = Drawer(folder / identity.id, identity.id)
        self._members: dict[str, Member] = {}
        self._barred: set[str] = set()
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        self.papers = await asyncio.to_thread(self._drawer.load)
        if self.papers is not None:
            self._members = {member.id: member for member in self.papers.passport.members}

    @property
    def cluster_id(self) -> str | None:
        return self.papers.cluster_id if self.papers is not None else None

    @property
    def is_open(self) -> bool:
        """Whether others can reach this node, which is when it knows its port."""
        return self._identity.lan_port is not None

    def members(self) -> list[Member]:
        """The others."""
        return list(self._members.values())

    def find(self, id_or_name: str) -> Member:
        """Raises NotFound, also where a name is that of several."""
        if member := self._members.get(id_or_name):
            return member
        named = [member for member in self._members.values() if member.name == id_or_name]
        if len(named) == 1:
            return named[0]
        what = f"{len(named)} members are named" if named else "no other member of the cluster is"
        raise NotFound(f"{what} {id_or_name}", "xin cluster lists them with their ids", param="node")

    def is_member(self, node_id: str, issuer: str) -> bool:
        """Of one whose certificate the handshake has verified, perhaps before the authority was changed.

        Only who was turned out must have one of today's.
        """
        if self.papers is None:
            return False
        return node_id not in self._barred or issuer == issuer_name(self.papers.cluster_id)

    def card(self) -> Card:
        return Card(
            id=self._identity.id, name=self._identity.name, cluster_id=self.cluster_id, others=len(self._members)
        )

    async def own_member(self) -> Member:
        """As others are told to reach this node."""
        found = await asyncio.to_thread(self._addresses)
        return Member(
            id=self._identity.id,
            name=self._identity.name,
            addresses=list(found[:MOST_ADDRESSES]),
            port=self._identity.lan_port or 1,
        )

    async def passport(self) -> Passport:
        """What lets another node into this one's cluster, which is founded if there is none."""
        async with self._changing:
            if self.papers is None:
                await self._take(await asyncio.to_thread(_found))
                log.info("founded cluster %s", self.cluster_id)
        return await self.passport_of_today()

    async def passport_of_today(self) -> Passport:
        assert self.papers is not None
        return msgspec.structs.replace(self.papers.passport, members=[*self._members.values(), await self.own_member()])

    async def enter(self, passport: Passport) -> None:
        """Be a member by `passport`, and of no other cluster."""
        async with self._changing:
            await self._take(passport)
        log.info("this node is in cluster %s", self.cluster_id)

    async def add(self, members: Sequence[Member], *, direct: bool = False) -> None:
        """Know of more members; what is new is written. `direct`: by their own word, so they may have moved too."""
        changed = False
        for member in members:
            known = self._members.get(member.id)
            if member.id == self._identity.id or (known is not None and (member == known or not direct)):
                continue
            if known is None and len(self._members) >= MOST_MEMBERS:
                continue
            self._members[member.id] = member
            changed = True
        if changed:
            await self._members_changed()

    async def remove(self, node_id: str, *, bar: bool = False) -> None:
        """`bar`: also refuse what it sends by the certificate that it has."""
        if bar:
            self._barred.add(node_id)
        if self._members.pop(node_id, None) is not None:
            await self._members_changed()

    async def leave(self) -> None:
        """Be on its own again; the papers are destroyed."""
        async with self._changing:
            await asyncio.to_thread(self._drawer.empty)
            self.papers, self._members = None, {}
            await self._tell()

    async def _take(self, passport: Passport) -> None:
        members = {member.id: member for member in passport.members if member.id != self._identity.id}
        kept = msgspec.structs.replace(passport, members=list(members.values()))
        self.papers = await asyncio.to_thread(self._drawer.put, kept)
        self._members = members
        await self._tell()

    async def _members_changed(self) -> None:
        if self.papers is not None:
            passport = msgspec.structs.replace(self.papers.passport, members=self.members())
            self.papers.passport = passport
            await asyncio.to_thread(self._drawer.keep_members, passport)
        for callback in self.on_members:
            callback()

    async def _tell(self) -> None:
        for callback in self.on_papers:
            await callback()
        for told in self.on_members:
            told()


def _found() -> Passport:
    """Imports what it needs, so call it in a thread."""
    from xin.node.trust import authority

    return authority.found()

"""What is done to a cluster as a whole: join, leave, turn a member out, change the locks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from xin.errors import Conflict, NotFound
from xin.node.paired import tls_of
from xin.node.trust import token
from xin.node.trust.lan_door import LanDoor
from xin.node.trust.pairing import DIGITS, PairingDoor, knock
from xin.node.trust.trust import Trust
from xin.protocol.trust import Joined, Member, Passport, Rotated

TELL_SECONDS = 5.0
log = logging.getLogger("xin.node")


class ClusterActs:
    def __init__(self, trust: Trust, door: LanDoor, pairing: PairingDoor) -> None:
        self._trust = trust
        self._door = door
        self._pairing = pairing

    async def join(self, text: str) -> Joined:
        """By a token. Raises BadRequest, Unreachable, Forbidden, Conflict."""
        read = token.read(text)
        return await knock(self._trust, read.addresses, read.port, read.offer, read.secret)

    async def pair(self, addresses: Sequence[str], port: int, digits: str) -> Joined:
        return await knock(self._trust, addresses, port, DIGITS, digits)

    async def leave(self) -> None:
        """Tell the others, as far as they answer, and forget the cluster's authority."""
        self._check_in_a_cluster()
        members = self._trust.members()
        await self._tell(members, "left", b"{}")
        await self._pairing.close()
        await self._trust.leave()
        for member in members:
            self._door.drop(member.id)

    async def rotate(self, out: str | None = None) -> Rotated:
        """A new authority for all members but `out`; those that do not answer now must join again.

        Certificates and tokens of the old one are worth nothing afterwards.
        """
        self._check_in_a_cluster()
        turned_out = self._trust.find(out) if out is not None else None
        if turned_out is not None:
            await self._trust.remove(turned_out.id, bar=True)
            self._door.drop(turned_out.id)
        members = self._trust.members()
        fresh = await asyncio.to_thread(_found)
        fresh.members = [*members, await self._trust.own_member()]
        told = await self._tell(members, "renew", msgspec.json.encode(fresh))
        await self._pairing.close()
        await self._trust.enter(fresh)
        return Rotated(
            cluster_id=self._trust.cluster_id or "",
            told=[member.name for member in members if told[member.id]],
            missed=[member.name for member in members if not told[member.id]],
        )

    async def renewed(self, passport: Passport) -> None:
        """A member has changed the locks and sent the key."""
        await self._pairing.close()
        for gone in {member.id for member in self._trust.members()} - {member.id for member in passport.members}:
            await self._trust.remove(gone, bar=True)
            self._door.drop(gone)
        await self._trust.enter(passport)

    def _check_in_a_cluster(self) -> None:
        if self._trust.papers is None:
            raise Conflict("this node is in no cluster", "xin pair, or xin join TOKEN")

    async def _tell(self, members: Sequence[Member], what: str, body: bytes) -> dict[str, bool]:
        """Which members took it."""
        timeout = aiohttp.ClientTimeout(total=TELL_SECONDS)
        async with aiohttp.ClientSession(trust_env=False, timeout=timeout) as session:
            done = await asyncio.gather(*(self._tell_one(session, member, what, body) for member in members))
        return dict(zip([member.id for member in members], done, strict=True))

    async def _tell_one(self, session: aiohttp.ClientSession, member: Member, what: str, body: bytes) -> bool:
        how: dict[str, Any] = tls_of(self._trust, member)
        for address in member.addresses:
            host = f"[{address}]" if ":" in address else address
            url = f"https://{host}:{member.port}/api/members/{what}"
            try:
                async with session.post(url, data=body, headers={"Content-Type": "application/json"}, **how) as reply:
                    if reply.status == 200:
                        return True
            except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                log.info("%s was not told: %r", member.name, exc)
        return False


def host_and_port(address: str, default: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address. Raises NotFound for a port that is none."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    else:
        host, port = address, ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise NotFound(f"{port[:20]!r} is no port", "HOST or HOST:PORT", param="address")
    return host, int(port) if port else default


def _found() -> Passport:
    from xin.node.trust import authority

    return authority.found()

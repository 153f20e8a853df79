"""What two nodes do once they share a channel: see who is in a cluster, and let the other in."""

from __future__ import annotations

from typing import Literal

from xin.errors import BadRequest, Conflict
from xin.node.trust.channel import Channel
from xin.node.trust.trust import Trust
from xin.protocol.trust import Card, Joined, Member, Passport

Direction = Literal["joined", "admitted"]


async def meet(channel: Channel, trust: Trust, *, asks: bool, remote: str) -> Joined:
    """Both ends run it. Raises Conflict when each has a cluster with others in it."""
    own = trust.card()
    if asks:
        await channel.send(own)
        other = await channel.receive(Card)
    else:
        other = await channel.receive(Card)
        await channel.send(own)
    if other.id == own.id:
        raise BadRequest("this is the node itself", "pair another one")
    way = direction(own, other, asks=asks)
    if way == "admitted":
        await _let_in(channel, trust, remote)
    else:
        await _enter(channel, trust, remote)
    return Joined(cluster_id=trust.cluster_id or "", node_id=other.id, node_name=other.name, direction=way)


def direction(own: Card, other: Card, *, asks: bool) -> Direction:
    """Into the cluster that there is; of two the one with members; else into that of the one who offers."""
    mine, theirs = own.cluster_id is not None, other.cluster_id is not None
    if mine and theirs and own.cluster_id != other.cluster_id and own.others and other.others:
        raise Conflict(
            f"both are in clusters: {own.name} with {own.others} others, {other.name} with {other.others}",
            "xin cluster leave on one of them first",
        )
    rank = (theirs, other.others > 0)
    own_rank = (mine, own.others > 0)
    if rank != own_rank:
        return "joined" if rank > own_rank else "admitted"
    return "joined" if asks else "admitted"


async def _let_in(channel: Channel, trust: Trust, remote: str) -> None:
    """The newcomer is a member once it says where it listens, which it does when it has its papers."""
    await channel.send(await trust.passport())
    await trust.add([_reachable(await channel.receive(Member), remote)], direct=True)


async def _enter(channel: Channel, trust: Trust, remote: str) -> None:
    passport = await channel.receive(Passport)
    await trust.enter(passport)
    await channel.send(await trust.own_member())


def _reachable(member: Member, remote: str) -> Member:
    """Where it was just seen comes first."""
    member.addresses = list(dict.fromkeys([*([remote] if remote else []), *member.addresses]))
    return member

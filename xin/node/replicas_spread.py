"""Replicas over the nodes of a cluster: how many each gets at a launch, and when their number changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote

import msgspec

from xin.errors import BadRequest, ModelNotFound, XinError
from xin.node.launch_plan import MOST_REPLICAS, check_replica
from xin.node.manager import Manager
from xin.node.placement import Offer, Placement, is_meant, level, stays_here
from xin.node.relay import Relay
from xin.protocol.node import Instance, LaunchReply, LaunchRequest, Peer, ScaleReply, ScaleRequest

HERE = ""  # this node, among ids
Counts = dict[str, int]  # by node's id
_launched = msgspec.json.Decoder(LaunchReply).decode
_scaled = msgspec.json.Decoder(ScaleReply).decode
_request = msgspec.json.Decoder(LaunchRequest).decode


class Spread:
    """`name`: of this node."""

    def __init__(self, name: str, manager: Manager, relay: Relay, placement: Placement) -> None:
        self._name = name
        self._manager = manager
        self._relay = relay
        self._placement = placement

    async def launch(self, order: LaunchRequest, *, wait: bool) -> tuple[str, Counts]:
        """Launch `order.replica` of it over the nodes: the uid, and how many each node has.

        What runs already counts, and is left running. When one node refuses, what was begun ends again.
        """
        if uid := self._running(order):
            have = self._counts(uid)
            order = msgspec.structs.replace(order, model_uid=uid)
            joins = [self._begin(node_id, order, n, wait=wait) for node_id, n in have.items()]
            await asyncio.gather(*joins)  # they say so if it is something else
            if sum(have.values()) < order.replica:
                await self.scale(uid, order.replica, wait=wait)
            return uid, self._counts(uid)
        wanted = await self._shares(order, {}, order.replica)
        order = msgspec.structs.replace(order, placed=self.in_words(wanted))
        first = max(wanted, key=lambda node_id: wanted[node_id])
        uid = (await self._begin(first, order, wanted[first], wait=False)).model_uid
        order = msgspec.structs.replace(order, model_uid=uid)
        nodes = [node_id for node_id, count in wanted.items() if count]
        begun = await asyncio.gather(
            *(self._begin(node_id, order, wanted[node_id], wait=wait) for node_id in nodes), return_exceptions=True
        )
        if failures := [one for one in begun if isinstance(one, BaseException)]:
            good = [node_id for node_id, one in zip(nodes, begun, strict=True) if isinstance(one, LaunchReply)]
            await asyncio.gather(*(self._end(node_id, uid) for node_id in good))
            raise failures[0]
        return uid, wanted

    async def scale(self, uid: str, count: int, *, wait: bool = True) -> ScaleReply:
        """Run so many in all. Raises ModelNotFound, BadRequest, and with `wait` what their loads raise."""
        have = self._counts(uid)
        if not have:
            self._manager.get(uid)  # says what runs
            raise ModelNotFound(f"no model has the uid {uid!r}", "xin list shows the uids", param="model_uid")
        if count < 1:
            check_replica(count)
        if count > (most := MOST_REPLICAS * len(self._nodes())):
            raise BadRequest(f"replica is {count}: at most {most} on these nodes", "ask for fewer", param="replica")
        wanted = dict(have)
        order: LaunchRequest | None = None
        if count > sum(have.values()):
            order = msgspec.structs.replace(await self._order(uid, have), model_uid=uid)
            wanted = await self._shares(order, have, count)
        while sum(wanted.values()) > count:
            fullest = max(wanted, key=lambda node_id: (wanted[node_id], node_id != HERE))
            wanted[fullest] -= 1
        if order is not None:
            order = msgspec.structs.replace(order, placed=self.in_words(wanted))
        changes = {node_id: n for node_id, n in wanted.items() if n != have.get(node_id, 0)}
        leaving = await asyncio.gather(
            *(self._change(node_id, uid, n, None if node_id in have else order, wait) for node_id, n in changes.items())
        )
        names = self._nodes()
        shown = {names[node_id]: n for node_id, n in wanted.items() if n}
        return ScaleReply(model_uid=uid, replica=sum(wanted.values()), nodes=shown, leaving=sum(leaving))

    def in_words(self, counts: Mapping[str, int]) -> str:
        """Like "3 replicas: 2 on ant, 1 on bee"."""
        named = self.named(counts)
        return f"{sum(named.values())} replicas: " + ", ".join(f"{count} on {name}" for name, count in named.items())

    def named(self, counts: Mapping[str, int]) -> dict[str, int]:
        names = self._nodes()
        return {names[node_id]: count for node_id, count in counts.items() if count and node_id in names}

    # -- who has what

    def _running(self, order: LaunchRequest) -> str:
        """The uid of what this launch means and runs already; "" for nothing."""
        remote = [target.instance for target in self._relay.remote()]
        found = [one for one in [*self._manager.instances(), *remote] if is_meant(order, one)]
        return found[0].model_uid if found else ""

    def _counts(self, uid: str) -> Counts:
        """Replicas that stay, of this uid."""
        here = [one for one in self._manager.instances() if _stays(one, uid)]
        counts = Counter(target.peer.id for target in self._relay.remote() if _stays(target.instance, uid))
        return {**({HERE: len(here)} if here else {}), **counts}

    def _nodes(self) -> dict[str, str]:
        """Names by id."""
        return {HERE: self._name, **{peer.id: peer.name for peer in self._relay.trusted() if peer.status != "gone"}}

    async def _order(self, uid: str, have: Counts) -> LaunchRequest:
        """What it was launched with, from a node that has it."""
        if HERE in have:
            return self._manager.request_of(uid)
        peer = self._peer(next(iter(have)))
        return _request(await self._relay.ask(peer, "GET", f"/api/launches/{quote(uid, safe='')}"))

    async def _shares(self, order: LaunchRequest, have: Counts, count: int) -> Counts:
        """How many each node shall have: those that it has, and more where it is best, as even as can be."""
        members = self._placement.members()
        if stays_here(order):
            return _piled(have or {HERE: 0}, count)
        offers = await self._placement.offers(order, members) if members else []
        return shares(offers, have, count) if members else _piled(have or {HERE: 0}, count)

    def _peer(self, node_id: str) -> Peer:
        return next(peer for peer in self._relay.trusted() if peer.id == node_id)

    # -- telling nodes

    async def _begin(self, node_id: str, order: LaunchRequest, count: int, *, wait: bool) -> LaunchReply:
        order = msgspec.structs.replace(order, replica=count, node=None)
        if node_id == HERE:
            instance = await self._manager.launch(order, wait=wait)
            return LaunchReply(instance.model_uid)
        path = f"/v1/models?wait_ready={'true' if wait else 'false'}"
        return _launched(await self._relay.ask(self._peer(node_id), "POST", path, msgspec.json.encode(order)))

    async def _change(self, node_id: str, uid: str, count: int, order: LaunchRequest | None, wait: bool) -> int:
        """How many leave. `order`: of a node that has none yet."""
        if order is not None:
            await self._begin(node_id, order, count, wait=wait)
            return 0
        if node_id == HERE:
            return await self._manager.scale(uid, count, wait=wait)
        path = f"/v1/models/{quote(uid, safe='')}/scale?wait_ready={'true' if wait else 'false'}"
        body = msgspec.json.encode(ScaleRequest(replica=count))
        return _scaled(await self._relay.ask(self._peer(node_id), "POST", path, body)).leaving

    async def _end(self, node_id: str, uid: str) -> None:
        with suppress(XinError):
            if node_id == HERE:
                await self._manager.terminate(uid)
            else:
                await self._relay.ask(self._peer(node_id), "DELETE", f"/v1/models/{quote(uid, safe='')}")


def shares(offers: Sequence[Offer], have: Mapping[str, int], count: int) -> Counts:
    """Each next one goes where the fewest are, of those nodes where one more fits the one with the best offer.

    A node that has some already and does not say what would fit is not asked for more.
    """
    best: dict[str, Offer] = {}
    for offer in offers:
        node_id = offer.peer.id if offer.peer is not None else HERE
        if level(offer.cell) and (node_id not in best or offer.rank > best[node_id].rank):
            best[node_id] = offer
    if not best:
        return _piled(have or {HERE: 0}, count)
    wanted = dict(have)
    while sum(wanted.values()) < count:
        added = {node_id: wanted.get(node_id, 0) - have.get(node_id, 0) for node_id in best}
        roomy = [one for one in best if _holds(best[one], added[one] + 1)] or list(best)
        chosen = min(roomy, key=lambda one: (wanted.get(one, 0), *(-part for part in best[one].rank)))
        wanted[chosen] = wanted.get(chosen, 0) + 1
    return wanted


def _holds(offer: Offer, more: int) -> bool:
    return more == 1 or offer.cell.need_bytes * more <= offer.cell.free_bytes


def _piled(have: Mapping[str, int], count: int) -> Counts:
    """On the nodes that have some, the emptiest first."""
    wanted = dict(have)
    while sum(wanted.values()) < count:
        emptiest = min(wanted, key=lambda node_id: (wanted[node_id], node_id != HERE))
        wanted[emptiest] += 1
    return wanted


def _stays(instance: Instance, uid: str) -> bool:
    return instance.served_uid == uid and instance.state not in ("stopping", "failed")

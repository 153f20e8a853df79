"""Where in the cluster a launch that names no node goes: every member is asked what would fit.

All in an accelerator's memory comes before a part of it, then RAM; then weights that are there, free memory, load.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from xin.errors import BadRequest, Unreachable, XinError
from xin.node.gpu_choice import number_of
from xin.node.plan_verdict import gib
from xin.node.relay import Relay
from xin.protocol.node import Instance, LaunchRequest, Peer, Plan, PlanCell, PlanRequest, PlanRow

ANSWER_SECONDS = 15.0  # a plan may have to read a header from a hub
log = logging.getLogger("xin.node")
_plan = msgspec.json.Decoder(Plan).decode


class Home(Protocol):
    """The node that is asked; see Manager."""

    def instances(self) -> list[Instance]: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """`peer` is None for the node that was asked. `reason` in words; "" where there was no choice."""

    peer: Peer | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one node has for a launch. `peer` as in Placed; `running`: requests that its models answer now."""

    peer: Peer | None
    row: PlanRow
    cell: PlanCell
    running: int = 0

    @property
    def rank(self) -> tuple[int, bool, int, int, bool]:
        left = max(self.cell.free_bytes - self.cell.need_bytes, 1 << 20)
        return (level(self.cell), self.row.downloaded, int(math.log2(left)), -self.running, self.peer is None)


class Placement:
    """`own`: id and name of this node; `plan`: its own plan of an order."""

    def __init__(
        self, own: tuple[str, str], home: Home, relay: Relay, plan: Callable[[PlanRequest], Awaitable[Plan]]
    ) -> None:
        self._own = own
        self._home = home
        self._relay = relay
        self._plan = plan

    async def place(self, order: LaunchRequest) -> Placed:
        """Raises BadRequest naming `node` or `shard` for one that is not there. Names in `shard` become ids."""
        if order.shard:
            return self._divided(order)
        if order.node:
            return self._named(order.node)
        members = self.members()
        if not members or stays_here(order):
            return Placed()
        if any(is_meant(order, instance) for instance in self._home.instances()):
            return Placed()
        for target in self._relay.remote():
            if target.peer.relation == "peer" and is_meant(order, target.instance):
                return Placed(target.peer, f"on {target.peer.name}: it runs there already")
        return best(await self.offers(order, members), self._own[1])

    def members(self) -> list[Peer]:
        """The other nodes that a launch may go to."""
        return [peer for peer in self._relay.trusted() if peer.relation == "peer" and peer.status == "alive"]

    def _divided(self, order: LaunchRequest) -> Placed:
        """The worker's node: the one that was asked where it holds a part, else the first."""
        homes = [self._named(name, "shard") for name in order.shard]
        strangers = [home.peer.name for home in homes if home.peer is not None and home.peer.relation != "peer"]
        if strangers:
            raise BadRequest(f"{strangers[0]} is no paired node", "xin pair; then it can hold a part", param="shard")
        order.shard = [home.peer.id if home.peer is not None else self._own[0] for home in homes]
        if len(order.shard) < 2 or len(set(order.shard)) < len(order.shard):
            raise BadRequest("shard takes two different nodes or more", "name them as NODE,NODE", param="shard")
        wanted = (
            self._named(order.node) if order.node else next((home for home in homes if home.peer is None), homes[0])
        )
        if (wanted.peer.id if wanted.peer is not None else self._own[0]) not in order.shard:
            raise BadRequest(f"node {order.node} is none of those in shard", "leave node out", param="node")
        names = ", ".join(home.peer.name if home.peer is not None else self._own[1] for home in homes)
        at = wanted.peer.name if wanted.peer is not None else self._own[1]
        return Placed(wanted.peer, f"on {at}, divided over {names}")

    def _named(self, name: str, param: str = "node") -> Placed:
        if name in self._own:
            return Placed()
        trusted = self._relay.trusted()
        found = [peer for peer in trusted if name in (peer.id, peer.name)]
        alive = [peer for peer in found if peer.status != "gone"]
        if len(alive) > 1:
            ids = ", ".join(peer.id for peer in alive)
            raise BadRequest(f"{len(alive)} nodes are called {name}", f"name one by its id: {ids}", param=param)
        if alive:
            return Placed(alive[0])
        if found:
            raise Unreachable(f"node {name} does not answer", "xin nodes shows who is there")
        names = ", ".join([self._own[1], *(peer.name for peer in trusted)])
        raise BadRequest(f"there is no paired node {name}", f"there is: {names}; xin pair adds one", param=param)

    async def offers(self, order: LaunchRequest, members: Sequence[Peer]) -> list[Offer]:
        """What this node and `members` have for it."""
        asked = PlanRequest(
            model_name=order.model_name,
            model_size_in_billions=order.model_size_in_billions,
            model_format=order.model_format,
            quantization=order.quantization,
            options=order.options,
        )
        plans = await asyncio.gather(self._plan_here(asked), *(self._plan_there(peer, asked) for peer in members))
        loads = [self._home.instances(), *(peer.instances for peer in members)]
        offers = []
        for peer, plan, instances in zip([None, *members], plans, loads, strict=True):
            running = sum(instance.stats.running for instance in instances)
            offers += [Offer(peer, row, cell, running) for row in plan.rows for cell in row.cells] if plan else []
        return [one for one in offers if order.gpu is None or number_of(one.cell.device_id) in order.gpu]

    async def _plan_here(self, order: PlanRequest) -> Plan | None:
        try:
            return await self._plan(order)
        except XinError:  # the launch itself will say so
            return None

    async def _plan_there(self, peer: Peer, order: PlanRequest) -> Plan | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return _plan(await self._relay.ask(peer, "POST", "/api/plan", msgspec.json.encode(order)))
        except (XinError, TimeoutError, msgspec.MsgspecError) as exc:
            log.info("%s has no plan of %s: %s", peer.name, order.model_name, exc)
            return None


def best(offers: Sequence[Offer], own_name: str) -> Placed:
    """The offer with the highest rank; this node where none fits, since its refusal says what would."""
    fitting = [offer for offer in offers if level(offer.cell) > 0]
    if not fitting:
        return Placed()
    first = max(fitting, key=lambda offer: offer.rank)
    where = "RAM" if first.cell.device_id == "cpu" else first.cell.device_id
    how = f"all of it fits in {where}" if first.cell.verdict == "fits" else f"a part of it fits in {where}"
    there = "its weights are there" if first.row.downloaded else "its weights are fetched"
    name = first.peer.name if first.peer is not None else own_name
    return Placed(first.peer, f"on {name}: {how}, {there}, {gib(first.cell.free_bytes)} are free")


def stays_here(order: LaunchRequest) -> bool:
    """A path names a file of the node that is asked."""
    return bool(order.model_path) or order.model_name.startswith(("/", "~", "."))


def level(cell: PlanCell) -> int:
    """In an accelerator, in a part of it, in RAM, in RAM with a shorter context; 0: nowhere."""
    in_ram = cell.device_id == "cpu"
    if cell.verdict == "fits":
        return 2 if in_ram else 4
    if cell.verdict == "partial":
        return 1 if in_ram else 3
    return 0


def is_meant(order: LaunchRequest, instance: Instance) -> bool:
    """Would this launch find that instance and join it?"""
    if instance.state in ("failed", "stopping") or instance.serves:
        return False
    if order.model_uid is not None:
        return order.model_uid == instance.model_uid
    same = order.quantization is None or order.quantization.lower() == instance.quantization.lower()
    return order.model_name == instance.model_name and same and order.options == instance.options

"""Several workers of one uid on this node. The first has the uid itself, the others are uid@2, uid@3, …"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from xin.errors import BadRequest, Conflict
from xin.node.instance_runner import InstanceRunner
from xin.node.instance_table import InstanceTable
from xin.node.launch_plan import check_replica
from xin.node.replicas_routing import Candidate, Prompt, Router, prompt_of

log = logging.getLogger(__name__)


class ReplicaMaker(Protocol):
    """What the manager does for its replicas."""

    def make_replica(self, uid: str, first: InstanceRunner) -> InstanceRunner:
        """Another one of what `first` runs, entered in the table, not started."""

    async def keep_count(self, first: InstanceRunner) -> None:
        """Write down how many there shall be."""


@dataclass(frozen=True, slots=True)
class Picked:
    """`prompt`: what it was chosen by; None where there was no choice."""

    runner: InstanceRunner
    prompt: Prompt | None = None


class Replicas:
    """`released` is set whenever a request has ended; `background` runs what nobody waits for."""

    def __init__(
        self,
        table: InstanceTable,
        maker: ReplicaMaker,
        released: asyncio.Event,
        background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._table = table
        self._maker = maker
        self._released = released
        self._background = background
        self._router = Router()

    def pick(self, model: str, body: bytes) -> Picked | None:
        """One that can answer now. One that leaves answers too, while no other of its uid is there."""
        found = self._table.find(model)
        if found is None:
            return None
        if found.uid == model and found.instance.serves:  # one replica was named
            return Picked(found) if found.state == "ready" else None
        group = self._table.replicas(found.instance.served_uid)
        ready = [one for one in group if one.state == "ready"] or [one for one in group if one.may_answer]
        if len(ready) < 2:
            return Picked(ready[0]) if ready else None
        prompt = prompt_of(body)
        candidates = [Candidate(one.uid, running=one.keep_alive.held) for one in ready]
        best = self._router.order(candidates, prompt)[0].key
        return Picked(next(one for one in ready if one.uid == best), prompt)

    def answering(self, picked: Picked) -> AbstractContextManager[None]:
        """While it answers."""
        return nullcontext() if picked.prompt is None else self._router.routed(picked.runner.uid, picked.prompt)

    def members(self, uid: str) -> list[InstanceRunner]:
        """Those that serve `uid` and stay, the first one first."""
        return [one for one in self._table.replicas(uid) if one.state != "stopping"]

    def first(self, uid: str) -> InstanceRunner:
        """Raises ModelNotFound; BadRequest for one of the others, Conflict for one that leaves."""
        found = self._table.by_uid(uid)
        if found.instance.serves:
            raise BadRequest(f"{uid} is one replica of {found.instance.serves}", "scale that", param="model_uid")
        if found.state == "stopping":
            raise Conflict(f"{uid} is ending on this node", "try again when it has answered what it was asked")
        return found

    async def ready(self, first: InstanceRunner) -> None:
        """Raises what a load has failed of."""
        await first.wait_ready()
        for one in self.members(first.uid):
            await one.wait_ready()

    def grow(self, first: InstanceRunner, count: int) -> None:
        """Begin as many as lack to `count`, one after another, since each counts the memory that is free."""
        members = self.members(first.uid)
        if first not in members:
            return  # it was ended meanwhile
        before = members[-1]
        for _ in range(count - len(members)):
            one = self._maker.make_replica(self._free_uid(first.uid), first)
            one.start(partial(_follow, one, before))
            before = one
        if first.instance.replica != (counted := len(self.members(first.uid))):
            first.tell(replica=counted)

    async def scale(self, first: InstanceRunner, count: int) -> None:
        """As many as `count`, at least one: new ones begin; those that are too many end when they have answered."""
        check_replica(count)
        for one in self.members(first.uid):
            if one.instance.serves and one.state == "failed":
                self._table.remove(one)
                await one.stop()
        self.leave(self._to_leave(first, len(self.members(first.uid)) - count))
        self.grow(first, count)
        if first.state == "stopping":
            return
        first.tell(replica=len(self.members(first.uid)))
        await self._maker.keep_count(first)

    def leave(self, runners: list[InstanceRunner]) -> None:
        """They take no more requests, answer what they have, and end."""
        for one in runners:
            one.leave()
            self._background(self._drained(one))

    async def _drained(self, runner: InstanceRunner) -> None:
        """End it once it has answered what it was asked."""
        while runner.keep_alive.held:
            self._released.clear()
            await self._released.wait()
        await runner.stop()
        self._table.remove(runner)
        self._router.forget(runner.uid)
        log.info("%s has left", runner.uid)

    def _to_leave(self, first: InstanceRunner, count: int) -> list[InstanceRunner]:
        """Those that do not answer yet, then the least busy, then the youngest; never the first."""
        rest = [one for one in self.members(first.uid) if one is not first]
        rest.sort(key=lambda one: (one.state == "ready", one.keep_alive.held, -one.instance.launched_at))
        return rest[: max(0, count)]

    def _free_uid(self, uid: str) -> str:
        taken = set(self._table.uids())
        return next(name for n in itertools.count(2) if (name := f"{uid}@{n}") not in taken)


async def _follow(runner: InstanceRunner, before: InstanceRunner) -> None:
    """Raises what the one before it has failed of; what that one has fetched need not be fetched again."""
    await before.wait_ready()
    runner.plan = replace(before.plan, request=runner.plan.request)

"""What runs on this node: launches, joins, leases and ends instances. Every mutation runs in a task of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from xin import paths
from xin.config import NodeConfig
from xin.errors import BadRequest, Busy, Conflict, XinError
from xin.node.eviction import victims
from xin.node.gpu_choice import check_gpu, share
from xin.node.instance_log import InstanceLog
from xin.node.instance_runner import Check, InstanceRunner, Publisher
from xin.node.instance_table import InstanceTable
from xin.node.launch_fetch import Fetcher, fetched
from xin.node.launch_plan import LaunchPlan, make_plan
from xin.node.local_models import known_models
from xin.node.own_tasks import OwnTasks
from xin.node.replicas import Picked, Replicas
from xin.node.resolve import not_known
from xin.node.shards.company import Gather
from xin.node.state import DesiredLaunch, DesiredState
from xin.node.thread_budget import ThreadBudget, usable_cores
from xin.node.worker_handle import WorkerHandle
from xin.protocol.node import Device, Event, Instance, LaunchRequest, LocalModel, WorkerInfo

STOP_CLOSE_SECONDS = 3.0
READING_SECONDS = 1.1  # devices are read at most once a second: only then is seen what has become free

log = logging.getLogger(__name__)
Settle = Callable[[LaunchRequest], Awaitable[LaunchRequest]]


@dataclass(slots=True)
class Lease:
    """A ready model for the time of one request. `instance` is live: it changes as the model does."""

    instance: Instance
    handle: WorkerHandle


class Manager:
    """Instances by uid. start() brings the desired state back; stop() drains."""

    def __init__(self, config: NodeConfig, *, node_id: str, node_name: str, events: Publisher) -> None:
        self._config = config
        self._node_id = node_id
        self._node_name = node_name
        self._events = events
        self._budget = ThreadBudget(config.threads or 1)
        self._desired = DesiredState.of_node(config.port)
        self._runners = InstanceTable()
        self._tasks = OwnTasks()
        self._restored: set[str] = set()
        self._released = asyncio.Event()
        self._replicas = Replicas(self._runners, self, self._released, self._tasks.in_background)
        self._stopping = False
        self.check: Check | None = None  # of a launch, before its worker starts
        self.fetch: Fetcher | None = None  # returns when all is on the disk
        self.devices: Callable[[], Awaitable[list[Device]]] | None = None  # of this machine
        self.gather: Gather | None = None  # the nodes that help a launch that is divided
        self.settle: Settle | None = None  # tells what only a hub knows of a request

    @property
    def threads(self) -> int:
        """CPU threads for all models together; known after start()."""
        return self._budget.total

    async def start(self) -> None:
        """Count the cores and begin to load what was launched explicitly; the loads go on in the background."""
        self._budget.total = self._config.threads or await asyncio.to_thread(usable_cores)
        for uid, desired in (await self._desired.load()).items():
            await self._restore(uid, desired)

    async def stop(self, drain_seconds: float) -> None:
        """Take no more, wait for what runs, then end all workers. The desired state stays. A second call kills."""
        busy = Busy("this node is stopping", "ask another node, or try again when it is back")
        if self._stopping:
            for runner in self._runners:
                runner.kill()
        else:
            self._stopping = True
            self._events.publish(Event(type="stopping", at=time.time()))
            unready = [one for one in self._runners if one.state != "ready" and not one.is_leaving]
            await self._stop_all(unready, busy)
            await self._drain(drain_seconds)
        await self._stop_all([*self._runners], busy)
        self._runners.clear()
        await self._tasks.close()
        await self._desired.settle()
        self._budget.close()
        log.info("all models have ended")

    async def launch(self, request: LaunchRequest, *, wait: bool = True, explicit: bool = True) -> Instance:
        """Start it, join it in flight, or find it running; with `wait`, return when it is ready.

        A caller that is cancelled leaves the launch going. Raises BadRequest, ModelNotFound, EngineMissing, Conflict
        at once; with `wait` also what the load raises, and LaunchCancelled.
        """
        runner = await self._tasks.run(self._admit(request, explicit))
        if wait:
            await self._replicas.ready(runner)
        return runner.snapshot()

    async def scale(self, uid: str, count: int, *, wait: bool = True) -> int:
        """Run `count` replicas of what runs; with `wait`, return when they are ready. How many still leave.

        With 0 all leave: each ends once it has answered what it was asked. Raises ModelNotFound, BadRequest, and with
        `wait` what their loads raise.
        """
        first = self._replicas.first(uid)
        if count == 0:
            await self._tasks.run(self._leave(first))
        else:
            await self._tasks.run(self._replicas.scale(first, count))
            if wait:
                await self._replicas.ready(first)
        return sum(one.is_leaving for one in self._runners.replicas(uid))

    async def terminate(self, uid: str, *, kill: bool = False) -> None:
        """End it, whatever its state, and forget it. Returns when its memory is free. `kill`: its process at once."""
        runner = self._runners.by_uid(uid)
        if kill:
            for one in [runner] if runner.instance.serves else self._runners.replicas(uid):
                one.kill()
        await self._tasks.run(self._end(runner))

    async def cancel_launch(self, uid: str) -> None:
        """End a launch in flight, or a restart; its waiters get LaunchCancelled. Conflict when it is not in flight."""
        runner = self._runners.by_uid(uid)
        if runner.state not in ("loading", "downloading"):
            raise Conflict(f"{uid} is not being launched: it is {runner.state}", f"to end it: xin terminate {uid}")
        await self._tasks.run(self._end(runner))

    def instances(self) -> list[Instance]:
        return [runner.snapshot() for runner in self._runners]

    def get(self, uid_or_model_name: str) -> Instance:
        return self._runners.required(uid_or_model_name).snapshot()

    def log(self, uid: str) -> InstanceLog:
        return self._runners.required(uid).log

    def request_of(self, uid: str) -> LaunchRequest:
        """What the instance was launched with."""
        first = self._runners.required(uid)
        return msgspec.structs.replace(first.plan.request, replica=first.instance.replica)

    def workers(self) -> dict[str, WorkerInfo]:
        """By uid; only instances that have a process."""
        shown = {runner.uid: runner.snapshot().worker for runner in self._runners}
        return {uid: worker for uid, worker in shown.items() if worker.pid}

    async def known_models(self) -> list[LocalModel]:
        return await asyncio.to_thread(known_models, self._config.model_dirs)

    @asynccontextmanager
    async def lease(self, model: str, body: bytes = b"") -> AsyncIterator[Lease]:
        """The worker of a uid or launch name; a known local model is launched, a load in flight joined.

        `body`: the request's, by which one of several replicas is chosen. Raises ModelNotFound, Busy, and what its load
        raises.
        """
        picked = None if self._stopping else self._replicas.pick(model, body)
        if picked is None:
            picked = Picked(await self._wake(model))
        runner = picked.runner
        keep_alive, instance = runner.keep_alive, runner.instance
        if keep_alive.held >= instance.n_parallel + self._config.max_waiting:
            raise Busy(f"{keep_alive.held} requests already wait for {instance.model_uid}", "try again later")
        keep_alive.hold()
        try:
            with self._replicas.answering(picked):
                yield Lease(instance, await runner.acquire())
        finally:
            instance.last_used_at = time.time()
            keep_alive.release()
            self._released.set()

    # -- RunnerOwner

    def runner_idle(self, runner: InstanceRunner) -> None:
        group = self._runners.replicas(runner.instance.served_uid)
        if any(one.keep_alive.held or one.state in ("loading", "downloading") for one in group):
            runner.keep_alive.touch()  # they end together
        elif not self._stopping and runner.state == "ready":
            log.info("%s was idle for %g s and is unloaded", runner.uid, runner.keep_alive.seconds or 0)
            self._tasks.in_background(self._unload(self._runners.by_uid(runner.instance.served_uid)))

    def runner_failed(self, runner: InstanceRunner, first_load: bool) -> None:
        """A launch that never ran is not tried again at the next start, unless that is where it comes from."""
        if first_load and runner.uid not in self._restored:
            self._tasks.in_background(self._desired.remove(runner.uid))

    def has_room(self, runner: InstanceRunner, bytes_: int) -> bool:
        """Would `make_room` find it?"""
        return bool(victims([one for one in self._runners if one is not runner], bytes_))

    async def make_room(self, runner: InstanceRunner, bytes_: int) -> bool:
        """Those that came on demand go first, of each kind the longest unused; never a pinned or busy one."""
        chosen = victims([one for one in self._runners if one is not runner], bytes_)
        for one in chosen:
            idle = time.time() - (one.instance.last_used_at or one.instance.ready_at or time.time())
            note = f"ended {one.uid}, idle for {idle:.0f} s, to make room (launch with --pin to keep it)"
            log.info("%s: %s", runner.uid, note)
            runner.notes.append(note)
            await self._tasks.run(self._end(one))
        if chosen:
            await asyncio.sleep(READING_SECONDS)
        return bool(chosen)

    # -- ReplicaMaker

    def make_replica(self, uid: str, first: InstanceRunner) -> InstanceRunner:
        made = self._new_runner(uid, first.plan, first.instance.explicit, serves=first.uid)
        index = int(uid.rpartition("@")[2]) - 1
        made.instance.gpu = share(first.plan.request.gpu, index, max(first.instance.replica, index + 1))
        return made

    async def keep_count(self, first: InstanceRunner) -> None:
        if first.instance.explicit:
            await self._desired.put(first.uid, self._desired_launch(first))

    # -- launching

    async def _admit(self, request: LaunchRequest, explicit: bool) -> InstanceRunner:
        """Find or make the runner of a request; from the last await to its entry in _runners nothing comes between."""
        self._check_accepting(request)
        if self.settle is not None:
            request = await self.settle(request)
        if request.gpu is not None:
            check_gpu(request.gpu, await self.devices() if self.devices is not None else [], self._node_name)
        preferred = "" if explicit else self._config.engine
        plan = await asyncio.to_thread(make_plan, request, self._config, preferred_engine=preferred)
        while True:
            self._check_accepting(request)
            runner = self._runners.meant_by(plan)
            if runner is None:
                if orphans := self._runners.orphans(request.model_uid or plan.base_uid):
                    await asyncio.gather(*(self._end(one) for one in orphans))
                    continue
                break
            if runner.state != "stopping":
                await self._adopt(runner, plan, explicit)
                return runner
            await runner.gone.wait()
        uid = request.model_uid or self._runners.free_uid(plan.base_uid)
        runner = self._begin(uid, plan, explicit)
        self._replicas.grow(runner, request.replica)
        return runner

    def _check_accepting(self, request: LaunchRequest) -> None:
        if self._stopping:
            raise Busy("this node is stopping", "launch on another node, or try again when it is back")
        if request.node not in (None, "", self._node_id, self._node_name):
            raise BadRequest(
                f"this node is {self._node_name}, not {request.node}", "xin nodes lists them", param="node"
            )

    def _begin(self, uid: str, plan: LaunchPlan, explicit: bool) -> InstanceRunner:
        self._restored.discard(uid)
        runner = self._new_runner(uid, plan, explicit)
        log.info("launching %s (%s, %s)", uid, plan.spec.engine, plan.spec.quantization)
        runner.instance.replica = plan.request.replica
        runner.start(partial(self._desired.put, uid, self._desired_launch(runner)) if explicit else None)
        return runner

    async def _restore(self, uid: str, desired: DesiredLaunch) -> None:
        """Begin what the desired state holds; what no longer resolves is listed as failed, with its cause."""
        error = None
        try:
            plan = await asyncio.to_thread(make_plan, desired.request, self._config)
        except XinError as exc:
            plan, error = LaunchPlan(desired.request, desired.spec, desired.request.options, {}, None), exc
        self._restored.add(uid)
        runner = self._new_runner(uid, plan, explicit=True)
        if error is not None:
            runner.fail(error)
            return
        log.info("bringing %s back", uid)
        runner.start()
        self._replicas.grow(runner, desired.request.replica)

    async def _adopt(self, runner: InstanceRunner, plan: LaunchPlan, explicit: bool) -> None:
        """What runs on demand becomes explicit when someone launches it; a keep-alive that is given counts from now."""
        instance = runner.instance
        if plan.keep_alive is not None or (explicit and not instance.explicit):
            instance.keep_alive = plan.keep_alive
            runner.keep_alive.change(plan.keep_alive)
        instance.pinned = instance.pinned or plan.request.pin
        if explicit and not instance.explicit:
            instance.explicit = True
            runner.plan = dataclasses.replace(runner.plan, request=plan.request)
            await self.keep_count(runner)
        if plan.request.replica > len(self._replicas.members(runner.uid)):
            await self._replicas.scale(runner, plan.request.replica)

    def _desired_launch(self, first: InstanceRunner) -> DesiredLaunch:
        request = msgspec.structs.replace(first.plan.request, model_uid=first.uid, replica=first.instance.replica)
        return DesiredLaunch(request, first.plan.spec)

    def _new_runner(self, uid: str, plan: LaunchPlan, explicit: bool, serves: str = "") -> InstanceRunner:
        """Enter it under its uid; a failed one that had the uid is dropped."""
        keep_alive = self._config.keep_alive if plan.keep_alive is None and not explicit else plan.keep_alive
        spec = plan.spec
        instance = Instance(
            model_uid=uid,
            model_name=spec.name,
            model_engine=spec.engine,
            model_format=spec.format,
            quantization=spec.quantization,
            model_size_in_billions=spec.size_in_billions,
            model_ability=spec.abilities,
            model_lang=spec.languages,
            state="downloading" if spec.fetch else "loading",
            context_length=spec.context_length,
            options=plan.options,
            sampling=spec.sampling,
            weights=spec.weights,
            node=self._node_name,
            serves=serves,
            gpu=share(plan.request.gpu, 0, plan.request.replica),
            explicit=explicit,
            pinned=plan.request.pin,
            placed=plan.request.placed,
            keep_alive=keep_alive,
            launched_at=time.time(),
        )
        log_file = paths.log_dir() / f"instances-{self._config.port}" / f"{uid}.log"
        runner = InstanceRunner(
            instance, plan, owner=self, events=self._events, budget=self._budget, log=InstanceLog(log_file)
        )
        runner.check, runner.gather = self.check, self.gather
        resume = uid not in self._restored
        runner.prepare = partial(fetched, fetch=self.fetch, config=self._config, resume=resume)
        if (old := self._runners.put(runner)) is not None:
            self._tasks.in_background(old.discard())
        return runner

    async def _wake(self, model: str) -> InstanceRunner:
        """The runner to wait for; launched now when nothing has the name, or what ran on demand has failed."""
        while True:
            if self._stopping:
                raise Busy("this node is stopping", "ask another node, or try again when it is back")
            runner = self._runners.find(model)
            if runner is None:
                return await self._tasks.run(self._launch_known(model))
            if runner.state == "failed" and not runner.instance.explicit:
                return await self._tasks.run(self._launch_known(runner.plan.request.model_name))
            if runner.state != "stopping":
                return runner
            await runner.gone.wait()

    async def _launch_known(self, name: str) -> InstanceRunner:
        """Only names that are listed: a request's `model` never opens a path of the requester's choice."""
        if name not in {model.model_name for model in await self.known_models()}:
            raise await asyncio.to_thread(not_known, name, self._config.model_dirs, self._runners.uids(), param="model")
        return await self._admit(LaunchRequest(model_name=name), explicit=False)

    # -- ending

    async def _unload(self, runner: InstanceRunner) -> None:
        if not runner.keep_alive.held:
            await self._end(runner)

    async def _end(self, runner: InstanceRunner) -> None:
        """The first one of a uid ends all of them; another one leaves the rest."""
        uid = runner.instance.served_uid
        group = [runner] if runner.instance.serves else self._runners.replicas(uid)
        await asyncio.gather(*(self._end_one(one) for one in group))
        if runner.instance.serves and (members := self._replicas.members(uid)):
            members[0].tell(replica=len(members))
            await self.keep_count(members[0])

    async def _end_one(self, runner: InstanceRunner) -> None:
        """Who waits until it is gone goes on after all of this but the writing."""
        await runner.stop()
        self._runners.remove(runner)
        log.info("%s is terminated", runner.uid)
        await self._desired.remove(runner.uid)

    async def _leave(self, first: InstanceRunner) -> None:
        """Returns at once; they end when they have answered."""
        self._replicas.leave(self._replicas.members(first.uid))
        await self._desired.remove(first.uid)

    async def _stop_all(self, runners: list[InstanceRunner], error: XinError) -> None:
        await asyncio.gather(*(self._tasks.run(runner.stop(error, STOP_CLOSE_SECONDS)) for runner in runners))

    async def _drain(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        running = -1
        while held := sum(runner.keep_alive.held for runner in self._runners):
            if (left := deadline - loop.time()) <= 0:
                log.warning("stopping with %d requests cut off", held)
                return
            if running != held:
                running = held
                log.info("stopping: waiting up to %.0f s for %d requests", left, held)
            self._released.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), left)

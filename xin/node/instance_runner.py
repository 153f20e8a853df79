"""One instance and what keeps it running: load, ready, restart with backoff when its worker dies, stop."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from xin.catalog.spec import ModelSpec
from xin.errors import Busy, LaunchCancelled, OutOfMemory, XinError
from xin.node.gpu_choice import environment
from xin.node.instance_log import InstanceLog
from xin.node.keep_alive import KeepAlive
from xin.node.launch_plan import LaunchPlan
from xin.node.plan_choice import Choice
from xin.node.shards.company import Company, Gather, Order
from xin.node.thread_budget import ThreadBudget
from xin.node.worker_handle import WorkerHandle, fresh
from xin.protocol.node import Event, Instance
from xin.worker.frames import Done, Load, Ready, Stats

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
QUICK_DEATHS = 5
RESTART_WAIT_SECONDS = 10.0
PUBLISH_SECONDS = 0.25
MEMORY_SECONDS = 2.0
CLOSE_SECONDS = 5.0

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Where events go: the EventHub."""

    def publish(self, event: Event) -> None: ...


Check = Callable[[LaunchPlan], Awaitable[Choice]]
Prepare = Callable[[LaunchPlan, Callable[[float, str], None]], Awaitable[LaunchPlan]]


class RunnerOwner(Protocol):
    """What a runner tells the manager."""

    def runner_idle(self, runner: InstanceRunner) -> None:
        """Its keep-alive is over."""

    def runner_failed(self, runner: InstanceRunner, first_load: bool) -> None:
        """It will not run again by itself."""

    def has_room(self, runner: InstanceRunner, bytes_: int) -> bool:
        """Do idle models hold so much?"""

    async def make_room(self, runner: InstanceRunner, bytes_: int) -> bool:
        """End idle models that hold so much; False, and none has ended, when they do not."""


class InstanceRunner:
    """Owns one worker after another. `start` begins; `stop` ends it, from the manager's own task, never a handler's."""

    def __init__(
        self,
        instance: Instance,
        plan: LaunchPlan,
        *,
        owner: RunnerOwner,
        events: Publisher,
        budget: ThreadBudget,
        log: InstanceLog,
    ) -> None:
        self.instance = instance
        self.plan = plan
        self.log = log
        self.error: XinError | None = None
        self.gone = asyncio.Event()
        self.check: Check | None = None  # asked before the first worker starts; what it raises fails the launch
        self._choice = Choice()  # what it found that must be otherwise
        self.notes: list[str] = []  # what was done so that it could run
        self.prepare: Prepare | None = None  # downloads what is not here, and tells what then is
        self.gather: Gather | None = None  # finds the nodes that hold a part of it, where it is divided
        self._company: Company | None = None
        self.keep_alive = KeepAlive(instance.keep_alive, lambda: owner.runner_idle(self))
        self._owner = owner
        self._events = events
        self._budget = budget
        self._handle: WorkerHandle | None = None
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._was_ready = False
        self._deaths = 0
        self._retry_at = 0.0
        self.is_leaving = False  # takes no more requests, and ends when it has answered those that it has
        self._ending = False
        self._published_at = 0.0
        self._publish_timer: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        self._looker: asyncio.Task[None] | None = None

    @property
    def uid(self) -> str:
        return self.instance.model_uid

    @property
    def state(self) -> str:
        return self.instance.state

    @property
    def may_answer(self) -> bool:
        """Ready, or leaving and not gone yet."""
        return self.state == "ready" or (self.is_leaving and not self._ending)

    def answers_to(self, name: str) -> bool:
        """By its launch name; its uid is looked up before."""
        return name in (self.instance.model_name, self.plan.request.model_name)

    def snapshot(self) -> Instance:
        """A copy that later changes do not reach."""
        instance = self.instance
        if self._handle is not None:
            instance.worker.threads = self._handle.threads
        return msgspec.structs.replace(instance, stats=copy.copy(instance.stats), worker=copy.copy(instance.worker))

    def start(self, record: Callable[[], Awaitable[None]] | None = None) -> None:
        """Begin to load. `record` runs first; when it fails the launch fails."""
        self._publish()
        self._task = asyncio.get_running_loop().create_task(self._run(record))

    def fail(self, error: XinError) -> None:
        """Listed as failed, with its cause, until it is terminated or launched again."""
        log.error("%s failed: %s", self.uid, error.message)
        self.log.note(f"failed: {error.message}", level="error")
        self._change(state="failed", stage="", cause=error.message, hint=error.hint)
        self._settle(error)
        self._owner.runner_failed(self, first_load=not self._was_ready)

    def tell(self, **fields: object) -> None:
        """Change what others see of it."""
        self._change(**fields)

    def leave(self) -> None:
        """It goes on answering what it has; `stop` follows when that is done."""
        self.is_leaving = True
        self.keep_alive.change(None)
        self._change(state="stopping", stage="leaving", progress=0.0)

    async def wait_ready(self) -> None:
        """Raises why it is not: the error of its load, or LaunchCancelled."""
        await self._settled.wait()
        if self.error is not None:
            raise fresh(self.error)

    async def acquire(self) -> WorkerHandle:
        """Its worker, once it is ready. A restart is waited for a while, then Busy is raised."""
        if self.state == "loading" and self._was_ready:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), RESTART_WAIT_SECONDS)
            if not self._settled.is_set():
                seconds = max(1, round(self._retry_at - time.monotonic()))
                raise Busy(f"{self.uid} restarts after: {self.instance.cause}", f"try again in {seconds} s")
        await self.wait_ready()
        assert self._handle is not None
        return self._handle

    async def stop(self, error: XinError | None = None, close_seconds: float = CLOSE_SECONDS) -> None:
        """End the worker and everything here; waiters get `error`. Returns when the process is gone. Idempotent."""
        if self._ending:
            await self.gone.wait()
            return
        self._ending = True
        self._change(state="stopping", stage="", progress=0.0)
        self._settle(error or LaunchCancelled(f"the launch of {self.uid} was cancelled"))
        self.keep_alive.close()
        for task in (self._task, self._looker):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        if self._handle is not None:
            await self._handle.close(close_seconds)
        await self._part()
        if self._publish_timer is not None:
            self._publish_timer.cancel()
        self.log.note("terminated")
        await self.log.close()
        self._events.publish(Event(type="instance_removed", at=time.time(), model_uid=self.uid))
        self.gone.set()

    def kill(self) -> None:
        """End the worker now; stop() still has to follow, or is under way."""
        if self._handle is not None:
            self._handle.kill()

    async def discard(self) -> None:
        """Drop a failed one without a word: another has its uid already."""
        self.keep_alive.close()
        if self._publish_timer is not None:
            self._publish_timer.cancel()
        self.gone.set()
        await self.log.close()

    # -- the life of it

    async def _run(self, record: Callable[[], Awaitable[None]] | None) -> None:
        try:
            if record is not None:
                await record()
        except XinError as exc:
            self.fail(exc)
            return
        while True:
            cause = await self._live_once()
            is_lost = self._company is not None and self._company.is_lost
            await self._part()
            if self.is_leaving:
                return
            if not self._was_ready or self._deaths >= QUICK_DEATHS or is_lost:
                self._clear_worker()
                self.fail(cause)
                return
            await self._back_off(cause)

    async def _live_once(self) -> XinError:
        """Load and run one worker; the cause of its end."""
        started = time.monotonic()
        try:
            handle = await self._load()
        except XinError as exc:
            self._deaths += 1
            return exc
        self._become_ready(handle.ready, time.monotonic() - started)
        ready_at = time.monotonic()
        cause = await asyncio.shield(handle.exited)
        self._deaths = 1 if time.monotonic() - ready_at >= HEALTHY_SECONDS else self._deaths + 1
        return cause

    async def _load(self) -> WorkerHandle:
        if self.plan.spec.fetch is not None and self.prepare is not None:
            self._change(state="downloading", stage="downloading", progress=0.0)
            if self.check is not None:  # by the file's header alone: nothing is fetched that will not fit
                choice = await self._foreseen(self.check)
                if choice.spec is not None:
                    self.plan = dataclasses.replace(self.plan, spec=choice.spec)
                    self.notes += choice.notes
            self.plan = await self.prepare(self.plan, self.worker_progress)
        self._change(state="loading", stage="starting", progress=0.0)
        if self.check is not None and not self._was_ready:
            self._choice = await self._checked(self.check)
        spec = self._choice.spec or self.plan.spec
        self._change(**_told(spec))
        options = {**self.plan.options, **self._choice.options}
        company = await self._gathered(spec, options)
        load = Load(
            engine=spec.engine,
            weights=spec.weights,
            options={**options, **(company.options if company else {})},
            model_name=spec.name,
            prompt_style=spec.prompt_style,
            chat_sibling=spec.chat_sibling,
            abilities=spec.abilities or None,
            quantization=spec.quantization,
            shares=company.shares if company else [],
        )
        threads = self._budget.initial(self.plan.threads)
        environ = environment(self.instance.gpu)
        self._handle = await WorkerHandle.start(
            load, name=self.uid, threads=threads, log=self.log, listener=self, environ=environ
        )
        self.instance.worker.pid = self._handle.pid
        if company is not None:
            company.guard(self._handle)
        try:
            await self._handle.wait_ready()
        except XinError:
            await self._handle.close()
            raise
        return self._handle

    async def _gathered(self, spec: ModelSpec, options: dict[str, Any]) -> Company | None:
        """The helpers of this life of it; they end with `_part`, after the worker."""
        request = self.plan.request
        if not request.shard or self.gather is None:
            return None
        self._change(stage="gathering nodes")
        self._company = await self.gather(Order(self.uid, spec.weights[0], request.shard, options, request.force))
        self._change(stage="loading", shards=self._company.parts)
        return self._company

    async def _part(self) -> None:
        company, self._company = self._company, None
        if company is not None:
            await company.close()

    async def _foreseen(self, check: Check) -> Choice:
        """As `_checked`, before a download: nothing ends yet for what may come in hours."""
        try:
            choice = await check(self.plan)
        except OutOfMemory as exc:
            if exc.short_bytes and self._owner.has_room(self, exc.short_bytes):
                return Choice()
            raise
        return Choice() if choice.lacks and self._owner.has_room(self, choice.lacks) else choice

    async def _checked(self, check: Check) -> Choice:
        """What the plan says, after idle models made room where the launch would be refused or get less."""
        while True:
            try:
                choice = await check(self.plan)
            except OutOfMemory as exc:
                if not exc.short_bytes or not await self._owner.make_room(self, exc.short_bytes):
                    raise
                continue
            if not choice.lacks or not await self._owner.make_room(self, choice.lacks):
                return choice

    def _become_ready(self, ready: Ready, seconds: float) -> None:
        self._was_ready = True
        now = time.time()
        log.info("%s is ready in %.1f s (pid %s)", self.uid, seconds, self.instance.worker.pid)
        self.log.note(f"ready in {seconds:.1f} s")
        self._change(
            state="ready",
            stage="",
            progress=1.0,
            cause=None,
            hint=None,
            ready_at=now,
            load_seconds=seconds,
            context_length=ready.context_length,
            n_parallel=ready.n_parallel,
            model_ability=ready.abilities or self.instance.model_ability,
            memory_bytes=ready.memory_bytes,
            notes=[*self.notes, *self._choice.notes, *(self._company.notes if self._company else ()), *ready.notes],
        )
        self._settle(None)
        self.keep_alive.touch()
        self._looked_at = 0.0  # what a load has shown so far is not what the model holds
        self._look_at_memory()

    async def _back_off(self, cause: XinError) -> None:
        seconds = min(FIRST_BACKOFF_SECONDS * 2 ** (self._deaths - 1), LONGEST_BACKOFF_SECONDS)
        log.warning("%s: %s; restarting in %.0f s", self.uid, cause.message, seconds)
        self.log.note(f"{cause.message}; restarting in {seconds:.0f} s", level="error")
        self.keep_alive.close()
        self._clear_worker()
        self.instance.worker.restarts += 1
        self._change(state="loading", stage="restarting", progress=0.0, cause=cause.message, hint=cause.hint)
        self._retry_at = time.monotonic() + seconds
        await asyncio.sleep(seconds)

    def _clear_worker(self) -> None:
        """What is told of a process that is gone."""
        self.instance.worker.pid, self.instance.worker.rss_bytes = None, 0
        stats = self.instance.stats
        stats.running, stats.waiting, stats.tokens_per_second, stats.kv_used = 0, 0, 0.0, 0

    def _settle(self, error: XinError | None) -> None:
        self.error = error
        self._settled.set()

    # -- WorkerListener

    def worker_progress(self, fraction: float, stage: str) -> None:
        self.instance.progress, self.instance.stage = fraction, stage
        self._publish_soon()
        self._look_at_memory()

    def worker_stats(self, stats: Stats) -> None:
        shown = self.instance.stats
        shown.running, shown.waiting = stats.running, stats.waiting
        shown.tokens_per_second = stats.tokens_per_second
        shown.kv_used, shown.kv_total = stats.kv_used, stats.kv_total
        self._publish_soon()
        self._look_at_memory()

    def worker_done(self, done: Done) -> None:
        stats = self.instance.stats
        stats.requests_total += done.index == 0
        stats.tokens_total += done.completion_tokens
        if done.ttft_ms:
            stats.ttft_ms = done.ttft_ms

    def worker_busy(self, handle: WorkerHandle) -> None:
        self._budget.begin(handle, self.plan.threads)

    def worker_idle(self, handle: WorkerHandle) -> None:
        self._budget.end(handle)

    def worker_gone(self, handle: WorkerHandle) -> None:
        """From now on requests wait for the restart."""
        self._budget.remove(handle)
        if self.state == "ready":
            self._settled.clear()
            self._change(state="loading", stage="restarting", progress=0.0)

    # -- telling others

    def _change(self, **fields: object) -> None:
        for field, value in fields.items():
            setattr(self.instance, field, value)
        self._publish()

    def _publish(self) -> None:
        if self._publish_timer is not None:
            self._publish_timer.cancel()
            self._publish_timer = None
        self._published_at = time.monotonic()
        self._events.publish(Event(type="instance", at=time.time(), instance=self.snapshot()))

    def _publish_soon(self) -> None:
        """At most one event in PUBLISH_SECONDS for what changes all the time."""
        if self._publish_timer is None:
            wait = max(0.0, self._published_at + PUBLISH_SECONDS - time.monotonic())
            self._publish_timer = asyncio.get_running_loop().call_later(wait, self._publish)

    def _look_at_memory(self) -> None:
        """Only when the worker gave a sign, and not too often: an idle node does nothing."""
        now = time.monotonic()
        if self._handle is None or now - self._looked_at < MEMORY_SECONDS:
            return
        if self._looker is None or self._looker.done():
            self._looked_at = now
            self._looker = asyncio.get_running_loop().create_task(self._look(self._handle))

    async def _look(self, handle: WorkerHandle) -> None:
        memory = await handle.look_at_memory()
        if memory is not None and handle is self._handle:
            self.instance.worker.rss_bytes = memory.rss_bytes
            self._publish_soon()


def _told(spec: ModelSpec) -> dict[str, object]:
    """What a download may have made known."""
    return {
        "model_engine": spec.engine,
        "model_format": spec.format,
        "quantization": spec.quantization,
        "weights": spec.weights,
    }

"""One job as the node keeps it: its stages, its log, and what it was asked for, so that it can be tried again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from xin.errors import XinError
from xin.protocol.node import Job, JobAction, JobKind, JobStage, JobState, LogLine

LOG_LINES = 2000
PUBLISH_SECONDS = 0.25
ENDED = frozenset({"done", "failed", "cancelled"})
_ACTIONS: dict[JobState, list[JobAction]] = {
    "waiting": ["cancel"],
    "running": ["cancel"],
    "paused": ["resume", "cancel"],
    "done": ["delete"],
    "failed": ["retry", "delete"],
    "cancelled": ["retry", "delete"],
}


class JobRecord:
    """`order` is what POST /api/jobs takes. `changed(record, weighty)` hears every change that is to be told.

    A weighty change (a new state) is told at once, progress at most every PUBLISH_SECONDS.
    """

    def __init__(self, job: Job, order: dict[str, Any], changed: Callable[[JobRecord, bool], None]) -> None:
        self.job = job
        self.order = order
        self.lines: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._changed = changed
        self._weights: Mapping[str, float] = {stage.name: 1.0 for stage in job.stages}
        self._timer: asyncio.TimerHandle | None = None
        self._hearers: list[Callable[[Job], None]] = []
        self._over = asyncio.Event()
        if self.ended:
            self._over.set()
        self._settle_actions()

    @property
    def ended(self) -> bool:
        return self.job.state in ENDED

    def snapshot(self) -> Job:
        """A copy that later changes do not reach."""
        stages = [msgspec.structs.replace(stage) for stage in self.job.stages]
        files = [msgspec.structs.replace(file) for file in self.job.files]
        return msgspec.structs.replace(self.job, stages=stages, files=files, actions=[*self.job.actions])

    async def follow(self, hear: Callable[[Job], None]) -> None:
        """`hear` is told of the job now and at each change, until it has ended. Do not keep what it gets."""
        self._hearers.append(hear)
        try:
            hear(self.job)
            await self._over.wait()
        finally:
            self._hearers.remove(hear)

    def weigh(self, weights: Mapping[str, float]) -> None:
        """How much of the whole each stage usually takes."""
        self._weights = weights

    def start(self) -> None:
        self.job.started_at = time.time()
        self._set_state("running")

    def pause(self) -> None:
        """Resting until it is told to go on."""
        self.job.seconds_left, self.job.bytes_per_second = None, 0.0
        self.write("paused")
        self._set_state("paused")

    def wait(self) -> None:
        """Before it runs, again."""
        self._set_state("waiting")

    def stage(self, name: str, detail: str = "") -> None:
        """Go on to stage `name`: what runs is done, what was not needed is skipped. Going back is ignored."""
        now, names = time.time(), [stage.name for stage in self.job.stages]
        for stage in self.job.stages[: names.index(name)]:
            if stage.state == "running":
                self._end_stage(stage, "done", now)
            elif stage.state == "waiting":
                stage.state = "skipped"
        current = self.job.stages[names.index(name)]
        begins = current.state == "waiting"
        if begins:
            current.state, current.started_at = "running", now
            self.job.seconds_left = None
        if current.state == "running" and detail:
            current.detail = detail
        self._recount()
        if begins:
            self.tell()
        else:
            self.tell_soon()

    def progress(self, fraction: float | None, detail: str = "") -> None:
        """Of the stage that runs."""
        for stage in self.job.stages:
            if stage.state == "running":
                stage.progress = fraction
                stage.detail = detail or stage.detail
                self._estimate(stage)
        self.job.detail = detail or self.job.detail
        self._recount()
        self.tell_soon()

    def write(self, message: str, *, level: str = "info", source: str = "node") -> None:
        """Add a line to the job's log."""
        self.lines.append(LogLine(time.time(), level, source, message[:4000]))
        self.tell_soon()

    def finish(self, detail: str = "") -> None:
        now = time.time()
        for stage in self.job.stages:
            if stage.state == "running":
                self._end_stage(stage, "done", now)
            elif stage.state == "waiting":
                stage.state = "skipped"
        self.job.progress, self.job.detail = 1.0, detail or self.job.detail
        self._end("done")

    def fail(self, error: XinError) -> None:
        self.interrupt(error.message, error.hint)

    def interrupt(self, cause: str, hint: str | None = None) -> None:
        """Failed, for `cause`."""
        self._stop_stage()
        self.job.cause, self.job.hint = cause, hint
        self.write(cause, level="error")
        self._end("failed")

    def cancel(self) -> None:
        self._stop_stage()
        self.write("cancelled")
        self._end("cancelled")

    def tell(self) -> None:
        self._drop_timer()
        self._told(weighty=False)

    def tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_SECONDS, self.tell)

    def close(self) -> None:
        """No word after this."""
        self._drop_timer()

    def _end(self, state: JobState) -> None:
        self.job.ended_at = time.time()
        self.job.seconds_left, self.job.bytes_per_second = None, 0.0
        self._set_state(state)

    def _set_state(self, state: JobState) -> None:
        self.job.state = state
        self._settle_actions()
        self._drop_timer()
        self._told(weighty=True)
        if self.ended:
            self._over.set()

    def _told(self, *, weighty: bool) -> None:
        self._changed(self, weighty)
        for hear in self._hearers:
            hear(self.job)

    def _settle_actions(self) -> None:
        self.job.actions = [*_ACTIONS[self.job.state]]
        if self.job.kind == "download" and self.job.state in ("waiting", "running"):
            self.job.actions.insert(0, "pause")

    def _stop_stage(self) -> None:
        for stage in self.job.stages:
            if stage.state == "running":
                self._end_stage(stage, "failed", time.time())

    def _end_stage(self, stage: JobStage, state: Any, now: float) -> None:
        stage.state, stage.ended_at = state, now
        if state == "done":
            stage.progress = None

    def _recount(self) -> None:
        total = sum(self._weights.get(stage.name, 1.0) for stage in self.job.stages) or 1.0
        done = sum(self._weights.get(stage.name, 1.0) * _done(stage) for stage in self.job.stages)
        self.job.progress = min(done / total, 1.0)

    def _estimate(self, stage: JobStage) -> None:
        """The time left of the stage, once enough of it is done to tell."""
        fraction = stage.progress or 0.0
        taken = time.time() - (stage.started_at or time.time())
        known = fraction >= 0.03 and taken >= 0.5
        self.job.seconds_left = taken * (1 - fraction) / fraction if known else None
        if known and self.job.bytes_total:
            self.job.bytes_done = int(self.job.bytes_total * fraction)
            self.job.bytes_per_second = self.job.bytes_done / taken

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def new_job(kind: JobKind, title: str, stages: Mapping[str, float], *, node: str, command: str) -> Job:
    """A job that waits, with its stages in order."""
    return Job(
        id=secrets.token_hex(4),
        kind=kind,
        title=title,
        node=node,
        state="waiting",
        stages=[JobStage(name=name) for name in stages],
        created_at=time.time(),
        command=command,
    )


def _done(stage: JobStage) -> float:
    if stage.state in ("done", "skipped"):
        return 1.0
    return stage.progress or 0.0 if stage.state == "running" else 0.0

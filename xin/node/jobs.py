"""What the node works at by itself: launches, installs, quantizations, downloads; begun, cancelled, retried here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, cast

import msgspec

from xin.catalog.spec import Fetch
from xin.config import NodeConfig
from xin.errors import BadRequest, Busy, Conflict, InternalError, LaunchCancelled, LoadFailed, Unreachable, XinError
from xin.node.job_book import JobBook
from xin.node.job_download import DownloadJob, DownloadOrder, remove_parts
from xin.node.job_install import InstallJob, InstallOrder
from xin.node.job_launches import LaunchJobs
from xin.node.job_quantize import QuantizeJob, QuantizeOrder, remove_partial
from xin.node.job_record import JobRecord, new_job
from xin.node.manager import Manager
from xin.node.repo_formats import RepoFormats
from xin.node.weights_supply import Supply
from xin.protocol.node import Job, JobAction, JobKind, LaunchRequest, LogLine

MOST_RUNNING = 100
MOST_DOWNLOADS = 2
log = logging.getLogger(__name__)


class Work(Protocol):
    """What a job does. `order` is what POST /api/jobs takes to do it again, `stages` their usual shares of the time."""

    kind: str
    title: str
    stages: dict[str, float]

    @property
    def command(self) -> str: ...

    @property
    def order(self) -> dict[str, Any]: ...

    async def run(self, record: JobRecord) -> str:
        """What came of it, in words. Raises XinError."""


class Jobs:
    """`start` before the manager, so that what a restart cut off is known; `stop` before the manager too.

    One job of a kind runs at a time, of downloads MOST_DOWNLOADS; the others wait.
    """

    def __init__(
        self,
        config: NodeConfig,
        node_name: str,
        book: JobBook,
        launches: LaunchJobs,
        manager: Manager,
        supply: Supply,
        formats: RepoFormats,
        engines_changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._node_name = node_name
        self._book = book
        self._launches = launches
        self._manager = manager
        self._formats = formats
        self._engines_changed = engines_changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lanes: dict[str, asyncio.Lock | asyncio.Semaphore] = {
            "install": asyncio.Lock(),
            "quantize": asyncio.Lock(),
            "download": asyncio.Semaphore(MOST_DOWNLOADS),
        }
        self._supply = supply
        self._launches_waiting: dict[str, int] = {}  # for a download that only launches asked for, by its job's id
        self._stopping = False
        launches.request_of = manager.request_of
        launches.lines_of = lambda uid: manager.log(uid).tail()

    async def start(self) -> None:
        await asyncio.to_thread(remove_partial)
        await self._book.load()
        for record in self._book.records():
            if record.job.kind == "download" and record.job.state in ("waiting", "running"):
                self._start(self._download_of(record), record)

    async def stop(self) -> None:
        """End the children; what ran is kept as interrupted. Idempotent."""
        self._stopping = True
        await self._book.close()
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def all(self) -> list[Job]:
        """Oldest first."""
        return [record.snapshot() for record in self._book.records()]

    def get(self, job_id: str) -> Job:
        return self._book.get(job_id).snapshot()

    def log(self, job_id: str) -> list[LogLine]:
        return self._launches.lines(self._book.get(job_id))

    async def launch(self, request: LaunchRequest, *, explicit: bool = True) -> Job:
        """The job of the launch, or of the one that it joins."""
        instance = await self._manager.launch(request, wait=False, explicit=explicit)
        record = self._launches.job_of(instance.model_uid)
        if record is None:
            raise InternalError(f"the launch of {instance.model_uid} has no job", "see GET /api/instances")
        return record.snapshot()

    async def install(self, order: InstallOrder) -> Job:
        """The same that waits or runs already is that one."""
        return self._begin(InstallJob(order, self._engines_changed))

    async def quantize(self, order: QuantizeOrder) -> Job:
        work = QuantizeJob(order, model_dirs=self._config.model_dirs, threads=self._manager.threads)
        running = self._same(work)
        if running is not None:
            return running.snapshot()
        await asyncio.to_thread(work.prepare)
        return self._begin(work)

    async def download(self, order: DownloadOrder) -> Job:
        """The same that runs is that one; a paused one goes on. Raises Conflict when all of it is here."""
        with suppress(Unreachable):  # then the job tells it, after some tries
            order = await self._formats.settled(order)
        fetch = await asyncio.to_thread(order.fetch, self._config.model_dirs)
        record = self._downloading(fetch)
        self._launches_waiting.pop(record.job.id, None)
        return record.snapshot()

    async def fetch(self, fetch: Fetch, hear: Callable[[Job], None], *, resume: bool = True) -> None:
        """For a launch: return when it is here. Cancelled, it ends a download that nobody else wants.

        `resume`: a paused one goes on, else it is waited for.
        """
        is_new = self._same(DownloadJob(fetch, self._supply)) is None
        record = self._downloading(fetch, resume=resume)
        job_id = record.job.id
        if is_new:
            self._launches_waiting[job_id] = 0
        if job_id in self._launches_waiting:
            self._launches_waiting[job_id] += 1
        try:
            await record.follow(hear)
        finally:
            await self._launch_left(record)
        if record.job.state == "failed":
            raise LoadFailed(record.job.cause or "the download failed", record.job.hint)
        if record.job.state == "cancelled":
            raise LaunchCancelled("the download was cancelled", f"to go on: xin jobs retry {job_id}")

    async def act(self, job_id: str, action: JobAction) -> Job:
        """Raises NotFound, Conflict when the job is past it, and what a retry raises at once."""
        record = self._book.get(job_id)
        if action not in record.job.actions:
            can = ", ".join(record.job.actions) or "nothing"
            raise Conflict(f"job {job_id} is {record.job.state}: it cannot {action}", f"it can: {can}")
        match action:
            case "cancel":
                await self._cancel(record)
            case "retry":
                job = await self._again(record)
                self._book.remove(record)
                return job
            case "delete":
                await self._delete(record)
            case "pause":
                record.pause()
                await self._end_task(record)
            case "resume":
                self._start(self._download_of(record), record)
        return record.snapshot()

    # -- private

    def _begin(self, work: Work) -> Job:
        return self._begun(work).snapshot()

    def _begun(self, work: Work) -> JobRecord:
        running = self._same(work)
        if running is not None:
            return running
        if self._stopping:
            raise Busy("this node is stopping", "try again when it is back")
        if len(self._tasks) >= MOST_RUNNING:
            raise Busy(f"{MOST_RUNNING} jobs run or wait here", "cancel one: xin jobs cancel ID")
        kind = cast(JobKind, work.kind)
        job = new_job(kind, work.title, work.stages, node=self._node_name, command=work.command)
        record = self._book.add(job, work.order)
        self._start(work, record)
        return record

    def _start(self, work: Work, record: JobRecord) -> None:
        job_id = record.job.id
        record.weigh(work.stages)
        record.wait()
        task = asyncio.get_running_loop().create_task(self._run(work, record), name=f"job {job_id}")
        self._tasks[job_id] = task
        task.add_done_callback(lambda done: self._ended(record, done))

    def _downloading(self, fetch: Fetch, *, resume: bool = True) -> JobRecord:
        record = self._begun(DownloadJob(fetch, self._supply))
        if resume and record.job.state == "paused":
            self._start(self._download_of(record), record)
        return record

    def _download_of(self, record: JobRecord) -> DownloadJob:
        return DownloadJob(msgspec.convert(_order_of(record), Fetch), self._supply)

    async def _launch_left(self, record: JobRecord) -> None:
        job_id = record.job.id
        left = self._launches_waiting.get(job_id)
        if left is None:
            return
        self._launches_waiting[job_id] = left - 1
        if left == 1:
            del self._launches_waiting[job_id]
            if not record.ended and not self._stopping:
                await self._cancel(record)

    async def _delete(self, record: JobRecord) -> None:
        """Of a download with what it has half fetched, but what another needs."""
        self._book.remove(record)
        repo = record.order.get("repo")
        if record.job.kind == "download" and isinstance(repo, str):
            others = [one for one in self._book.records() if not one.ended and one.order.get("repo") == repo]
            needed = {file.etag for other in others for file in other.job.files}
            etags = {file.etag for file in record.job.files} - needed
            await asyncio.to_thread(remove_parts, repo, etags)

    def _same(self, work: Work) -> JobRecord | None:
        return self._book.find(lambda record: not record.ended and record.order == work.order)

    async def _run(self, work: Work, record: JobRecord) -> None:
        async with self._lanes[work.kind]:
            record.start()
            log.info("job %s: %s %s", record.job.id, work.kind, work.title)
            try:
                record.finish(await work.run(record))
            except XinError as exc:
                log.warning("job %s failed: %s", record.job.id, exc.message)
                record.fail(exc)
            except OSError as exc:
                record.interrupt(f"{exc.filename or work.title}: {exc.strerror}", "check the disk")

    def _ended(self, record: JobRecord, task: asyncio.Task[None]) -> None:
        if self._tasks.get(record.job.id) is task:
            del self._tasks[record.job.id]
        if task.cancelled():
            if not record.ended and record.job.state != "paused" and not self._stopping:
                record.cancel()
        elif (error := task.exception()) is not None:
            log.error("job %s", record.job.id, exc_info=error)
            record.interrupt("internal error", "see the node's log")

    async def _cancel(self, record: JobRecord) -> None:
        if record.job.kind == "launch":
            await self._manager.cancel_launch(record.job.model_uid or "")
            return
        await self._end_task(record)
        if not record.ended:  # it rested
            record.cancel()

    async def _end_task(self, record: JobRecord) -> None:
        task = self._tasks.get(record.job.id)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _again(self, record: JobRecord) -> Job:
        order = _order_of(record)
        try:
            match record.job.kind:
                case "launch":
                    explicit = not order.pop("on_demand", False)
                    return await self.launch(msgspec.convert(order, LaunchRequest), explicit=explicit)
                case "install":
                    return await self.install(msgspec.convert(order, InstallOrder))
                case "quantize":
                    return await self.quantize(msgspec.convert(order, QuantizeOrder))
                case "download":
                    return self._downloading(msgspec.convert(order, Fetch)).snapshot()
        except msgspec.ValidationError as exc:
            raise Conflict(f"job {record.job.id} comes from another version of xin: {exc}", "begin it anew") from exc
        raise BadRequest(f"a {record.job.kind} cannot be tried again", param="action")


def _order_of(record: JobRecord) -> dict[str, Any]:
    """Without its kind, which the record tells too."""
    return {key: value for key, value in record.order.items() if key != "kind"}

"""A worker as the node sees it: requests go in, their deltas come out, and its end is told with its cause."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from xin.errors import LoadFailed, WorkerDied, XinError, from_code
from xin.node import death
from xin.node.instance_log import InstanceLog
from xin.node.worker_process import WorkerProcess
from xin.worker.frames import (
    Accepted,
    Cancel,
    Close,
    Delta,
    Deltas,
    Detokenize,
    Done,
    Embed,
    Failed,
    Frame,
    Generate,
    Load,
    Log,
    Progress,
    Ready,
    Rerank,
    Result,
    SetThreads,
    Stats,
    Tokenize,
    Transcribe,
    Up,
)

TERMINATE_SECONDS = 2.0
LAST_LINES = 30


def fresh(error: XinError) -> XinError:
    """The same error for one more who raises it: a shared one would gather all their tracebacks."""
    return type(error)(error.message, error.hint, param=error.param)


class WorkerListener(Protocol):
    """What the owner of a handle is told, on the event loop."""

    def worker_progress(self, fraction: float, stage: str) -> None: ...
    def worker_stats(self, stats: Stats) -> None: ...
    def worker_done(self, done: Done) -> None:
        """One choice of one request has ended."""

    def worker_busy(self, handle: WorkerHandle) -> None:
        """Called before the first of its running requests is sent."""

    def worker_idle(self, handle: WorkerHandle) -> None:
        """No request runs any more; called too when a busy worker ends."""

    def worker_gone(self, handle: WorkerHandle) -> None:
        """Its process has ended; `exited` tells the cause in a moment."""


class GenerationStream:
    """One running generation, for one consumer: next_batch and cancel. The other methods are the handle's.

    A consumer that sets `sink` is called with each Delta as it comes, without a task switch; what the sink refuses
    (False), and every Done, waits for next_batch as ever, in order.
    """

    __slots__ = ("_cancel", "_error", "_items", "_open", "_waiter", "cancelled", "prompt_tokens", "request_id", "sink")

    def __init__(self, request_id: int, choices: int, cancel: Callable[[int], None]) -> None:
        self.request_id = request_id
        self.prompt_tokens = 0
        self.cancelled = False
        self._cancel = cancel
        self._open = choices
        self._items: list[Delta | Done] = []
        self._error: XinError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.sink: Callable[[Delta], bool] | None = None

    async def next_batch(self) -> list[Delta | Done]:
        """Await one item and take all that wait; [] when the request is over; raises what ended it."""
        if not self._items:
            if self._error is not None:
                raise self._error
            if not self._open:
                return []
            await self.changed()
            if not self._items and self._error is not None:
                raise self._error
        items, self._items = self._items, []
        return items

    def cancel(self) -> None:
        """Idempotent; a request that is over is left alone."""
        if self._open and self._error is None and not self.cancelled:
            self.cancelled = True
            self._cancel(self.request_id)

    async def changed(self) -> None:
        """Wait for the next give, accept or fail."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def accepted(self) -> None:
        """Wait for Accepted; raises the error of a refused request."""
        await self.changed()
        if self._error is not None and not self._items:
            raise self._error

    def accept(self, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self._wake()

    def give(self, item: Delta | Done) -> bool:
        """True when this was the last item."""
        if type(item) is Done:
            self._open -= 1
        elif self.sink is not None and not self._items and self.sink(cast(Delta, item)):
            return False
        self._items.append(item)
        self._wake()
        return not self._open

    def fail(self, error: XinError) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class WorkerHandle:
    """One child process. `exited` has the cause of its end as its result, once it is gone."""

    ready: Ready

    def __init__(self, name: str, log: InstanceLog, listener: WorkerListener, threads: int) -> None:
        self.name = name
        self.threads = threads
        self.memory: death.Memory | None = None
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[XinError] = loop.create_future()
        self._ready: asyncio.Future[Ready] = loop.create_future()
        self._log = log
        self._listener = listener
        self._process: WorkerProcess
        self._ids = itertools.count(1)
        self._streams: dict[int, GenerationStream] = {}
        self._calls: dict[int, asyncio.Future[Result]] = {}
        self._running: set[int] = set()
        self._closing = False
        self._load_error: XinError | None = None
        self._given_cause: XinError | None = None
        self.explain: Callable[[], Awaitable[XinError | None]] | None = None  # knows more of its end than it says
        self._oom_kills: int | None = None
        self._undertaker: asyncio.Task[None] | None = None
        self._takers: dict[type[Frame], Callable[[Any], None]] = {
            Deltas: self._deltas,
            Done: self._done,
            Accepted: self._accepted,
            Result: self._result,
            Stats: listener.worker_stats,
            Failed: self._failed,
            Progress: self._progress,
            Ready: self._became_ready,
            Log: self._logged,
        }

    @classmethod
    async def start(
        cls,
        load: Load,
        *,
        name: str,
        threads: int,
        log: InstanceLog,
        listener: WorkerListener,
        environ: Mapping[str, str] | None = None,
    ) -> WorkerHandle:
        """Spawn the child and send Load; `name` stands in its errors. Raises LoadFailed when it cannot be spawned."""
        handle = cls(name, log, listener, threads)
        handle._oom_kills = await asyncio.to_thread(death.oom_kills)
        try:
            handle._process = await WorkerProcess.spawn(
                threads, on_frame=handle._take, on_line=log.write, on_exit=handle._on_exit, environ=environ
            )
        except OSError as exc:
            raise LoadFailed(f"cannot start a worker for {name}: {exc.strerror}", "free memory or processes") from exc
        handle._process.send(load)
        return handle

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def busy(self) -> bool:
        return bool(self._running)

    async def wait_ready(self) -> Ready:
        """Raises LoadFailed, OutOfMemory, BadRequest and the like when the model could not be loaded."""
        return await asyncio.shield(self._ready)

    async def generate(self, frame: Generate | Transcribe) -> GenerationStream:
        """Returns once the worker has accepted the request; raises its error when it refuses."""
        request_id = self._open(frame)
        stream = self._streams[request_id] = GenerationStream(request_id, frame.n, self._cancel)
        self._start(frame, request_id)
        try:
            await stream.accepted()
        except asyncio.CancelledError:
            stream.cancel()
            raise
        return stream

    async def embed(self, frame: Embed) -> Result:
        return await self._call(frame, heavy=True)

    async def rerank(self, frame: Rerank) -> Result:
        return await self._call(frame, heavy=True)

    async def tokenize(self, frame: Tokenize) -> Result:
        return await self._call(frame)

    async def detokenize(self, frame: Detokenize) -> Result:
        return await self._call(frame)

    def set_threads(self, threads: int) -> None:
        """From its next step on; nothing is sent when it has so many already."""
        if threads != self.threads:
            self.threads = threads
            self._process.send(SetThreads(threads))

    async def look_at_memory(self) -> death.Memory | None:
        """A fresh look, kept for the words about its end."""
        self.memory = await asyncio.to_thread(death.look_at_memory, self.pid) or self.memory
        return self.memory

    async def close(self, deadline_seconds: float = 5.0) -> None:
        """Close, then terminate, then kill; returns when the process is gone. Idempotent."""
        self._closing = True
        if self._ready.done():
            self._process.send(Close())
            if await self._gone_within(deadline_seconds):
                return
        self._process.terminate()
        if not await self._gone_within(TERMINATE_SECONDS):
            self._process.kill()
            await asyncio.wait({self.exited})

    def kill(self, cause: XinError | None = None) -> None:
        """`cause`: what those are told who wait for it."""
        self._given_cause = cause
        self._closing = True
        self._process.kill()

    # -- frames

    def _take(self, frame: Up) -> None:
        self._takers[type(frame)](frame)

    def _deltas(self, frame: Deltas) -> None:
        streams = self._streams
        for item in frame.items:
            stream = streams.get(item.request_id)
            if stream is not None:
                stream.give(item)

    def _done(self, frame: Done) -> None:
        stream = self._streams.get(frame.request_id)
        if stream is not None:
            self._listener.worker_done(frame)
            if stream.give(frame):
                self._forget(frame.request_id)

    def _accepted(self, frame: Accepted) -> None:
        stream = self._streams.get(frame.request_id)
        if stream is not None:
            stream.accept(frame.prompt_tokens)
            if stream.cancelled:  # the first Cancel may have come before the worker knew the request
                self._cancel(frame.request_id)

    def _result(self, frame: Result) -> None:
        future = self._calls.get(frame.request_id)
        self._forget(frame.request_id)
        if future is not None and not future.done():
            future.set_result(frame)

    def _failed(self, frame: Failed) -> None:
        error = from_code(frame.code, frame.message, hint=frame.hint, param=frame.param)
        if frame.request_id == 0:
            self._load_error = error
            return
        self._fail(frame.request_id, error)

    def _progress(self, frame: Progress) -> None:
        self._listener.worker_progress(frame.fraction, frame.stage)

    def _became_ready(self, frame: Ready) -> None:
        self.ready = frame
        if not self._ready.done():
            self._ready.set_result(frame)

    def _logged(self, frame: Log) -> None:
        self._log.write(frame.message, level=frame.level)

    # -- requests

    def _open(self, frame: Generate | Transcribe | Embed | Rerank | Tokenize | Detokenize) -> int:
        if self.exited.done():
            raise fresh(self.exited.result())
        if self._process.gone or self._closing:
            raise WorkerDied(f"the worker of {self.name} is ending", "try again")
        frame.request_id = next(self._ids)
        return frame.request_id

    def _start(self, frame: Frame, request_id: int) -> None:
        if not self._running:
            self._listener.worker_busy(self)
        self._running.add(request_id)
        self._process.send(frame)

    async def _call(self, frame: Embed | Rerank | Tokenize | Detokenize, heavy: bool = False) -> Result:
        request_id = self._open(frame)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._calls[request_id] = future
        if heavy:
            self._start(frame, request_id)
        else:
            self._process.send(frame)
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(request_id)
            raise

    def _cancel(self, request_id: int) -> None:
        self._process.send(Cancel(request_id))

    def _fail(self, request_id: int, error: XinError) -> None:
        stream, future = self._streams.get(request_id), self._calls.get(request_id)
        self._forget(request_id)
        if stream is not None:
            stream.fail(error)
        if future is not None and not future.done():
            future.set_exception(error)

    def _forget(self, request_id: int) -> None:
        self._streams.pop(request_id, None)
        self._calls.pop(request_id, None)
        if request_id in self._running:
            self._running.discard(request_id)
            if not self._running:
                self._listener.worker_idle(self)

    # -- the end

    async def _gone_within(self, seconds: float) -> bool:
        done, _ = await asyncio.wait({self.exited}, timeout=seconds)
        return bool(done)

    def _on_exit(self, exit_code: int) -> None:
        self._listener.worker_gone(self)
        self._undertaker = asyncio.get_running_loop().create_task(self._bury(exit_code))

    async def _bury(self, exit_code: int) -> None:
        """Find the cause and give it to all who wait."""
        cause = self._load_error
        if not self._closing and self.explain is not None:
            cause = await self.explain() or cause
        if self._closing:
            cause = self._given_cause or WorkerDied(f"{self.name} was terminated while it answered")
        elif cause is None:
            kills = await asyncio.to_thread(death.oom_kills)
            cause = death.cause_of_death(
                self.name,
                exit_code,
                lines=[line.message for line in self._log.tail(LAST_LINES) if line.source == "worker"],
                memory=self.memory,
                oom_killed=kills is not None and self._oom_kills is not None and kills > self._oom_kills,
                loading=not self._ready.done(),
            )
        self.exited.set_result(cause)
        if not self._ready.done():
            self._ready.set_exception(cause)
            self._ready.exception()  # seen: nobody may be waiting
        for request_id in [*self._streams, *self._calls]:
            self._fail(request_id, fresh(cause))

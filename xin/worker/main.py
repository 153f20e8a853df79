"""The worker process: load one engine, then turn frames into steps and steps into frames.

Three threads: the reader takes frames off the pipe; the preparer renders templates, tokenises and compiles grammars;
the main thread owns the engine and does nothing but step it, so that no stream waits for another one's prompt.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable

from xin.backends import require
from xin.backends.base import Engine, Output, Weights
from xin.errors import InternalError, LoadFailed, XinError
from xin.worker.channel import Channel
from xin.worker.frames import (
    Accepted,
    Cancel,
    Close,
    Delta,
    Deltas,
    Done,
    Down,
    Failed,
    Frame,
    Generate,
    Load,
    Progress,
    Result,
    SetThreads,
    Stats,
    Transcribe,
)
from xin.worker.job import Job, prepare
from xin.worker.options import convert_options

STATS_INTERVAL_S = 0.5
SWITCH_INTERVAL_S = 0.0005  # the step thread must get the GIL back soon after each decode
WARM_AFTER_S = 2.0
log = logging.getLogger("xin.worker")


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    channel = Channel.standard()
    load = channel.read()
    if load is None:
        return 0
    if not isinstance(load, Load):
        channel.send(Failed(0, InternalError.code, "the first frame must be Load"))
        return 1
    inbox: queue.SimpleQueue[Down | Callable[[], None]] = queue.SimpleQueue()
    work: queue.SimpleQueue[Down] = queue.SimpleQueue()
    preparing: set[int] = set()
    engines: list[Engine] = []  # the one, once it is loaded
    reader = (channel, inbox, work, preparing, engines)
    threading.Thread(target=_read, args=reader, name="reader", daemon=True).start()
    try:
        engine = _load(load, channel)
    except XinError as exc:
        log.error("load failed: %s", exc.message)
        channel.send(failed(0, exc))
        return 1
    except MemoryError:
        channel.send(
            Failed(0, "out_of_memory", f"{load.model_name} does not fit in memory", "choose a smaller quantization")
        )
        return 1
    except Exception as exc:  # border: any failure of a foreign library becomes a cause in words
        traceback.print_exc()
        channel.send(Failed(0, LoadFailed.code, f"{load.engine} could not load {load.model_name}: {exc}"))
        return 1
    engines.append(engine)
    worker = Worker(engine, channel, inbox, preparing)
    threading.Thread(target=worker.prepare_forever, args=(work,), name="preparer", daemon=True).start()
    gc.freeze()  # what is loaded stays: no collection between two tokens need look at it
    channel.send(engine.describe())
    worker.run()
    return 0


def failed(request_id: int, exc: XinError) -> Failed:
    return Failed(request_id, exc.code, exc.message, exc.hint, exc.param)


def _load(frame: Load, channel: Channel) -> Engine:
    cls = require(frame.engine)
    options = convert_options(cls, frame.options)
    weights = Weights(
        frame.weights,
        frame.model_name,
        frame.prompt_style,
        frame.chat_sibling,
        frame.abilities,
        frame.quantization,
        frame.shares,
    )
    return cls.load(weights, options, lambda fraction, stage: channel.send(Progress(fraction, stage)))


def _read(
    channel: Channel,
    inbox: queue.SimpleQueue[Down | Callable[[], None]],
    work: queue.SimpleQueue[Down],
    preparing: set[int],
    engines: list[Engine],
) -> None:
    """Reader thread. When the node is gone the process ends, also in the middle of a load."""
    while True:
        frame = channel.read()
        if frame is None:
            os._exit(0)
        if isinstance(frame, Cancel | SetThreads | Close):
            inbox.put(frame)
            if isinstance(frame, Cancel):
                for engine in engines:
                    engine.interrupt(frame.request_id)
            continue
        if isinstance(frame, Generate | Transcribe):
            preparing.add(frame.request_id)
        work.put(frame)


class Worker:
    """The step loop and the jobs in it."""

    def __init__(
        self,
        engine: Engine,
        channel: Channel,
        inbox: queue.SimpleQueue[Down | Callable[[], None]],
        preparing: set[int],
    ) -> None:
        self._engine = engine
        self._channel = channel
        self._inbox = inbox
        self._jobs: dict[int, Job] = {}
        self._cancelled: set[int] = set()
        self._preparing = preparing
        self._closing = False
        self._stats_at = 0.0
        self._tokens = 0
        self._was_busy = False
        engine.deliver_to(self._deliver)

    # -- preparer thread

    def prepare_forever(self, work: queue.SimpleQueue[Down]) -> None:
        warm = False
        while True:
            try:
                frame = work.get(timeout=None if warm else WARM_AFTER_S)
            except queue.Empty:
                if not self._engine.busy():
                    warm = True
                    self._warm()
                continue
            request_id: int = getattr(frame, "request_id", 0)
            if isinstance(frame, Generate | Transcribe) and request_id in self._cancelled:
                self._forget(request_id)
                self._channel.send(*(Done(request_id, i, "cancelled", 0) for i in range(frame.n)))
                continue
            try:
                ready = prepare(self._engine, frame)
            except XinError as exc:
                self._forget(request_id)
                self._channel.send(failed(request_id, exc))
                continue
            except Exception:  # border: one request must not end the worker
                traceback.print_exc()
                self._forget(request_id)
                self._channel.send(
                    failed(request_id, InternalError("the request could not be prepared", "see the log"))
                )
                continue
            if isinstance(ready, Result):
                self._channel.send(ready)
            elif isinstance(ready, Job):
                self._inbox.put(lambda job=ready: self._submit(job))  # type: ignore[misc]
            else:
                self._inbox.put(lambda call=ready, rid=request_id: self._call(rid, call))  # type: ignore[misc]

    def _warm(self) -> None:
        try:
            self._engine.warm()
        except Exception:  # border: what fails here fails again, with its cause, for the request that needs it
            traceback.print_exc()

    def _forget(self, request_id: int) -> None:
        self._preparing.discard(request_id)
        self._cancelled.discard(request_id)

    # -- step thread

    def run(self) -> None:
        while not self._closing:
            self._drain(block=not self._engine.busy())
            if not self._closing and self._engine.busy():
                self._deliver(self._engine.step())
                self._report()
        self._engine.close()

    def _drain(self, block: bool) -> None:
        if block:
            self._report(idle=True)
            self._handle(self._inbox.get())
        while True:
            try:
                frame = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._handle(frame)

    def _handle(self, item: Down | Callable[[], None]) -> None:
        if isinstance(item, Cancel):
            self._cancel(item.request_id)
        elif isinstance(item, SetThreads):
            self._engine.set_threads(item.threads)
        elif isinstance(item, Close):
            self._closing = True
        elif callable(item):
            item()

    def _submit(self, job: Job) -> None:
        request_id = job.request.id
        self._preparing.discard(request_id)
        if request_id in self._cancelled:
            self._cancelled.discard(request_id)
            self._channel.send(*(Done(request_id, i, "cancelled", 0) for i in range(job.request.n)))
            return
        try:
            self._engine.submit(job.request)
        except XinError as exc:
            self._channel.send(failed(request_id, exc))
            return
        job.started = time.perf_counter()
        self._jobs[request_id] = job
        unlisted = job.request.seen.unlisted if job.request.seen is not None else 0
        self._channel.send(Accepted(request_id, len(job.request.tokens) + unlisted))

    def _call(self, request_id: int, call: Callable[[], Result]) -> None:
        self._forget(request_id)
        try:
            self._channel.send(call())
        except XinError as exc:
            self._channel.send(failed(request_id, exc))

    def _cancel(self, request_id: int) -> None:
        job = self._jobs.pop(request_id, None)
        if job is None:
            if request_id in self._preparing:
                self._cancelled.add(request_id)
            return
        self._engine.cancel(request_id)
        self._channel.send(*(job.done(i, "cancelled") for i in job.open_choices()))

    def _deliver(self, outputs: list[Output]) -> None:
        """All text of one step in one frame, then what ended."""
        deltas: list[Delta] = []
        ended: list[Frame] = []
        for output in outputs:
            job = self._jobs.get(output.request_id)
            if job is None:
                continue
            if output.error is not None:
                del self._jobs[output.request_id]
                ended.append(failed(output.request_id, output.error))
                continue
            self._tokens += output.tokens
            done = job.take(output, deltas)
            if done is None:
                continue
            if output.finish_reason is None:
                self._engine.cancel(output.request_id, output.index)
            ended.append(done)
            if not job.open_choices():
                del self._jobs[output.request_id]
        if deltas:
            self._channel.send(Deltas(deltas), *ended)
        elif ended:
            self._channel.send(*ended)

    def _report(self, idle: bool = False) -> None:
        now = time.monotonic()
        if not self._was_busy and not idle:
            self._was_busy, self._stats_at, self._tokens = True, now, 0
            return
        elapsed = now - self._stats_at
        if not self._was_busy or (elapsed < STATS_INTERVAL_S and not idle):
            return
        load = self._engine.load_now()
        rate = 0.0 if idle else self._tokens / elapsed
        self._stats_at, self._tokens, self._was_busy = now, 0, not idle
        self._channel.send(Stats(load.running, load.waiting, rate, load.kv_used, load.kv_total, load.cached_sequences))

"""All jobs of a node: told to whoever watches, the last of them kept over a restart in one file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from xin import paths
from xin.errors import NotFound
from xin.node.instance_runner import Publisher
from xin.node.job_record import JobRecord
from xin.protocol.node import Event, Job, LogLine

KEPT = 50
KEPT_LINES = 40
INTERRUPTED = "interrupted by a restart"
log = logging.getLogger(__name__)


class _Kept(msgspec.Struct):
    job: Job
    order: dict[str, Any]
    lines: list[LogLine] = []


class _File(msgspec.Struct):
    jobs: list[_Kept] = []


class JobBook:
    """Records by id, oldest first. `load` what was kept, `close` writes the last word."""

    def __init__(self, port: int, events: Publisher) -> None:
        self._file = paths.state_dir() / f"jobs-{port}.json"
        self._events = events
        self._records: dict[str, JobRecord] = {}
        self._writer: asyncio.Task[None] | None = None
        self._dirty = False
        self._closed = False

    async def load(self) -> None:
        """What was running when the node ended is listed as failed; a download stays as it was, to go on."""
        for kept in await asyncio.to_thread(_read, self._file):
            record = JobRecord(kept.job, kept.order, self._changed)
            record.lines.extend(kept.lines)
            self._records[kept.job.id] = record
            if not _is_over(record):
                record.interrupt(INTERRUPTED, "retry it")

    def add(self, job: Job, order: dict[str, Any]) -> JobRecord:
        record = JobRecord(job, order, self._changed)
        self._records[job.id] = record
        self._changed(record, True)
        return record

    def remove(self, record: JobRecord) -> None:
        record.close()
        if self._records.pop(record.job.id, None) is not None:
            self._events.publish(Event(type="job_removed", at=time.time(), job_id=record.job.id))
            self._write_soon()

    def get(self, job_id: str) -> JobRecord:
        """Raises NotFound."""
        record = self._records.get(job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id!r}", "xin jobs lists them", param="id")
        return record

    def records(self) -> list[JobRecord]:
        return list(self._records.values())

    def find(self, matches: Callable[[JobRecord], bool]) -> JobRecord | None:
        """The newest that matches."""
        return next((record for record in reversed(self.records()) if matches(record)), None)

    async def close(self) -> None:
        """End what runs as interrupted, write it, and tell nothing from now on. Idempotent."""
        if self._closed:
            return
        for record in self.records():
            if not _is_over(record):
                record.interrupt(INTERRUPTED, "retry it")
            record.close()
        self._closed = True
        if self._writer is not None:
            await self._writer

    def _changed(self, record: JobRecord, weighty: bool) -> None:
        if self._closed or record.job.id not in self._records:
            return
        self._events.publish(Event(type="job", at=time.time(), job=record.snapshot()))
        if weighty:
            self._forget_oldest()
            self._write_soon()

    def _forget_oldest(self) -> None:
        ended = [record for record in self.records() if record.ended]
        for record in ended[:-KEPT]:
            self.remove(record)

    def _write_soon(self) -> None:
        self._dirty = True
        if not self._closed and (self._writer is None or self._writer.done()):
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._dirty:
            self._dirty = False
            kept = [
                _Kept(record.snapshot(), record.order, list(record.lines)[-KEPT_LINES:]) for record in self.records()
            ]
            try:
                await asyncio.to_thread(_write, self._file, kept)
            except OSError as exc:
                log.warning("cannot write %s: %s", self._file, exc.strerror)


def _is_over(record: JobRecord) -> bool:
    """Whether a restart changes nothing of it."""
    return record.ended or record.job.kind == "download"


def _read(file: Path) -> list[_Kept]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_File).jobs
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as exc:
        log.error("%s cannot be read, so earlier jobs are not listed: %s", file, exc)
        return []


def _write(file: Path, kept: list[_Kept]) -> None:
    paths.write_whole(file, msgspec.json.encode(_File(kept)))

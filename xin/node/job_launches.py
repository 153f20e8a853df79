"""Every launch as a job: what the manager tells of its instances, read as stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from xin.node.instance_runner import Publisher
from xin.node.job_book import INTERRUPTED, JobBook
from xin.node.job_record import JobRecord, new_job
from xin.protocol.command import launch_command
from xin.protocol.node import Event, Instance, LaunchRequest, LogLine

STAGES = {"resolve": 0.02, "load": 0.83, "warm up": 0.13, "ready": 0.02}
FETCH_STAGES = {"resolve": 0.01, "download": 0.84, "load": 0.12, "warm up": 0.02, "ready": 0.01}
KEPT_LINES = 400


class LaunchJobs:
    """Stands between the manager and the hub: passes every event on and keeps a job for each launch.

    `request_of(uid)` is what was asked for, `lines_of(uid)` the log of its worker; both are the manager's, made
    after this.
    """

    def __init__(self, book: JobBook, events: Publisher) -> None:
        self._book = book
        self._events = events
        self._records: dict[str, tuple[float, JobRecord]] = {}
        self.request_of: Callable[[str], LaunchRequest] = lambda uid: LaunchRequest(model_name=uid)
        self.lines_of: Callable[[str], list[LogLine]] = lambda uid: []

    def publish(self, event: Event) -> None:
        self._events.publish(event)
        if event.instance is not None:
            if not event.instance.serves:  # the launch is its first replica's
                self._follow(event.instance)
        elif event.type == "instance_removed" and event.model_uid is not None:
            _, record = self._records.pop(event.model_uid, (0.0, None))
            if record is not None and not record.ended:
                record.cancel()

    def job_of(self, uid: str) -> JobRecord | None:
        """The job of the launch that made the instance `uid`."""
        return self._records.get(uid, (0.0, None))[1]

    def lines(self, record: JobRecord) -> list[LogLine]:
        """Its worker's log while it lasts."""
        uid = record.job.model_uid or ""
        if not record.ended and self.job_of(uid) is record:
            return self.lines_of(uid)[-KEPT_LINES:]
        return list(record.lines)

    def _follow(self, instance: Instance) -> None:
        launched_at, record = self._records.get(instance.model_uid, (0.0, None))
        if record is None or launched_at != instance.launched_at:
            record = self._begin(instance)
        if record.ended:
            return
        match instance.state:
            case "ready":
                self._keep_lines(record)
                record.stage("warm up")  # its own word may have been too short to be told
                record.stage("ready")
                record.finish(f"ready in {instance.load_seconds or 0:.1f} s")
            case "failed":
                self._keep_lines(record)
                record.interrupt(instance.cause or "the launch failed", instance.hint)
            case "stopping":
                self._keep_lines(record)
                record.cancel()
            case "downloading":
                record.stage("download")
                record.progress(instance.progress, instance.stage)
            case _:
                stage = "warm up" if instance.stage == "warming up" else "load"
                record.stage(stage)
                record.progress(instance.progress if stage == "load" else None, instance.stage)

    def _begin(self, instance: Instance) -> JobRecord:
        uid = instance.model_uid
        request = self.request_of(uid)
        stages = FETCH_STAGES if instance.state == "downloading" else STAGES
        job = new_job("launch", _title(instance), stages, node=instance.node, command=launch_command(request))
        job.model_uid = uid
        order: dict[str, Any] = {**msgspec.to_builtins(request), "model_uid": uid, "on_demand": not instance.explicit}
        self._forget_interrupted(uid)
        record = self._book.add(job, {"kind": "launch", **order})
        record.weigh(stages)
        self._records[uid] = instance.launched_at, record
        record.start()
        record.stage("resolve", f"{instance.model_engine}, {instance.model_format} {instance.quantization}".strip())
        return record

    def _keep_lines(self, record: JobRecord) -> None:
        """The worker's last lines outlive it in the job."""
        record.lines.clear()
        record.lines.extend(self.lines_of(record.job.model_uid or "")[-KEPT_LINES:])

    def _forget_interrupted(self, uid: str) -> None:
        """What a restart cut off is being launched again."""
        for record in self._book.records():
            job = record.job
            if job.kind == "launch" and job.model_uid == uid and job.cause == INTERRUPTED:
                self._book.remove(record)


def _title(instance: Instance) -> str:
    """Its uid, with the model's name and quantization where the uid does not tell them."""
    parts = [instance.model_uid]
    for part in (instance.model_name, instance.quantization):
        if part not in ("none", "unknown") and part.replace(":", "-").lower() not in parts[0].lower():
            parts.append(part)
    return " ".join(parts)

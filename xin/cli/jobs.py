"""`xin jobs`: what the node works at by itself."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.bar import bar
from xin.cli.connection import connect
from xin.client import Client
from xin.errors import LaunchCancelled, LoadFailed, Unreachable, UsageError
from xin.protocol.node import Job, JobAction, JobStage

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(help="List, follow and steer the node's jobs.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(group, name="jobs")

_MARKS = {"waiting": "·", "running": "▶", "paused": "‖", "done": "✓", "failed": "✗", "cancelled": "■", "skipped": "-"}
Id = Annotated[str, typer.Argument(metavar="ID", autocompletion=lambda incomplete: _complete(incomplete))]


@group.callback(invoke_without_command=True)
def jobs(context: typer.Context, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List the jobs: launches, installations, quantizations."""
    if context.invoked_subcommand is None:
        _list(endpoint, json)


@group.command("list")
def list_jobs(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List the jobs, the newest last."""
    _list(endpoint, json)


@group.command()
def show(job_id: Id, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Show a job's stages, its cause if it failed, and the last lines of its log."""
    with connect(endpoint) as client:
        job = client.job(job_id)
        lines = client.job_log(job_id)
    if json:
        output.print_json(job)
        return
    print(f"{_MARKS[job.state]} {job.kind} {_line(job.title)}  {job.state} {job.progress:.0%}")
    for stage in job.stages:
        print(f"  {_MARKS[stage.state]} {stage.name:<9} {_line(stage.detail)} {_seconds(stage)}".rstrip())
    for label, text in (("cause", job.cause), ("hint", job.hint), ("again", job.command)):
        if text:
            print(f"{label}: {_line(text)}")
    for line in lines[-20:]:
        print(f"  {time.strftime('%H:%M:%S', time.localtime(line.at))} {output.printable(line.message)}")


@group.command()
def log(job_id: Id, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Print a job's log. With --json, a JSON object a line."""
    with connect(endpoint) as client:
        for line in client.job_log(job_id):
            if json:
                output.print_json_line(line)
            else:
                at = time.strftime("%H:%M:%S", time.localtime(line.at))
                print(f"{at} {line.level:<7} {line.source:<9} {output.printable(line.message)}")


@group.command()
def watch(job_id: Id, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Follow a job to its end. Exit code 5 when it fails or is cancelled; Ctrl-C leaves it running."""
    with connect(endpoint) as client:
        job = follow(client, client.job(job_id))
    tell(job, json)


def _act(action: JobAction, doc: str) -> None:
    def command(
        ids: Annotated[
            list[str] | None, typer.Argument(metavar="ID...", autocompletion=lambda incomplete: _complete(incomplete))
        ] = None,
        endpoint: arguments.Endpoint = None,
        json: arguments.Json = False,
    ) -> None:
        if not ids:
            raise UsageError("no ID given", "xin jobs lists them")
        with connect(endpoint) as client:
            done = [client.job_action(job_id, action) for job_id in ids]
        if json:
            output.print_json(done)
            return
        for job in done:
            print(f"{job.id} {job.kind} {_line(job.title)}: {'removed' if action == 'delete' else job.state}")

    group.command(action, help=doc)(command)


_act("cancel", "End a job; what it has half made is removed, what a download has is kept.")
_act("retry", "Begin a job again that failed or was cancelled, and print the new one.")
_act("delete", "Take a job that ended off the list; of a download with what it has half fetched.")
_act("pause", "Let a job rest, if its kind can.")
_act("resume", "Let a paused job go on.")


def _list(endpoint: str | None, json: bool) -> None:
    with connect(endpoint) as client:
        found = client.jobs()
    if json:
        output.print_json(found)
        return
    if not found:
        output.say("no jobs; a launch is one: xin launch MODEL")
        return
    rows = [
        (job.id, job.kind, _line(job.title), job.state, f"{job.progress:.0%}", _left(job), _line(_what(job)))
        for job in found
    ]
    output.draw(output.table(("ID", "KIND", "WHAT", "STATE", "DONE", "LEFT", "DETAIL"), rows, right=("DONE", "LEFT")))


def follow(client: Client, job: Job) -> Job:
    """The job as it ends."""
    with bar(job.title, left=True) as show:
        if job.ended_at is not None:
            return job
        for event in client.events():
            for other in [*(event.jobs or []), *([event.job] if event.job else [])]:
                if other.id == job.id:
                    show(other.progress, _what(other))
                    if other.ended_at is not None:
                        return other
            if event.type == "job_removed" and event.job_id == job.id:
                raise LaunchCancelled(f"job {job.id} was removed", "xin jobs lists the others")
    raise Unreachable("the node stopped before the job was done", "start it again: xin jobs shows what became of it")


def tell(job: Job, json: bool, *, quiet: bool = False) -> None:
    """How it ended, on stdout; raises LoadFailed when it did not end well. `quiet`: only that."""
    if json:
        output.print_json(job)
    if job.state in ("failed", "cancelled"):
        cause = job.cause or "it was cancelled"
        raise LoadFailed(f"{job.kind} {_line(job.title)}: {cause}", job.hint or f"more in: xin jobs log {job.id}")
    if not json and not quiet:
        print(f"{job.id} {job.state}: {_line(job.detail or job.title)}")


def _what(job: Job) -> str:
    """What there is to know of it in one line."""
    if job.cause:
        return job.cause
    running = next((stage for stage in job.stages if stage.state == "running"), None)
    if running is None:
        return job.detail
    if job.kind == "download" and job.bytes_total:
        return f"{job.bytes_done / 1e6:.0f} of {job.bytes_total / 1e6:.0f} MB of {running.detail}"
    return f"{running.name} {running.detail if running.detail != running.name else ''}".strip()


def _left(job: Job) -> str:
    left = job.seconds_left
    return "-" if left is None or job.state != "running" else f"{int(left) // 60}:{int(left) % 60:02}"


def _seconds(stage: JobStage) -> str:
    if stage.started_at is None or stage.ended_at is None:
        return f"{stage.progress:.0%}" if stage.progress is not None else ""
    return output.seconds(stage.ended_at - stage.started_at)


def _line(text: str) -> str:
    return output.one_line(text)


def _complete(incomplete: str) -> list[str]:
    try:
        with connect(None) as client:
            return [job.id for job in client.jobs() if job.id.startswith(incomplete)]
    except Unreachable:
        return []

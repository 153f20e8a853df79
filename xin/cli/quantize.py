"""`xin quantize`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect_or_start
from xin.cli.jobs import follow, tell
from xin.client import Client
from xin.errors import Conflict, LoadFailed, UsageError
from xin.protocol.node import Job

app = typer.Typer(rich_markup_mode=None)
_LAUNCH = "xin launch "


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=arguments.complete_model)],
    quantizations: Annotated[list[str], typer.Argument(metavar="QUANTIZATION...", help="Q8_0, Q4_K_M, …")],
    name: Annotated[str | None, typer.Option("--name", help="Of the file, without .gguf.")] = None,
    endpoint: arguments.Endpoint = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
    json: arguments.Json = False,
) -> None:
    """Make other quantizations of a local GGUF model, with llama.cpp's own quantizer.

    Each is a job of the node, which goes on when this command is ended; they run one after the other. What is there
    already is left out. With --json, a list of jobs.
    """
    wanted = [*dict.fromkeys(one.upper() for one in quantizations)]
    if name and len(wanted) > 1:
        raise UsageError(f"--name {name} is one file's, and there are {len(wanted)} quantizations", "name one of them")
    with connect_or_start(endpoint) as client:
        jobs = _begin(client, arguments.model_of(model), wanted, name)
        if wait:
            jobs = [follow(client, job) for job in jobs]
    _tell(jobs, json)


def _begin(client: Client, source: str, wanted: list[str], name: str | None) -> list[Job]:
    """Raises Conflict when all of them are there."""
    jobs: list[Job] = []
    there: list[Conflict] = []
    fields = {"source": source, **({"name": name} if name else {})}
    for quantization in wanted:
        try:
            jobs.append(client.start_job("quantize", quantization=quantization, **fields))
        except Conflict as exc:
            there.append(exc)
    if not jobs:
        raise there[0]
    for conflict in there:
        output.say(conflict.message)
    return jobs


def _tell(jobs: list[Job], json: bool) -> None:
    """All of them, then the first failure."""
    if json:
        output.print_json(jobs)
    failures: list[LoadFailed] = []
    for job in jobs:
        try:
            tell(job, json=False, quiet=json)
        except LoadFailed as exc:
            failures.append(exc)
    made = [job.detail.removeprefix(_LAUNCH) for job in jobs if job.state == "done" and job.detail.startswith(_LAUNCH)]
    if len(made) > 1 and not json:
        output.say(f"side by side: xin chat {shlex.join(made)} PROMPT")
    if failures:
        raise failures[0]

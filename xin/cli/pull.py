"""`xin pull`: fetch a model from the hub, launch nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect_or_start
from xin.cli.jobs import follow, tell
from xin.errors import Conflict

app = typer.Typer(rich_markup_mode=None)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=arguments.complete_any_model)],
    quantization: arguments.Quantization = None,
    endpoint: arguments.Endpoint = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
    json: arguments.Json = False,
) -> None:
    """Download a model, without launching it. Ctrl-C leaves the download going: see xin jobs."""
    wanted = {"quantization": quantization} if quantization else {}
    with connect_or_start(endpoint) as client:
        try:
            job = client.start_job("download", model_name=arguments.model_of(model), **wanted)
        except Conflict as exc:
            output.say(exc.message)
            if json:
                output.print_json({"downloaded": True})
            return
        if wait:
            job = follow(client, job)
    tell(job, json)

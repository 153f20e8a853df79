"""`xin scale`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect

app = typer.Typer(rich_markup_mode=None)


@app.command()
def scale(
    uid: Annotated[str, typer.Argument(metavar="UID", autocompletion=arguments.complete_uid)],
    replica: Annotated[int, typer.Argument(metavar="N", min=1, help="How many in all, over the nodes.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until new ones are ready.")] = True,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Run more or fewer replicas of a model that runs. One that is too many first answers what it was asked."""
    with connect(endpoint) as client:
        reply = client.scale(uid, replica, wait=wait)
    if json:
        output.print_json(reply)
        return
    for name, count in reply.nodes.items():
        sys.stdout.write(f"{count} on {output.printable(name)}\n")
    if reply.leaving:
        output.say(f"{reply.leaving} more will end when they have answered what they were asked")

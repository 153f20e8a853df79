"""`xin logs`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.protocol.node import LogLine

app = typer.Typer(rich_markup_mode=None)


@app.command()
def logs(
    uid: Annotated[str, typer.Argument(metavar="UID", autocompletion=arguments.complete_uid)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, metavar="LINES", help="How many lines back.")] = 200,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Show what a model's process has said. With --json, a JSON object a line."""
    with connect(endpoint) as client:
        for line in client.follow_logs(uid, tail=tail) if follow else client.logs(uid, tail=tail):
            if json:
                output.print_json_line(line)
            else:
                sys.stdout.write(_text(line) + "\n")
                sys.stdout.flush()


def _text(line: LogLine) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line.at))
    return f"{at} {line.level:<7} {line.source:<6} {output.printable(line.message)}"

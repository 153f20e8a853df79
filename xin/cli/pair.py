"""`xin pair` and `xin join`: make nodes one cluster."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect_or_start
from xin.client import Client
from xin.errors import UsageError
from xin.protocol.trust import Joined, Member

app = typer.Typer(rich_markup_mode=None)
POLL_SECONDS = 0.5


@app.command()
def pair(
    address: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="The node that shows digits: its name, HOST or HOST:PORT.")
    ] = None,
    digits: Annotated[
        str | None, typer.Argument(metavar="[DIGITS]", help="What it shows; asked for if left out.")
    ] = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Pair two nodes: `xin pair` on one shows six digits, `xin pair NODE` on the other asks for them."""
    with connect_or_start(endpoint) as client:
        if address is None:
            _show_digits(client, json)
        else:
            _print(client.join_cluster(digits or _asked(), address), json)


@app.command()
def join(
    token: Annotated[str, typer.Argument(metavar="XIN1-TOKEN", help="From xin cluster token, on a member.")],
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Enter the cluster that a token is of."""
    with connect_or_start(endpoint) as client:
        _print(client.join_cluster(token), json)


def _show_digits(client: Client, json: bool) -> None:
    before = {member.id for member in client.members().members}
    opened = client.open_pairing()
    where = " or ".join(_place(address, opened.port) for address in opened.addresses)
    if json:
        output.print_json_line(opened)
    else:
        print(f"{opened.secret[:3]} {opened.secret[3:]}", flush=True)
        output.say(f"on the other machine, within {opened.seconds:.0f} s: xin pair {where}")
    try:
        come = _wait(client, before, opened.seconds)
    except KeyboardInterrupt:
        client.close_pairing()
        raise
    if come is None:
        output.say("nobody came; the digits are worth nothing now")
        raise typer.Exit(1)
    output.say(f"paired with {come.name} ({come.id})")


def _wait(client: Client, before: set[str], seconds: float) -> Member | None:
    """Who came in, or was joined, meanwhile."""
    ends_at = time.monotonic() + seconds + POLL_SECONDS
    own = client.node().id
    while time.monotonic() < ends_at:
        for member in client.members().members:
            if member.id not in before and member.id != own:
                return member
        time.sleep(POLL_SECONDS)
    return None


def _asked() -> str:
    if not sys.stdin.isatty():
        raise UsageError("no digits given", "xin pair NODE DIGITS, or xin join TOKEN for scripts")
    return str(typer.prompt("The six digits that it shows", err=True))


def _print(joined: Joined, json: bool) -> None:
    if json:
        output.print_json(joined)
    elif joined.direction == "joined":
        output.say(f"in cluster {joined.cluster_id} with {joined.node_name}; xin nodes shows it")
    else:
        output.say(f"{joined.node_name} is in this node's cluster {joined.cluster_id} now; xin nodes shows it")


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

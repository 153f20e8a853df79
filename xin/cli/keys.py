"""`xin keys`: API keys of a node that apps on other machines may reach."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.protocol.trust import KeyInfo

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(help="List, add and revoke API keys.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(group, name="keys")


@group.callback(invoke_without_command=True)
def keys(context: typer.Context, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List the node's API keys. They are asked for where it listens beyond loopback (xin node --host)."""
    if context.invoked_subcommand is None:
        _list(endpoint, json)


@group.command("list")
def list_keys(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List the node's API keys."""
    _list(endpoint, json)


@group.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="infer: ask models; manage: all else too [infer]."),
    ] = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Make an API key and print it. It is shown this once; the node keeps its hash."""
    with connect(endpoint) as client:
        made = client.add_key(name, scope or ["infer"])
    if json:
        output.print_json(made)
    else:
        print(made.key)
        output.say(f"key {made.info.name} ({made.info.id}) may {' and '.join(made.info.scopes)}; it is not shown again")


@group.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")],
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Refuse an API key from now on."""
    with connect(endpoint) as client:
        gone = client.revoke_key(name)
    if json:
        output.print_json(gone)
    else:
        output.say(f"key {gone.name} ({gone.id}) is refused from now on")


def _list(endpoint: str | None, json: bool) -> None:
    with connect(endpoint) as client:
        listed: list[KeyInfo] = client.api_keys()
    if json:
        output.print_json(listed)
    elif not listed:
        output.say("there are no API keys; make one: xin keys add NAME")
    else:
        rows = [(key.id, key.name, ", ".join(key.scopes), _day(key.created_at)) for key in listed]
        output.draw(output.table(("ID", "NAME", "SCOPES", "MADE"), rows))


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))

"""`xin cluster`: who is in it, tokens for scripts, turning nodes out."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.protocol.trust import Members, Rotated

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(
    help="Show and change the cluster of paired nodes.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(group, name="cluster")


@group.callback(invoke_without_command=True)
def cluster(context: typer.Context, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List the members of this node's cluster."""
    if context.invoked_subcommand is None:
        _list(endpoint, json)


@group.command("members")
def members(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List the members of this node's cluster."""
    _list(endpoint, json)


@group.command()
def token(
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, max=10_080, help="How long it is good for.")] = 60.0,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Print a token by which other nodes enter: xin join TOKEN. Whoever has it is let in, so keep it secret."""
    with connect(endpoint) as client:
        opened = client.open_pairing(token=True, minutes=minutes)
    if json:
        output.print_json(opened)
    else:
        print(opened.secret)
        output.say(f"good for {minutes:g} minutes, or until xin cluster rotate")


@group.command()
def revoke(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A member's name or id.")],
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Turn a node out: all others get new certificates, so that nothing it holds is good any more."""
    with connect(endpoint) as client:
        _print_rotated(client.revoke_member(node), json, f"{node} is out")


@group.command()
def rotate(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Give every member a new certificate; tokens and the old ones are worth nothing afterwards."""
    with connect(endpoint) as client:
        _print_rotated(client.rotate_cluster(), json, "the cluster has a new authority")


@group.command()
def leave(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Take this node out of its cluster, and destroy what let it in."""
    with connect(endpoint) as client:
        left = client.members().cluster_id
        client.leave_cluster()
    if json:
        output.print_json({"left": left})
    else:
        output.say(f"this node has left cluster {left}")


def _list(endpoint: str | None, json: bool) -> None:
    with connect(endpoint) as client:
        found: Members = client.members()
    if json:
        output.print_json(found)
    elif found.cluster_id is None:
        output.say("this node is in no cluster; pair it: xin pair")
    else:
        rows = [(member.id, member.name, ", ".join(member.addresses), member.port) for member in found.members]
        output.draw(output.table(("ID", "NAME", "ADDRESSES", "PORT"), rows, right=("PORT",)))


def _print_rotated(rotated: Rotated, json: bool, done: str) -> None:
    if json:
        output.print_json(rotated)
        return
    output.say(f"{done}; cluster {rotated.cluster_id}: {len(rotated.told)} others were told")
    if rotated.missed:
        output.say(f"not reached, so they must leave and join again: {', '.join(rotated.missed)}")

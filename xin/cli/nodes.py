"""`xin nodes`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.client import Client
from xin.protocol.node import Cluster, Peer

app = typer.Typer(rich_markup_mode=None)

RELATIONS = {"self": "this one", "local": "same host", "found": "found, not paired", "peer": "paired"}
SHOWN_EVENTS = frozenset({"snapshot", "peer", "peer_removed", "instance", "instance_removed"})


@app.command()
def nodes(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing changes until Ctrl-C.")] = False,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """List this node and those that it sees. With --json --watch, a line of JSON at each change."""
    with connect(endpoint) as client:
        if watch:
            _watch(client, json=json)
        elif json:
            output.print_json(client.cluster().nodes)
        else:
            output.draw(_table(client.cluster()))


def _watch(client: Client, *, json: bool) -> None:
    if json or not sys.stdout.isatty():
        for event in client.events():
            if event.type in SHOWN_EVENTS:
                cluster = client.cluster()
                output.print_json_line(cluster.nodes) if json else output.draw(_table(cluster))
        return
    from rich.live import Live

    with Live(console=output.console(), auto_refresh=False) as live:
        for event in client.events():
            if event.type in SHOWN_EVENTS:
                live.update(_table(client.cluster()), refresh=True)


def _table(cluster: Cluster) -> Any:
    headers = ("NAME", "RELATION", "STATUS", "VERSION", "ENDPOINT", "MODELS", "DEVICES")
    return output.table(headers, [_row(peer) for peer in cluster.nodes], right=("MODELS",))


def _row(peer: Peer) -> tuple[str, ...]:
    trusted = peer.node is not None
    devices = [device.name for device in peer.node.devices if device.kind != "cpu"] if peer.node else []
    return (
        peer.name or peer.id[:8],
        RELATIONS.get(peer.relation, peer.relation),
        peer.status,
        peer.version or "-",
        peer.endpoint or ", ".join(peer.addresses) or "-",
        str(sum(one.state == "ready" for one in peer.instances)) if trusted else "-",
        ", ".join(devices) or ("CPU" if trusted else "-"),
    )

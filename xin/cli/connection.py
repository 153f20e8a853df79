"""Whom a command talks to: the endpoint it was given, else the configured one, whose node is started if need be."""

from __future__ import annotations

from urllib.parse import urlsplit

from xin import config
from xin.cli import daemon
from xin.cli.output import say
from xin.client import Client
from xin.config import ClientConfig
from xin.errors import Unreachable, UsageError, XinError
from xin.protocol.node import NodeInfo

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def connect(endpoint: str | None) -> Client:
    """A client of a node that answered. Raises Unreachable or ForeignServer."""
    client = Client(endpoint or _configured().endpoint)
    try:
        client.node()
    except XinError:
        client.close()
        raise
    return client


def connect_or_start(endpoint: str | None) -> Client:
    """As `connect`; starts a node on this machine where none answers at the configured endpoint."""
    configured = _configured()
    client = Client(endpoint or configured.endpoint)
    try:
        client.node()
    except Unreachable as exc:
        client.close()
        url = urlsplit(client.endpoint)
        startable = endpoint is None and configured.start_node and url.hostname in LOOPBACK and url.scheme == "http"
        if type(exc) is not Unreachable or not startable:
            raise
        started = daemon.start(client.endpoint, url.port or 80)
        say(f"no node answered at {client.endpoint}; started one (pid {started.pid}, log {started.log})")
        return Client(client.endpoint)
    return client


def at_node(client: Client, node_id: str) -> Client:
    """A client of a node of the cluster, through the one that `client` speaks with; `client` itself for that one."""
    if not node_id or node_id == client.node().id:
        return client
    return Client(f"{client.endpoint}/api/nodes/{node_id}")


def check_node(client: Client, wanted: str | None) -> None:
    """Refuse `--node` for any but the node itself."""
    if wanted is None:
        return
    info: NodeInfo = client.node()
    if wanted not in (info.name, info.id):
        raise UsageError(f"--node {wanted}: this node is {info.name}", "talk to the other node itself with -e URL")


def _configured() -> ClientConfig:
    return config.load().client

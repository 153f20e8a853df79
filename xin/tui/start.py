"""Finds the node to talk to: the configured one, else another of this user's on this host, else one is started."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from xin import local_nodes
from xin.client import AsyncClient
from xin.config import ClientConfig
from xin.discovery import FoundNode, Mdns, NodeBrowser, as_peer
from xin.errors import XinError
from xin.tui.follow import is_loopback
from xin.tui.store import Store

Starter = Callable[[str, int], object]


async def find(configured: ClientConfig) -> str | None:
    """The configured endpoint if a node answers there, else that of the youngest node of this user on this host."""
    if await _answers(configured.endpoint):
        return configured.endpoint
    return next(iter(await local_endpoints()), None)


async def local_endpoints() -> list[str]:
    """Nodes of this user on this host that proved to be those of their files, the youngest first."""
    entries = await asyncio.to_thread(local_nodes.read_all)
    entries.sort(key=lambda entry: -entry.started_at)
    usable = [entry for entry in entries if is_loopback(entry.endpoint)]
    proved = await asyncio.gather(*(_proves(entry) for entry in usable))
    return [entry.endpoint for entry, good in zip(usable, proved, strict=True) if good]


def can_start(configured: ClientConfig) -> bool:
    """Whether a node of ours may be started where the settings look for one."""
    return configured.start_node and configured.endpoint.startswith("http:") and is_loopback(configured.endpoint)


async def start(configured: ClientConfig, starter: Starter) -> str:
    """Start a node here and wait until it answers. Raises Unreachable with its words."""
    url = urlsplit(configured.endpoint)
    await asyncio.to_thread(starter, configured.endpoint, url.port or 80)
    return configured.endpoint


async def watch_network(store: Store) -> None:
    """Until cancelled, for while no node does it for us: nodes that the network tells of are in the store as found."""

    def on_found(found: FoundNode) -> None:
        store.put_peer(as_peer(found))

    try:
        async with Mdns() as mdns, NodeBrowser(mdns, on_found, lambda found: store.forget(found.id)):
            await asyncio.Event().wait()
    except XinError:
        return  # a host without network has nobody to show
    finally:
        for view in list(store.nodes.values()):
            if view.relation == "found":
                store.forget(view.id)


async def _answers(endpoint: str) -> bool:
    try:
        async with AsyncClient(endpoint) as client:
            await asyncio.wait_for(client.node(), 3.0)
    except (XinError, TimeoutError):
        return False
    return True


async def _proves(entry: local_nodes.LocalNode) -> bool:
    challenge = secrets.token_hex(16)
    try:
        async with AsyncClient(entry.endpoint) as client:
            proof = await client.proof(challenge)
    except XinError:
        return False
    return local_nodes.proves(entry.nonce, challenge, proof)

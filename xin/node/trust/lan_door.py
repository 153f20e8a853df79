"""The door for other hosts: the node's own API over mutual TLS, open while this node is in a cluster."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from aiohttp import web

from xin.node.identity import Identity
from xin.node.trust.trust import Trust

BACKLOG = 256
log = logging.getLogger("xin.node")


class LanDoor:
    """`serve_on` a runner once it is set up. New papers change the locks; connections that are open stay open.

    `port` taken: another one is used, and told to the others. Its number is in `identity.lan_port` while it is open.
    """

    def __init__(self, identity: Identity, trust: Trust, host: str, port: int) -> None:
        self._identity = identity
        self._trust = trust
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._site: web.SockSite | None = None
        self._runner: web.AppRunner | None = None
        trust.on_papers.append(self._change_locks)

    async def serve_on(self, runner: web.AppRunner) -> None:
        self._runner = runner
        await self._change_locks()

    async def close(self) -> None:
        """Let nobody else in; idempotent."""
        site, self._site = self._site, None
        await self._stop(site)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._identity.lan_port = None

    def drop(self, node_id: str) -> None:
        """End the connections of one node, in mid-answer too."""
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if server is not None else []:
            transport = connection.transport
            certificate = transport.get_extra_info("peercert") if transport is not None else None
            if transport is not None and ("commonName", node_id) in _subject(certificate):
                transport.abort()

    async def _stop(self, site: web.SockSite | None) -> None:
        """No more connections; those that are open stay. The runner may have done it already."""
        if site is not None and self._runner is not None and site in self._runner.sites:
            await site.stop()

    async def _change_locks(self) -> None:
        if self._runner is None:
            return
        papers = self._trust.papers
        if papers is None:
            await self.close()
            return
        if self._socket is None:
            try:
                self._socket = await asyncio.to_thread(listening, self._host, self._port)
            except OSError as exc:
                log.error("other nodes cannot reach this one: port %d: %s", self._port, exc.strerror)
                return
        # The listening socket stays, so that nobody is turned away meanwhile.
        before, self._site = self._site, web.SockSite(self._runner, self._socket.dup(), ssl_context=papers.server)
        await self._stop(before)
        await self._site.start()
        self._identity.lan_port = self._socket.getsockname()[1]
        if before is None:
            log.info("open to the nodes of cluster %s on port %d", papers.cluster_id, self._identity.lan_port)


def listening(host: str, port: int) -> socket.socket:
    """On `host`, or on all addresses of both families; on any port where `port` is taken."""
    try:
        return _listening(host, port)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        return _listening(host, 0)


def _listening(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    elif socket.has_dualstack_ipv6():
        made = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    else:
        made = socket.create_server(("", port), backlog=BACKLOG)
    made.setblocking(False)
    return made


def _subject(certificate: object) -> list[tuple[str, str]]:
    found = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    return [pair for part in found for pair in part]

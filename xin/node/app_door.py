"""The node's API for apps on other hosts, opened and closed while it runs. The one on loopback is always there."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
from aiohttp import web

from xin.config import NodeConfig
from xin.errors import Conflict, XinError
from xin.node.guard import is_loopback, own_names
from xin.node.identity import Identity
from xin.node.listener import open_listener
from xin.node.trust.server_certificate import TlsDoor
from xin.protocol.trust import DoorInfo, OpenDoor

EVERYWHERE = ("0.0.0.0", "::")
LOOK_SECONDS = 5.0
log = logging.getLogger("xin.node")


class AppDoor:
    """`serve_on` a runner once it is set up. `is_by(request)`: whether it came this way, and so needs an API key.

    "Everywhere" is a socket for each address of this host, so that loopback stays another door; new addresses are
    taken up as they come. Closing ends no connection.
    """

    def __init__(self, config: NodeConfig, identity: Identity, certificates: Path) -> None:
        self.tls: TlsDoor | None = None
        self._config = config
        self._identity = identity
        self._certificates = certificates
        self._order: OpenDoor | None = None
        self._names: Callable[[str], bool] = _nobody
        self._runner: web.AppRunner | None = None
        self._sites: dict[str, web.SockSite] = {}
        self._used: set[str] = set()  # connections outlive what let them in
        self._follower: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    def serve_on(self, runner: web.AppRunner) -> None:
        self._runner = runner

    def info(self) -> DoorInfo:
        order = self._order
        if order is None:
            return DoorInfo(is_open=False, port=self._identity.port)
        return DoorInfo(
            is_open=True,
            host=order.host,
            addresses=sorted(self._sites),
            port=self._identity.port,
            tls=order.tls,
            allowed_hosts=order.allowed_hosts,
        )

    def is_by(self, request: web.Request) -> bool:
        own = request.transport.get_extra_info("sockname") if request.transport is not None else None
        return own is not None and str(own[0]) in self._used

    def answers_to(self, name: str) -> bool:
        """A name or address in Host by which apps may ask while it is open."""
        return self._order is not None and self._names(name)

    async def open(self, order: OpenDoor) -> DoorInfo:
        """Instead of what was open. Raises Conflict where `--host` has opened one or the port is taken; UsageError."""
        if not is_loopback(self._config.host) and not self._config.uses_tls:
            raise Conflict(f"this node listens on {self._config.host} since its start", "start it without --host")
        async with self._changing:
            await self._close()
            self._order, self._names = order, own_names(order.host, order.allowed_hosts)
            try:
                if order.tls:
                    settings = msgspec.structs.replace(
                        self._config, host=order.host, tls=True, allowed_hosts=order.allowed_hosts
                    )
                    self.tls = TlsDoor(settings, self._certificates, lambda: addresses_of(order.host))
                    await asyncio.to_thread(self.tls.open)
                await self._take_up(await asyncio.to_thread(addresses_of, order.host))
            except BaseException:
                await self._close()
                raise
            self._follower = asyncio.create_task(self._follow(order), name="door for apps")
        log.info("open to apps on %s, port %d", ", ".join(sorted(self._sites)), self._identity.port)
        return self.info()

    async def close(self) -> None:
        """Nobody else comes in; idempotent."""
        async with self._changing:
            if self._order is not None:
                log.info("closed to apps on other hosts")
            await self._close()

    async def _close(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        for address in list(self._sites):
            await self._give_up(address)
        self._order, self._names, self.tls = None, _nobody, None

    async def _follow(self, order: OpenDoor) -> None:
        """The host's addresses, and what its certificate needs."""
        watching = asyncio.create_task(self.tls.watch(), name="certificate") if self.tls is not None else None
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                found = await asyncio.to_thread(addresses_of, order.host)
                with suppress(XinError):  # an address that is not usable yet is tried again
                    await self._take_up(found)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _take_up(self, addresses: list[str]) -> None:
        for address in set(self._sites) - set(addresses):
            await self._give_up(address)
        for address in addresses:
            if address not in self._sites:
                await self._listen(address)

    async def _listen(self, address: str) -> None:
        assert self._runner is not None
        where = msgspec.structs.replace(self._config, host=address, port=self._identity.port)
        listener: socket.socket = await open_listener(where)
        site = web.SockSite(self._runner, listener, ssl_context=self.tls.context if self.tls is not None else None)
        self._used.add(address)
        await site.start()
        self._sites[address] = site

    async def _give_up(self, address: str) -> None:
        site = self._sites.pop(address)
        if self._runner is not None and site in self._runner.sites:
            await site.stop()


def addresses_of(host: str) -> list[str]:
    """What to listen on for `host`: each address but loopback for "everywhere", else itself. Blocking."""
    if host not in EVERYWHERE:
        return [host]
    found = [address.address for net in psutil.net_if_addrs().values() for address in net]
    return sorted({address for address in found if _is_for(host, address)})


def _is_for(host: str, address: str) -> bool:
    """Link-local addresses of IPv6 need an interface besides, so apps cannot be told them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed.is_loopback or parsed.is_multicast or parsed.is_unspecified:
        return False
    return parsed.version == 4 or (host == "::" and not parsed.is_link_local)


def _nobody(name: str) -> bool:
    return False

"""The workbench's connection to the fleet: which node it talks to, how it is found, and clients of each node."""

from __future__ import annotations

import asyncio

from xin import config
from xin.client import AsyncClient
from xin.config import ClientConfig
from xin.errors import Unreachable, XinError
from xin.tui import start
from xin.tui.follow import SEARCH_SECONDS, Fleet
from xin.tui.start import Starter
from xin.tui.store import Store
from xin.tui.text import clean

NOBODY = "no xin node answers on this machine"


class Connection:
    """`run` it until cancelled, then `close`. `starter` starts a node at an endpoint and port; None = never."""

    def __init__(self, store: Store, starter: Starter | None) -> None:
        self.store = store
        self._starter = starter
        self._clients: dict[str, AsyncClient] = {}

    def client(self, endpoint: str) -> AsyncClient:
        if endpoint not in self._clients:
            self._clients[endpoint] = AsyncClient(endpoint)
        return self._clients[endpoint]

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)

    async def run(self, endpoint: str | None, *, may_start: bool = True) -> None:
        """Talk to `endpoint`, else to a node that is found, else to one that is started here, else wait for one."""
        configured = config.load().client
        if endpoint is None:
            endpoint = await start.find(configured)
        if endpoint is None and may_start and self._starter is not None and start.can_start(configured):
            endpoint = await self._start(configured)
        if endpoint is None:
            endpoint = await self._wait_for_one()
        await Fleet(self.store, self.client, start.local_endpoints).run(endpoint)

    async def start_here(self) -> None:
        """Start a node on this machine and talk to it. Raises Unreachable when it cannot be started."""
        if self._starter is None:
            raise Unreachable("this workbench starts no nodes", "start one: xin node")
        await start.start(config.load().client, self._starter)

    async def _start(self, configured: ClientConfig) -> str | None:
        assert self._starter is not None
        self.store.set_link("connecting", configured.endpoint, "no node answered: starting one here")
        try:
            return await start.start(configured, self._starter)
        except XinError as exc:
            self.store.set_link("lost", None, clean(f"{exc.message} ({exc.hint})" if exc.hint else exc.message))
        return None

    async def _wait_for_one(self) -> str:
        """Until a node of this user is there; meanwhile those of the network are shown as found."""
        if self.store.link.state != "lost":
            self.store.set_link("lost", None, NOBODY)
        network = asyncio.create_task(start.watch_network(self.store), name="look at the network")
        try:
            while True:
                if endpoints := await start.local_endpoints():
                    return endpoints[0]
                await asyncio.sleep(SEARCH_SECONDS)
        finally:
            network.cancel()
            await asyncio.gather(network, return_exceptions=True)

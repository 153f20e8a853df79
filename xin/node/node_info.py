"""What this node tells about itself."""

from __future__ import annotations

import asyncio
import platform
import time

from xin import __version__
from xin.config import NodeConfig
from xin.node.devices.sampler import Sampler
from xin.node.identity import Identity
from xin.node.manager import Manager
from xin.protocol.node import EngineInfo, NodeInfo

ENGINES_SECONDS = 60.0


class SelfDescription:
    """NodeInfo, put together from parts that are looked up in threads and kept."""

    def __init__(self, config: NodeConfig, identity: Identity, sampler: Sampler, manager: Manager) -> None:
        self._config = config
        self._identity = identity
        self._sampler = sampler
        self._manager = manager
        self._engines: list[EngineInfo] = []
        self._engines_at = float("-inf")
        self._looking = asyncio.Lock()

    async def current(self) -> NodeInfo:
        identity = self._identity
        return NodeInfo(
            id=identity.id,
            name=identity.name,
            version=__version__,
            endpoint=identity.endpoint,
            pid=identity.pid,
            started_at=identity.started_at,
            platform=f"{platform.system()} {platform.machine()}",
            cpu_threads=self._manager.threads,
            devices=await self._sampler.current(),
            engines=await self._current_engines(),
            private=self._config.private,
            lan_port=identity.lan_port,
        )

    async def engines_changed(self) -> None:
        """Look for engines again, now."""
        self._engines_at = float("-inf")
        await self._current_engines()

    async def _current_engines(self) -> list[EngineInfo]:
        async with self._looking:
            if time.monotonic() - self._engines_at > ENGINES_SECONDS:
                self._engines = await asyncio.to_thread(_look_for_engines)
                self._engines_at = time.monotonic()
        return self._engines


def _look_for_engines() -> list[EngineInfo]:
    import importlib

    from xin.installer.status import engine_infos

    importlib.invalidate_caches()
    return engine_infos()

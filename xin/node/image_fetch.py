"""Images named by a URL, where the node may fetch them (`fetch_images`): from public addresses only, and never on."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from xin.protocol.image import IMAGE_BYTES, checked

SECONDS = 15.0
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError)


async def fetch(url: str) -> tuple[str, bytes]:
    """(media type, bytes). Raises ValueError, in words for who asked."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as exc:
        raise ValueError("it is no URL") from exc
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise ValueError("only plain http and https URLs are fetched")
    if _is_address(host) and not _is_public(host):
        raise ValueError("its address is not a public one")
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    connector = aiohttp.TCPConnector(resolver=_PublicOnly())
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.get(url, allow_redirects=False, headers={"Accept": "image/*"}) as response,
        ):
            if response.status != 200:
                raise ValueError(f"its server answered with {response.status}")
            data = await response.content.read(IMAGE_BYTES + 1)
            while len(data) <= IMAGE_BYTES and (more := await response.content.read(IMAGE_BYTES + 1 - len(data))):
                data += more
    except _FAILURES as exc:
        if isinstance(getattr(exc, "os_error", exc), _NotPublic):
            raise ValueError("its address is not a public one") from exc
        raise ValueError(f"it could not be fetched: {type(exc).__name__}") from exc
    return await asyncio.to_thread(checked, data), data


class _NotPublic(OSError):
    pass


class _PublicOnly(AbstractResolver):
    """The addresses that are connected to are those that were looked at: a name cannot change between the two."""

    def __init__(self) -> None:
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if _is_public(one["host"])]
        if not public:
            raise _NotPublic(f"{host} has no public address")
        return public

    async def close(self) -> None:
        await self._resolver.close()


def _is_address(host: str) -> bool:
    """Also in the forms that connect() takes, such as 2130706433 and 127.1."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.replace(".", "").isdigit() or host.lower().startswith("0x")
    return True


def _is_public(host: Any) -> bool:
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    seen = mapped if mapped is not None else address
    return seen.is_global and not seen.is_multicast

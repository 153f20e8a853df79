"""Nodes on the local network over multicast DNS: `_xin._tcp.local.` (RFC 6762, RFC 6763).

Whatever is heard there is a claim by anybody on the network: it is bounded, matched against strict patterns, shown as
found, and never trusted.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from xin.errors import XinError
from xin.protocol.node import Peer

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

log = logging.getLogger(__name__)

SERVICE = "_xin._tcp.local."
MAX_NODES = 256
MAX_ADDRESSES = 8
MAX_NAME = 64
TTL_SECONDS = 120
RESOLVE_MS = 3000
REFRESH_SECONDS = 30.0

_ID = re.compile(r"[0-9a-f]{16}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}")


class FoundNode(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. `lan_open`: it listens on `port`; else the port only says where it would."""

    id: str
    name: str
    version: str
    port: int
    lan_open: bool = False
    addresses: tuple[str, ...] = ()


def as_peer(found: FoundNode) -> Peer:
    """As it is shown: found, and no more."""
    return Peer(
        id=found.id,
        name=found.name,
        relation="found",
        status="alive",
        version=found.version,
        addresses=list(found.addresses),
        lan_port=found.port if found.lan_open else None,
        seen_at=time.time(),
    )


class Mdns:
    """`async with` it: the sockets that an Advertiser and a NodeBrowser share. Imports zeroconf when it opens.

    `interfaces`: addresses of the interfaces to use; None = all.
    """

    def __init__(self, interfaces: Sequence[str] | None = None) -> None:
        self.interfaces = interfaces
        self._opened: AsyncZeroconf | None = None

    async def __aenter__(self) -> Mdns:
        zeroconf = await asyncio.to_thread(importlib.import_module, "zeroconf")
        made = (await asyncio.to_thread(importlib.import_module, "zeroconf.asyncio")).AsyncZeroconf
        try:
            if self.interfaces is not None:
                self._opened = made(interfaces=list(self.interfaces))
            else:
                self._opened = _of_either_family(made, zeroconf.IPVersion)
        except (OSError, RuntimeError) as exc:
            raise XinError(f"multicast DNS cannot be used here: {exc}", "other hosts are not seen") from exc
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await _whole(opened.async_close())

    @property
    def zeroconf(self) -> AsyncZeroconf:
        if self._opened is None:
            raise RuntimeError("Mdns is not open")
        return self._opened

    def addresses(self) -> list[str]:
        """Where this host can be reached by others."""
        if self.interfaces is not None:
            return list(self.interfaces)
        return own_addresses()


def _of_either_family(made: Any, version: Any) -> AsyncZeroconf:
    """Over IPv4 and IPv6, or over IPv4 alone where a host has no other."""
    try:
        opened: AsyncZeroconf = made(ip_version=version.All)
    except (OSError, RuntimeError) as exc:
        log.info("multicast DNS goes over IPv4 alone: %s", exc)
        opened = made(ip_version=version.V4Only)
    return opened


def own_addresses() -> list[str]:
    """Where this host can be reached by others."""
    found = [address.address.partition("%")[0] for net in psutil.net_if_addrs().values() for address in net]
    return sorted(filter(_is_reachable, found))[:MAX_ADDRESSES]


async def _whole(closing: Coroutine[None, None, None]) -> None:
    """Awaited to its end however often the caller is cancelled meanwhile: sockets would stay open. Then cancelled."""
    task = asyncio.ensure_future(closing)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    task.result()


class Advertiser:
    """`async with` it: announces one node, follows changes of this host's addresses, and says goodbye."""

    def __init__(self, mdns: Mdns, node: FoundNode) -> None:
        self._mdns = mdns
        self._node = msgspec.structs.replace(node, name=_printable(node.name) or node.id)
        self._addresses: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Advertiser:
        from zeroconf import Error

        self._addresses = self._mdns.addresses()
        # The instance name is unique by the id, so that two hosts of one name do not fight over it.
        try:
            await (await self._mdns.zeroconf.async_register_service(self._service()))
        except (Error, OSError) as exc:
            raise XinError(f"this node cannot be announced: {exc!r}", "other hosts do not see it") from exc
        self._task = asyncio.create_task(self._refresh(), name="mDNS addresses")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await (await self._mdns.zeroconf.async_unregister_service(self._service()))

    def _service(self) -> AsyncServiceInfo:
        from zeroconf.asyncio import AsyncServiceInfo

        node = self._node
        return AsyncServiceInfo(
            SERVICE,
            f"{_label(node.name, node.id)}.{SERVICE}",
            port=node.port,
            properties={
                "id": node.id,
                "name": node.name,
                "version": node.version,
                "lan": "open" if node.lan_open else "closed",
            },
            server=f"xin-{node.id}.local.",
            host_ttl=TTL_SECONDS,
            other_ttl=TTL_SECONDS,
            parsed_addresses=self._addresses,
        )

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            addresses = self._mdns.addresses()
            if addresses == self._addresses:
                continue
            self._addresses = addresses
            try:
                await self._mdns.zeroconf.async_update_interfaces()
                await (await self._mdns.zeroconf.async_update_service(self._service()))
            except OSError as exc:
                log.warning("mDNS: cannot follow this host's new addresses: %s", exc)


class NodeBrowser:
    """`async with` it: tells of nodes that come, change and go, by callbacks on the loop."""

    def __init__(self, mdns: Mdns, on_found: Callable[[FoundNode], None], on_lost: Callable[[FoundNode], None]) -> None:
        self._mdns = mdns
        self._on_found = on_found
        self._on_lost = on_lost
        self._browser: AsyncServiceBrowser | None = None
        self._nodes: dict[str, FoundNode] = {}
        self._resolving: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> NodeBrowser:
        from zeroconf.asyncio import AsyncServiceBrowser

        self._browser = AsyncServiceBrowser(self._mdns.zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._browser is not None:
            await self._browser.async_cancel()
        tasks = list(self._resolving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nodes(self) -> list[FoundNode]:
        return list(self._nodes.values())

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Called by zeroconf with these keywords. Only so many names are looked into."""
        task = self._resolving.pop(name, None)
        if task is not None:
            task.cancel()
        if state_change.name == "Removed":
            self._forget(name)
        elif len(self._nodes | self._resolving) < MAX_NODES or name in self._nodes:
            self._resolving[name] = asyncio.create_task(self._resolve(name), name="mDNS resolve")

    async def _resolve(self, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(SERVICE, name)
        try:
            answered = await info.async_request(self._mdns.zeroconf.zeroconf, RESOLVE_MS)
            node = parse(info.properties, info.port, info.parsed_addresses()) if answered else None
        except OSError as exc:
            log.debug("mDNS: %s", exc)
            return
        finally:
            if self._resolving.get(name) is asyncio.current_task():
                del self._resolving[name]
        if node is None or self._nodes.get(name) == node or self._is_claimed(node.id, name):
            return
        if name in self._nodes and self._nodes[name].id != node.id:
            self._forget(name)
        self._nodes[name] = node
        self._on_found(node)

    def _is_claimed(self, node_id: str, name: str) -> bool:
        """The first name that claims an id keeps it."""
        return any(node.id == node_id for other, node in self._nodes.items() if other != name)

    def _forget(self, name: str) -> None:
        node = self._nodes.pop(name, None)
        if node is not None:
            self._on_lost(node)


def parse(properties: Mapping[bytes, bytes | None], port: int | None, addresses: Sequence[str]) -> FoundNode | None:
    """A node from an answer's TXT record; None when anything in it is not as a node writes it."""
    text = {key: _text(properties.get(key.encode())) for key in ("id", "name", "version", "lan")}
    name = text["name"]
    if (
        not _ID.fullmatch(text["id"])
        or not _VERSION.fullmatch(text["version"])
        or text["lan"] not in ("open", "closed")
    ):
        return None
    if not name or len(name) > MAX_NAME or not name.isprintable() or not port or not 0 < port < 65536:
        return None
    return FoundNode(
        id=text["id"],
        name=name,
        version=text["version"],
        port=port,
        lan_open=text["lan"] == "open",
        addresses=tuple(addresses[:MAX_ADDRESSES]),
    )


def _text(value: bytes | None) -> str:
    """ "" for what is absent, long, or not UTF-8."""
    try:
        return (value or b"").decode() if len(value or b"") <= 4 * MAX_NAME else ""
    except UnicodeDecodeError:
        return ""


def _label(name: str, node_id: str) -> str:
    """An instance name of at most 63 bytes, without dots."""
    plain = name.replace(".", "-").encode()[:46].decode(errors="ignore").strip()
    return f"{plain} {node_id}".strip()


def _printable(name: str) -> str:
    """What `parse` takes, and fits a TXT string of 255 bytes."""
    return "".join(filter(str.isprintable, name))[:MAX_NAME].encode()[:200].decode(errors="ignore")


def _is_reachable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified)

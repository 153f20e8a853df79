"""Looks at this machine, its network and its cluster as a person would who wonders why something does not work."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import psutil
from aiohttp import web

from xin import paths
from xin.config import LAN_PORT
from xin.errors import XinError
from xin.installer.status import engine_infos
from xin.node.keys import CONFIG, DESCRIPTION, IDENTITY, PEERS, RELAY, TRUST
from xin.node.weights_huggingface import hub_cache
from xin.protocol.doctor import Check
from xin.protocol.node import EngineInfo, NodeInfo, Peer

MEMBER_SECONDS = 5.0
CLOCK_WARN_SECONDS = 2.0
CLOCK_FAIL_SECONDS = 300.0  # certificates that were just made are not valid yet for whom they come from the future
DISK_WARN_BYTES = 10 * 2**30
DISK_FAIL_BYTES = 2**30
_NO_ENGINE = frozenset({"echo"})
log = logging.getLogger("xin.node")


class _Health(msgspec.Struct):
    time: float = 0.0


async def examine(app: web.Application) -> list[Check]:
    """All checks, of the machine first."""
    node = await app[DESCRIPTION].current()
    machine = await asyncio.to_thread(of_machine, node.engines)
    return [_of_node(node), *machine, _of_devices(node), *_of_network(app), *await _of_members(app)]


def of_machine(engines: Sequence[EngineInfo] | None = None) -> list[Check]:
    """What needs no node to be looked at."""
    return [_of_engines(engine_infos() if engines is None else engines), *_of_disks()]


def _of_node(node: NodeInfo) -> Check:
    hours = (time.time() - node.started_at) / 3600
    up = f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
    python = ".".join(map(str, sys.version_info[:3]))
    message = f"{node.name} answers at {node.endpoint}: xin {node.version}, Python {python}, {node.platform}, up {up}"
    return Check(name="node", state="ok", message=message)


def _of_engines(engines: Iterable[EngineInfo]) -> Check:
    installed = [one for one in engines if one.installed and one.name not in _NO_ENGINE]
    if not installed:
        return Check(
            name="engines", state="fail", message="no engine is installed", hint="run xin engines install llama.cpp"
        )
    told = ", ".join(f"{one.name} {one.version}".strip() for one in installed)
    return Check(name="engines", state="ok", message=told)


def _of_disks() -> list[Check]:
    """The folders that models go to, each file system once."""
    seen: dict[int, tuple[str, Path]] = {}
    for what, folder in (("models", paths.data_dir()), ("Hugging Face cache", hub_cache())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        seen.setdefault(there.stat().st_dev, (what, there))
    return [_of_disk(what, folder) for what, folder in seen.values()]


def _of_disk(what: str, folder: Path) -> Check:
    free = psutil.disk_usage(str(folder)).free
    state = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    return Check(
        name="disk",
        state=state,  # type: ignore[arg-type]
        message=f"{free / 2**30:.1f} GiB are free at {folder} ({what})",
        hint="" if state == "ok" else "xin files shows what weights take, xin rm removes them",
    )


def _of_devices(node: NodeInfo) -> Check:
    gpus = [device for device in node.devices if device.kind != "cpu"]
    if not gpus:
        return Check(name="devices", state="ok", message="no GPU was found: models run on the CPU")
    llama = next((one for one in node.engines if one.name == "llama.cpp" and one.installed), None)
    names = ", ".join(device.name for device in gpus)
    if llama is not None and set(llama.details.get("backends") or ["cpu"]) <= {"cpu", "rpc"}:
        hint = "run xin engines install llama.cpp --build with --cuda, --metal, --rocm or --vulkan"
        return Check(name="devices", state="warn", message=f"{names}: llama.cpp is built for the CPU only", hint=hint)
    return Check(name="devices", state="ok", message=names)


def _of_network(app: web.Application) -> list[Check]:
    if app[CONFIG].private:
        return [Check(name="network", state="ok", message="private: not announced, and no other host can connect")]
    peers, lan_port = app[PEERS], app[IDENTITY].lan_port
    interfaces = _interfaces()
    checks = []
    if peers.mdns == "announced":
        where = ", ".join(f"{address} ({name})" for name, address in _own(interfaces)) or "no address"
        message = f"announced over mDNS as {app[IDENTITY].name} on {where}"
        checks.append(Check(name="announced", state="ok", message=message))
    else:
        checks.append(
            Check(name="announced", state="warn", message=peers.mdns, hint="other hosts do not find this one")
        )
    heard = [peer for peer in peers.cluster() if peer.relation != "local" and peer.status != "gone"]
    firewall = f"a firewall must let UDP 5353 (mDNS) and TCP {lan_port or LAN_PORT} in"
    if heard:
        told = ", ".join(f"{peer.name} over {_over(peer, interfaces)}" for peer in heard[:20])
        checks.append(Check(name="heard", state="ok", message=told))
    else:
        message = "no node of another host"
        checks.append(Check(name="heard", state="ok", message=message, hint=f"if there is one: {firewall}, on both"))
    if app[TRUST].is_open:
        message = f"port {lan_port} is open to members of the cluster, by certificate"
        checks.append(Check(name="port", state="ok", message=message))
    else:
        message = "no port is open to other hosts: this node is in no cluster"
        checks.append(Check(name="port", state="ok", message=message, hint="xin pair puts it in one"))
    return checks


async def _of_members(app: web.Application) -> list[Check]:
    members = [peer for peer in app[PEERS].cluster() if peer.relation == "peer"]
    return list(await asyncio.gather(*(_of_member(app, peer) for peer in members)))


async def _of_member(app: web.Application, peer: Peer) -> Check:
    name = f"member {peer.name}"
    own = (await app[DESCRIPTION].current()).version
    if peer.status == "gone":
        age = f" for {time.time() - peer.seen_at:.0f} s" if peer.seen_at else ""
        hint = "is its node running? xin doctor there tells more; xin cluster revoke turns it out"
        return Check(name=name, state="warn", message=f"gone{age}", hint=hint)
    try:
        asked = time.time()
        async with asyncio.timeout(MEMBER_SECONDS):
            told = msgspec.json.decode(await app[RELAY].ask(peer, "GET", "/health"), type=_Health)
        took = time.time() - asked
    except (XinError, TimeoutError, msgspec.DecodeError) as exc:
        log.info("doctor: %s does not answer: %r", peer.name, exc)
        hint = f"a firewall may have closed TCP {peer.lan_port or LAN_PORT} there"
        return Check(name=name, state="fail", message="does not answer a question", hint=hint)
    ahead = told.time - (asked + took / 2) if told.time else 0.0
    message = f"answers in {took * 1000:.0f} ms, xin {peer.version}"
    if abs(ahead) > CLOCK_WARN_SECONDS:
        state = "fail" if abs(ahead) > CLOCK_FAIL_SECONDS else "warn"
        message += f"; its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
        hint = "let NTP set both clocks: certificates are valid from a time to a time"
        return Check(name=name, state=state, message=message, hint=hint)  # type: ignore[arg-type]
    if peer.version and peer.version.split(".")[:2] != own.split(".")[:2]:
        hint = f"this node is {own}: update the older one"
        return Check(name=name, state="warn", message=message, hint=hint)
    return Check(name=name, state="ok", message=message)


def _interfaces() -> list[tuple[str, ipaddress.IPv4Interface | ipaddress.IPv6Interface]]:
    """(name, address with its network) of those that are not loopback."""
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            try:
                mask = address.netmask or ""
                bits = mask if ":" not in mask else bin(int(ipaddress.IPv6Address(mask))).count("1")
                interface = ipaddress.ip_interface(f"{address.address.partition('%')[0]}/{bits}")
            except ValueError:
                continue  # a hardware address
            if not interface.is_loopback:
                found.append((name, interface))
    return found


def _own(interfaces: Iterable[tuple[str, ipaddress.IPv4Interface | ipaddress.IPv6Interface]]) -> list[tuple[str, str]]:
    return [(name, str(interface.ip)) for name, interface in interfaces if not interface.ip.is_link_local]


def _over(peer: Peer, interfaces: Iterable[tuple[str, ipaddress.IPv4Interface | ipaddress.IPv6Interface]]) -> str:
    """The interface whose network one of its addresses is in."""
    for name, interface in interfaces:
        for address in peer.addresses:
            try:
                if ipaddress.ip_address(address) in interface.network:
                    return f"{name} ({address})"
            except ValueError:
                continue
    return ", ".join(peer.addresses) or "an unknown way"

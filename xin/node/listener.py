"""The node's door: a socket, or a word on who holds the port."""

from __future__ import annotations

import errno
import socket
from typing import Any

import aiohttp
import msgspec

from xin.config import DEFAULT_PORT, NodeConfig
from xin.errors import Conflict, UsageError

BACKLOG = 1024
PROBE_SECONDS = 2.0


def for_own_programs(config: NodeConfig) -> NodeConfig:
    """Where this machine's programs reach the node: where it listens, or on loopback where that is over TLS.

    Raises UsageError for settings that contradict each other.
    """
    if not config.uses_tls:
        return config
    if bool(config.tls_cert) != bool(config.tls_key):
        lacking = "tls_key" if config.tls_cert else "tls_cert"
        raise UsageError(f"{lacking} is missing", "give --tls-cert and --tls-key together", param=lacking)
    if config.host in ("127.0.0.1", "::1") or config.host.endswith("localhost"):
        raise UsageError(
            f"tls is for other hosts, and {config.host} is this one",
            "add --host 0.0.0.0, or leave --tls out",
            param="tls",
        )
    return msgspec.structs.replace(config, host="127.0.0.1")


async def open_listener(config: NodeConfig) -> socket.socket:
    """A bound, listening socket. Raises UsageError for an address that cannot be had, Conflict for a taken port."""
    host = "127.0.0.1" if config.host.endswith("localhost") else config.host
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, config.port))
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError as exc:
        opened.close()
        if exc.errno == errno.EADDRINUSE:
            raise await _taken(host, config.port) from exc
        raise UsageError(f"cannot listen on {config.host}:{config.port}: {exc.strerror}", "try another --port") from exc
    return opened


async def _taken(host: str, port: int) -> Conflict:
    base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        node, _ = await _ask(session, f"{base}/api/node")
        if isinstance(node, dict) and "started_at" in node:
            return Conflict(
                f"port {port} is taken: the node {node.get('name')} (pid {node.get('pid')}) runs there already",
                "use it, end it with `xin node stop`, or choose another --port",
            )
        auth, server = await _ask(session, f"{base}/v1/cluster/auth")
    other = f"xin node --port {port + 1 if port != DEFAULT_PORT else 9998}"
    if isinstance(auth, dict) and "auth" in auth:
        return Conflict(f"port {port} is taken by a Xinference server", f"end it, or: {other}")
    known = f"another server ({server})" if server else "another program"
    return Conflict(f"port {port} is taken by {known}", f"end it, or: {other}")


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[Any, str]:
    """The JSON that answers, None for anything else; and what the server calls itself."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            server = response.headers.get("Server", "")[:60]
            return (await response.json() if response.status == 200 else None), server
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return None, ""

"""Who this node is: an id that stays, a name, an address, and the nonce that proves it to nodes of the same user."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass, field

from xin import paths
from xin.config import NodeConfig
from xin.node.admission import asks_for_keys

log = logging.getLogger("xin.node")
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(slots=True)
class Identity:
    """`endpoint` and `port` are what was bound, not what was asked. `keyed`: requests need an API key."""

    id: str
    name: str
    host: str
    port: int
    keyed: bool = False
    lan_port: int | None = None  # while other nodes can reach this one
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    pid: int = field(default_factory=os.getpid)
    started_at: float = field(default_factory=time.time)

    @property
    def endpoint(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"


def identify(config: NodeConfig) -> Identity:
    """The identity of the node that `config` describes; its port is 0 until it is bound."""
    name = config.name or socket.gethostname()
    host = "127.0.0.1" if config.uses_tls else config.host  # then this machine's programs have a door of their own
    return Identity(_kept_id(config.port), name, host, config.port, keyed=asks_for_keys(config))


def _kept_id(port: int) -> str:
    """An id that survives restarts, one per port; a node on any free port (0) is a new one each time."""
    fresh = secrets.token_hex(8)
    if port == 0:
        return fresh
    try:
        file = paths.private(paths.state_dir()) / f"node-{port}.id"
        kept = file.read_text(encoding="ascii", errors="replace").strip() if file.exists() else ""
        if _ID.fullmatch(kept):
            return kept
        file.write_text(fresh, encoding="ascii")
    except OSError as exc:
        log.warning("this node's id will not survive a restart: %s", exc)
    return fresh

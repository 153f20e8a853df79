"""Who sends a request, and whether they may: this machine, a node of the cluster, or the holder of an API key."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web

from xin.config import NodeConfig
from xin.errors import Forbidden, Unauthorized
from xin.node.guard import is_loopback
from xin.node.key_book import KeyBook

PEER = "peer_id"  # on a request: the node that its client certificate names
QUIET_SECONDS = 60.0
MOST_REMOTES = 1024
OPEN = frozenset({("GET", "/health"), ("GET", "/v1/cluster/auth"), ("GET", "/api/proof")})
INFER = frozenset(
    {
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/audio/transcriptions"),
        ("POST", "/v1/audio/translations"),
        ("POST", "/v1/rerank"),
        ("POST", "/v1/tokenize"),
        ("POST", "/v1/detokenize"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{uid}"),
    }
)
# What members tell one another, and what only this node's own people may do.
FOR_PEERS = "/api/members/"
NOT_FOR_PEERS = ("/api/door", "/api/keys", "/api/pairing", "/api/trust", "/api/stop", "/api/nodes", "/ui", "/download")
log = logging.getLogger("xin.node")


def asks_for_keys(config: NodeConfig) -> bool:
    """A node that others than this machine's programs can reach, or that was given a key."""
    return config.api_key is not None or not is_loopback(config.host)


class Admission:
    """`admit` raises Unauthorized or Forbidden. `is_member`: of a node's id, and who gave its certificate.

    `is_app`: whether a request came by the door for apps, where everybody needs a key.
    """

    def __init__(
        self,
        config: NodeConfig,
        keys: KeyBook,
        is_member: Callable[[str, str], bool],
        is_app: Callable[[web.Request], bool],
    ) -> None:
        self._asks = asks_for_keys(config)
        self._is_app = is_app
        self._keys = keys
        self._is_member = is_member
        self._told: dict[str, float] = {}

    def admit(self, request: web.Request) -> None:
        peer = named(request, "subject")
        try:
            if peer is not None:
                self._admit_peer(request, peer)
            elif _path(request).startswith(FOR_PEERS):
                raise Forbidden(f"{_path(request)} is for paired nodes", "they come over mutual TLS")
            elif self._asks or self._is_app(request):
                self._admit_key(request)
        except (Unauthorized, Forbidden) as exc:
            self._tell(request, exc)
            raise

    def _admit_peer(self, request: web.Request, peer: str) -> None:
        if not self._is_member(peer, named(request, "issuer") or ""):
            raise Forbidden("this node's certificate is no longer good here", "pair it again")
        if _path(request) == "/" or _path(request).startswith(NOT_FOR_PEERS):
            raise Forbidden("another node may not do this", "do it on the node itself")
        request[PEER] = peer

    def _admit_key(self, request: web.Request) -> None:
        wanted = (request.method, _path(request))
        if wanted in OPEN:
            return
        given = request.headers.get(hdrs.AUTHORIZATION, "")
        kind, _, key = given.partition(" ")
        if not given:
            raise Unauthorized("an API key is needed", "send Authorization: Bearer KEY; xin keys add NAME makes one")
        scopes = self._keys.scopes_of(key.strip()) if kind.lower() == "bearer" else []
        if not scopes:
            raise Unauthorized("the API key is not valid", "xin keys list shows which there are")
        if "manage" not in scopes and wanted not in INFER:
            raise Forbidden("this API key may only ask models", "a key with the scope manage may do this")

    def _tell(self, request: web.Request, exc: Unauthorized | Forbidden) -> None:
        """A line of log for each address, once a minute."""
        now, remote = time.monotonic(), request.remote or "?"
        if now - self._told.get(remote, float("-inf")) < QUIET_SECONDS:
            return
        if len(self._told) >= MOST_REMOTES:
            self._told.clear()
        self._told[remote] = now
        log.warning("refused %s %s from %s: %s", request.method, _path(request), remote, exc.message)


def named(request: web.Request, whom: str) -> str | None:
    """The `subject` or `issuer` of the client certificate, which the handshake has verified; None without one."""
    transport = request.transport
    certificate: dict[str, Any] | None = transport.get_extra_info("peercert") if transport is not None else None
    for part in (certificate or {}).get(whom, ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None


def _path(request: web.Request) -> str:
    """The pattern of the route, so that no spelling of a path says another thing here than to the router."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "no such route"

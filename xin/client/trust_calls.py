"""Calls about keys, pairing and the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from xin.client.exchange import Call, Request, exchange, reader
from xin.protocol.trust import Joined, KeyInfo, Members, NewKey, Pairing, Rotated

MEETING_SECONDS = 60.0
_encode = msgspec.json.Encoder().encode


def keys() -> Call[list[KeyInfo]]:
    """The node's API keys, without the keys."""
    return exchange(Request("GET", "/api/keys"), reader(list[KeyInfo]))


def add_key(name: str, scopes: Sequence[str] = ("infer",)) -> Call[NewKey]:
    """Make an API key; this answer alone holds it."""
    return exchange(Request("POST", "/api/keys", body=_encode({"name": name, "scopes": scopes})), reader(NewKey))


def revoke_key(id_or_name: str) -> Call[KeyInfo]:
    return exchange(Request("DELETE", f"/api/keys/{quote(id_or_name, safe='')}"), reader(KeyInfo))


def members() -> Call[Members]:
    """The cluster that the node is in, the node first."""
    return exchange(Request("GET", "/api/members"), reader(Members))


def open_pairing(*, token: bool = False, minutes: float = 60.0) -> Call[Pairing]:
    """Let another node in: six digits for two minutes, or a token for scripts."""
    body = _encode({"token": token, "minutes": minutes})
    return exchange(Request("POST", "/api/pairing", body=body), reader(Pairing))


def close_pairing() -> Call[None]:
    return exchange(Request("DELETE", "/api/pairing"), _nothing)


def join_cluster(secret: str, address: str = "") -> Call[Joined]:
    """By a token, or by digits at the address of the node that shows them."""
    body = _encode({"secret": secret, "address": address})
    return exchange(Request("POST", "/api/pairing/join", body=body, timeout=MEETING_SECONDS), reader(Joined))


def rotate_cluster() -> Call[Rotated]:
    """New certificates for every member that answers."""
    return exchange(Request("POST", "/api/trust/rotate", timeout=MEETING_SECONDS), reader(Rotated))


def revoke_member(node: str) -> Call[Rotated]:
    """Turn a member out, by its id or name."""
    body = _encode({"node": node})
    return exchange(Request("POST", "/api/trust/revoke", body=body, timeout=MEETING_SECONDS), reader(Rotated))


def leave_cluster() -> Call[None]:
    return exchange(Request("POST", "/api/trust/leave", timeout=MEETING_SECONDS), _nothing)


def _nothing(body: bytes) -> None:
    """The body says no more than the status."""

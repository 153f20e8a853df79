"""Calls about keys, pairing and the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from xin.client.exchange import Call, Request, exchange, reader
from xin.client.request import encode, get, nothing, post, segment
from xin.protocol.trust import DoorInfo, Joined, KeyInfo, Members, NewKey, Pairing, Rotated, ServerCertificate

MEETING_SECONDS = 60.0


def keys() -> Call[list[KeyInfo]]:
    """The node's API keys, without the keys."""
    return get("/api/keys", list[KeyInfo])


def add_key(name: str, scopes: Sequence[str] = ("infer",)) -> Call[NewKey]:
    """Make an API key; this answer alone holds it."""
    return exchange(Request("POST", "/api/keys", body=encode({"name": name, "scopes": scopes})), reader(NewKey))


def revoke_key(id_or_name: str) -> Call[KeyInfo]:
    return exchange(Request("DELETE", f"/api/keys/{segment(id_or_name, 'key')}"), reader(KeyInfo))


def door() -> Call[DoorInfo]:
    """Whether apps on other hosts reach the node by `open_door`, and where."""
    return get("/api/door", DoorInfo)


def open_door(host: str = "0.0.0.0", *, tls: bool = False, allowed_hosts: Sequence[str] = ()) -> Call[DoorInfo]:
    """Let apps on other hosts in, with an API key, until `close_door` or the node's end."""
    return post("/api/door", {"host": host, "tls": tls, "allowed_hosts": list(allowed_hosts)}, DoorInfo)


def close_door() -> Call[DoorInfo]:
    """Nobody else comes in; answers that run are finished."""
    return exchange(Request("DELETE", "/api/door"), reader(DoorInfo))


def certificate() -> Call[ServerCertificate]:
    """What apps on other hosts know the node by. Raises NotFound where it has no door for them over TLS."""
    return get("/api/certificate", ServerCertificate)


def members() -> Call[Members]:
    """The cluster that the node is in, the node first."""
    return get("/api/members", Members)


def open_pairing(*, token: bool = False, minutes: float = 60.0) -> Call[Pairing]:
    """Let another node in: six digits for two minutes, or a token for scripts."""
    body = encode({"token": token, "minutes": minutes})
    return exchange(Request("POST", "/api/pairing", body=body), reader(Pairing))


def close_pairing() -> Call[None]:
    return exchange(Request("DELETE", "/api/pairing"), nothing)


def join_cluster(secret: str, address: str = "") -> Call[Joined]:
    """By a token, or by digits at the address of the node that shows them."""
    body = encode({"secret": secret, "address": address})
    return exchange(Request("POST", "/api/pairing/join", body=body, timeout=MEETING_SECONDS), reader(Joined))


def rotate_cluster() -> Call[Rotated]:
    """New certificates for every member that answers."""
    return exchange(Request("POST", "/api/trust/rotate", timeout=MEETING_SECONDS), reader(Rotated))


def revoke_member(node: str) -> Call[Rotated]:
    """Turn a member out, by its id or name."""
    body = encode({"node": node})
    return exchange(Request("POST", "/api/trust/revoke", body=body, timeout=MEETING_SECONDS), reader(Rotated))


def leave_cluster() -> Call[None]:
    return exchange(Request("POST", "/api/trust/leave", timeout=MEETING_SECONDS), nothing)

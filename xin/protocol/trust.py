"""What keys, pairing and clusters look like on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Scope = Literal["infer", "manage"]
NodeId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(max_length=256)]
Pem = Annotated[str, Meta(max_length=16_384)]
MOST_MEMBERS = 1024


class KeyInfo(msgspec.Struct, kw_only=True):
    """An API key without the key. `infer`: ask models; `manage`: all else too."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: float


class NewKey(msgspec.Struct, kw_only=True):
    """POST /api/keys: the only time that the key itself is told."""

    info: KeyInfo
    key: str


class AddKey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    scopes: Annotated[list[Scope], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["infer"])


class Member(msgspec.Struct, kw_only=True):
    """A node of the cluster, and where it was last known to listen."""

    id: NodeId
    name: Text
    addresses: Annotated[list[Text], Meta(max_length=16)] = []
    port: Port


class Members(msgspec.Struct, kw_only=True):
    """GET /api/members, and the answer to a greeting. `cluster_id` is None where this node is on its own."""

    cluster_id: str | None
    members: Annotated[list[Member], Meta(max_length=MOST_MEMBERS)] = []


class Passport(msgspec.Struct, kw_only=True):
    """What makes a node one of a cluster: its authority, which every member holds, so that each can let others in."""

    certificate: Pem
    key: Pem
    members: Annotated[list[Member], Meta(max_length=MOST_MEMBERS)] = []


class OpenPairing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/pairing. A token is for scripts: long, and good for as many nodes as come in time."""

    token: bool = False
    minutes: Annotated[float, Meta(gt=0, le=10_080)] = 60.0


class Card(msgspec.Struct, kw_only=True):
    """What two nodes show one another once they share a secret; `others`: how many its cluster has besides it."""

    id: NodeId
    name: Text
    cluster_id: Annotated[str, Meta(max_length=64)] | None = None
    others: int = 0


class Pairing(msgspec.Struct, kw_only=True):
    """An open door: `secret` is six digits, or the whole token."""

    secret: str
    addresses: list[str]
    port: int
    seconds: float


class JoinCluster(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/pairing/join: a token; or digits, and the address (host, host:port or a found node's name)."""

    secret: Annotated[str, Meta(min_length=6, max_length=4096)]
    address: Annotated[str, Meta(max_length=256)] = ""


class Joined(msgspec.Struct, kw_only=True):
    """`direction`: "joined" when this node entered the other's cluster, "admitted" the other way round."""

    cluster_id: str
    node_id: str
    node_name: str
    direction: Literal["joined", "admitted"]


class RevokeMember(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    node: Annotated[str, Meta(min_length=1, max_length=256)]


class OpenDoor(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/door: where apps on other hosts reach the node. 0.0.0.0 or ::  every address but loopback."""

    host: Annotated[str, Meta(min_length=1, max_length=256)] = "0.0.0.0"
    tls: bool = False
    allowed_hosts: Annotated[list[Text], Meta(max_length=64)] = []


class DoorInfo(msgspec.Struct, kw_only=True):
    """GET /api/door. `first_key`: an API key, told once, where there was none."""

    is_open: bool
    port: int
    host: str = ""
    addresses: list[str] = []
    tls: bool = False
    allowed_hosts: list[str] = []
    first_key: str | None = None


class ServerCertificate(msgspec.Struct, kw_only=True):
    """GET /api/certificate: by what an app on another host knows the node.

    authority     PEM of who made the certificate, for the app to trust; "" where it was given to the node
    fingerprint   SHA-256 of the certificate, in hexadecimal
    hosts         names and addresses that it is for
    """

    authority: str
    fingerprint: str
    hosts: list[str]
    ends_at: float


class Rotated(msgspec.Struct, kw_only=True):
    """Who has the new authority, and who could not be told and must join again."""

    cluster_id: str
    told: list[str]
    missed: list[str]


def tls_name(node_id: str) -> str:
    """What a node's certificate is for, since addresses change."""
    return f"{node_id}.xin.internal"


def issuer_name(cluster_id: str) -> str:
    """Who gave a certificate, as the certificate says."""
    return f"xin cluster {cluster_id}"

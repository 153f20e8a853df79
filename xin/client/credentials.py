"""Which API key goes to an endpoint: XIN_API_KEY, else the one that this user's own node gives its user."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import msgspec

from xin import paths

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _RuntimeFile(msgspec.Struct):
    nonce: str
    keyed: bool = False


def key_for(endpoint: str) -> str | None:
    """None where none is needed, or none is known. A node on this machine is asked for by its 0600 file."""
    if given := os.environ.get("XIN_API_KEY"):
        return given
    url = urlsplit(endpoint)
    if url.hostname not in LOOPBACK:
        return None
    try:
        content = (paths.runtime_dir() / f"node-{url.port or 80}.json").read_bytes()
        found = msgspec.json.decode(content, type=_RuntimeFile)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    if not found.keyed:
        return None
    from xin.protocol.local_key import local_key

    return local_key(found.nonce)

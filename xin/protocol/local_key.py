"""The key by which this user's own programs are let in: known to whoever can read the node's 0600 file."""

from __future__ import annotations

import hmac


def local_key(nonce: str) -> str:
    """Not the nonce itself, which never goes over a wire; GET /api/proof answers no such challenge."""
    return hmac.new(nonce.encode(), b"xin: programs of this user", "sha256").hexdigest()

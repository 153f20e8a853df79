"""This node's own file in the folder of this user's nodes; `xin.local_nodes` reads them all."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import msgspec

from xin.local_nodes import LocalNode, check_private, folder, prove, read_all, stamp
from xin.node.identity import Identity

__all__ = ["CHALLENGE", "entry_of", "folder", "prove", "read_all", "remove", "stamp", "write"]
CHALLENGE = re.compile(r"[0-9a-f]{16,64}")


def write(identity: Identity) -> Path:
    """Enter a node that is bound. OSError when the folder cannot be made or somebody else could write to it."""
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(place)
    content = entry_of(identity)
    file = place / f"{identity.pid}-{identity.port}.json"
    draft = file.with_suffix(".draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(msgspec.json.encode(content))
    draft.replace(file)
    return file


def entry_of(identity: Identity) -> LocalNode:
    return LocalNode(
        identity.id,
        identity.pid,
        identity.port,
        identity.endpoint,
        identity.nonce,
        identity.started_at,
        identity.keyed,
    )


def remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)

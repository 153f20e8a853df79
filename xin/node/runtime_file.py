"""The 0600 file by which other processes of this user find a running node, and know that it is the real one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from xin import paths
from xin.local_nodes import LocalNode
from xin.node.identity import Identity
from xin.node.local_registry import entry_of

log = logging.getLogger("xin.node")


def path_of(port: int) -> Path:
    return paths.runtime_dir() / f"node-{port}.json"


def write(identity: Identity) -> None:
    """Write the file of this node, whole or not at all; a full disk costs only the file."""
    try:
        _write(identity)
    except OSError as exc:
        log.warning("cannot write %s: %s", path_of(identity.port), exc.strerror)


def read(file: Path) -> LocalNode | None:
    """None when the file is gone or not one of ours."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=LocalNode)
    except (OSError, msgspec.DecodeError):
        return None


def remove(identity: Identity) -> None:
    """Remove this node's file, but not that of another node that took the port since."""
    file = path_of(identity.port)
    found = read(file)
    if found is not None and found.nonce == identity.nonce:
        file.unlink(missing_ok=True)


def _write(identity: Identity) -> None:
    paths.private(paths.runtime_dir())
    content = entry_of(identity)
    file = path_of(identity.port)
    draft = file.with_suffix(f".{identity.pid}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(msgspec.json.encode(content))
    draft.replace(file)

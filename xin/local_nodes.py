"""The nodes of this user on this host, from the folder where each has a 0600 file, whatever its port or XIN_HOME.

It is the root of their trust: only this user can read a file's nonce, and the node on that port proves it.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
import sys
from pathlib import Path

import msgspec
import platformdirs
import psutil

MAX_FILES = 256
MAX_BYTES = 4096
_STARTED_SLACK_SECONDS = 5.0


class LocalNode(msgspec.Struct):
    """What stands in a node's file."""

    id: str
    pid: int
    port: int
    endpoint: str
    nonce: str
    started_at: float
    keyed: bool = False  # its requests need a key: see xin.protocol.local_key


def folder() -> Path:
    """The same for every process of this user, so independent of the environment; XIN_REGISTRY sets another (tests)."""
    if override := os.environ.get("XIN_REGISTRY"):
        return Path(override)
    if sys.platform == "darwin":
        return Path(platformdirs.user_cache_dir("xin-nodes"))
    runtime = Path(f"/run/user/{os.getuid()}")
    return runtime / "xin-nodes" if runtime.is_dir() else Path(f"/tmp/xin-{os.getuid()}")


def prove(nonce: str, challenge: str) -> str:
    """What the holder of `nonce` answers to `challenge` (HMAC, RFC 2104)."""
    return hmac.new(nonce.encode(), challenge.encode(), "sha256").hexdigest()


def proves(nonce: str, challenge: str, answer: dict[str, str]) -> bool:
    """Whether `answer`, the reply to GET /api/proof, is of one who holds `nonce`."""
    return hmac.compare_digest(answer.get("proof", ""), prove(nonce, challenge))


def read_all() -> list[LocalNode]:
    """The nodes whose process lives. Removes files of dead ones, ignores those that others could have written."""
    place = folder()
    try:
        check_private(place)
        files = sorted(place.glob("*.json"))[:MAX_FILES]
    except OSError:
        return []
    found = []
    for file in files:
        entry = _read(file)
        if entry is not None and _lives(entry):
            found.append(entry)
        elif entry is not None:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    return found


def stamp() -> int:
    """A number that changes when a node comes or goes."""
    try:
        return folder().stat().st_mtime_ns
    except OSError:
        return 0


def check_private(place: Path) -> None:
    facts = place.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise PermissionError(f"{place} is not a folder of this user alone (mode 0700)")


def _read(file: Path) -> LocalNode | None:
    """None for whatever is not a small regular 0600 file of this user that holds a node."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as opened:
        facts = os.fstat(opened.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            return None
        try:
            return msgspec.json.decode(opened.read(MAX_BYTES), type=LocalNode)
        except (OSError, msgspec.DecodeError):
            return None


def _lives(entry: LocalNode) -> bool:
    """A pid that was given to a younger process is not the node's."""
    try:
        return psutil.Process(entry.pid).create_time() <= entry.started_at + _STARTED_SLACK_SECONDS
    except (psutil.Error, ValueError):
        return False

"""The folder in which all nodes of one user on one host stand, whatever their port or XIN_HOME: one 0600 file each.

It is the root of their trust: only this user can read a file's nonce, and the node on that port proves it.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import stat
import sys
from pathlib import Path

import msgspec
import platformdirs
import psutil

from xin.node.identity import Identity
from xin.node.runtime_file import RuntimeFile

CHALLENGE = re.compile(r"[0-9a-f]{16,64}")
MAX_FILES = 256
MAX_BYTES = 4096
_STARTED_SLACK_SECONDS = 5.0


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


def write(identity: Identity) -> Path:
    """Enter a node that is bound. OSError when the folder cannot be made or somebody else could write to it."""
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(place)
    content = RuntimeFile(
        identity.id, identity.pid, identity.port, identity.endpoint, identity.nonce, identity.started_at
    )
    file = place / f"{identity.pid}-{identity.port}.json"
    draft = file.with_suffix(".draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(msgspec.json.encode(content))
    draft.replace(file)
    return file


def remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def read_all() -> list[RuntimeFile]:
    """The nodes whose process lives. Removes files of dead ones, ignores those that others could have written."""
    place = folder()
    try:
        _check_private(place)
        files = sorted(place.glob("*.json"))[:MAX_FILES]
    except OSError:
        return []
    found = []
    for file in files:
        entry = _read(file)
        if entry is not None and _lives(entry):
            found.append(entry)
        elif entry is not None:
            remove(file)
    return found


def stamp() -> int:
    """A number that changes when a node comes or goes."""
    try:
        return folder().stat().st_mtime_ns
    except OSError:
        return 0


def _read(file: Path) -> RuntimeFile | None:
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
            return msgspec.json.decode(opened.read(MAX_BYTES), type=RuntimeFile)
        except (OSError, msgspec.DecodeError):
            return None


def _lives(entry: RuntimeFile) -> bool:
    """A pid that was given to a younger process is not the node's."""
    try:
        return psutil.Process(entry.pid).create_time() <= entry.started_at + _STARTED_SLACK_SECONDS
    except (psutil.Error, ValueError):
        return False


def _check_private(place: Path) -> None:
    facts = place.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise PermissionError(f"{place} is not a folder of this user alone (mode 0700)")

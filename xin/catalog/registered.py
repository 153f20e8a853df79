"""Families that the user has registered: one file each in the data directory, read again when the folder changes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec

from xin import paths
from xin.catalog.spec import Family, built_in_families
from xin.errors import BadRequest, Conflict, ModelNotFound
from xin.protocol.node import UID_HINT, UID_PATTERN

NAME = re.compile(UID_PATTERN)
MAX_BYTES = 1 << 20
_SUFFIX = ".json"
_for_now: dict[str, Family] = {}  # gone with the process
_kept: tuple[Path, int, dict[str, Family]] | None = None


def registered_families() -> dict[str, Family]:
    """By name. A file that cannot be read is skipped: it must not take the others along. Reads the disk."""
    return {**_on_disk(), **_for_now}


def register(family: Family, *, persist: bool = True) -> None:
    """Add it, or put it in the place of one registered before. Conflict when the name is a built-in's. Blocking."""
    if not NAME.fullmatch(family.name):
        raise BadRequest(f"{family.name[:140]!r} is not a name for a model", UID_HINT, param="model_name")
    if family.name.lower() in {name.lower() for name in built_in_families()}:
        raise Conflict(f"{family.name} is a built-in model", "register it under another name", param="model_name")
    if not family.variants:
        raise BadRequest(f"{family.name} has no variants: there is nothing to launch", param="variants")
    if not persist:
        _for_now[family.name] = family
        return
    try:
        paths.write_whole(_file(family.name), msgspec.json.encode(family))
    except OSError as exc:
        raise BadRequest(f"{_file(family.name)} cannot be written: {exc.strerror}", "check the folder") from exc
    _for_now.pop(family.name, None)
    _forget()


def unregister(name: str) -> None:
    """ModelNotFound when it is not registered, Conflict when it is built in. Blocking."""
    if name in built_in_families():
        raise Conflict(f"{name} is a built-in model", "only registered ones can be unregistered", param="model_name")
    if name not in registered_families():
        raise ModelNotFound(f"no model {name!r} is registered", "xin registrations lists them", param="model_name")
    _for_now.pop(name, None)
    with contextlib.suppress(FileNotFoundError):
        _file(name).unlink()
    _forget()


def folder() -> Path:
    return paths.data_dir() / "registered"


def _file(name: str) -> Path:
    return folder() / f"{name}{_SUFFIX}"


def _on_disk() -> dict[str, Family]:
    global _kept
    place = folder()
    try:
        changed = place.stat().st_mtime_ns
    except OSError:
        return {}
    if _kept is None or _kept[:2] != (place, changed):
        found = (_read(file) for file in sorted(place.glob(f"*{_SUFFIX}")))
        _kept = (place, changed, {family.name: family for family in found if family is not None})
    return _kept[2]


def _read(file: Path) -> Family | None:
    try:
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            return None
        family = msgspec.json.decode(file.read_bytes(), type=Family)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return family if family.name == file.name.removesuffix(_SUFFIX) and family.name not in built_in_families() else None


def _forget() -> None:
    global _kept
    _kept = None

"""API keys: kept as hashes, told once. A key is 256 random bits, so one round of SHA-256 is enough."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from pathlib import Path

import msgspec

from xin import paths
from xin.errors import Conflict, InternalError, NotFound
from xin.protocol.trust import KeyInfo, NewKey, Scope

ALL_SCOPES: list[Scope] = ["infer", "manage"]
MOST_KEYS = 1000
_KEY = re.compile(r"[!-~]{1,512}")
log = logging.getLogger("xin.node")


class _Kept(msgspec.Struct, kw_only=True):
    info: KeyInfo
    digest: str


class KeyBook:
    """The keys in `file`, and those given at the start, which are in no file. Constructing reads the file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept = _read(file)
        self._given: dict[str, list[Scope]] = {}
        self._writing = asyncio.Lock()

    def give(self, key: str, scopes: list[Scope]) -> None:
        """Accept `key` for as long as this process lives."""
        self._given[_digest(key)] = scopes

    def keys(self) -> list[KeyInfo]:
        return [kept.info for kept in self._kept]

    def scopes_of(self, key: str) -> list[Scope]:
        """Those of `key`; none for one that is not known. Compares hashes, all of them, in constant time each."""
        if not _KEY.fullmatch(key):
            return []
        digest, found = _digest(key), list[Scope]()
        for known, scopes in [*self._given.items(), *((kept.digest, kept.info.scopes) for kept in self._kept)]:
            if hmac.compare_digest(known, digest):
                found = scopes
        return found

    async def add(self, name: str, scopes: list[Scope]) -> NewKey:
        """Make a key. Raises Conflict when the name is taken."""
        async with self._writing:
            if any(kept.info.name == name for kept in self._kept):
                raise Conflict(f"there is a key named {name}", "choose another name, or revoke that one", param="name")
            if len(self._kept) >= MOST_KEYS:
                raise Conflict(f"there are {MOST_KEYS} keys", "revoke some: xin keys revoke NAME")
            key = f"xin-{secrets.token_urlsafe(32)}"
            info = KeyInfo(
                id=secrets.token_hex(4), name=name, scopes=list(dict.fromkeys(scopes)), created_at=time.time()
            )
            await self._write([*self._kept, _Kept(info=info, digest=_digest(key))])
        return NewKey(info=info, key=key)

    async def revoke(self, id_or_name: str) -> KeyInfo:
        """Refuse a key from now on. Raises NotFound."""
        async with self._writing:
            for kept in self._kept:
                if id_or_name in (kept.info.id, kept.info.name):
                    await self._write([other for other in self._kept if other is not kept])
                    return kept.info
        raise NotFound(f"no key {id_or_name}", "xin keys lists them", param="id")

    async def _write(self, kept: list[_Kept]) -> None:
        """On the disk first: what could not be written has not changed."""
        try:
            await asyncio.to_thread(paths.write_whole, self._file, msgspec.json.encode(kept))
        except OSError as exc:
            raise InternalError(f"cannot write {self._file}: {exc.strerror}", "nothing has changed") from exc
        self._kept = kept


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _read(file: Path) -> list[_Kept]:
    """A file that cannot be read means no keys: nobody gets in by it."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[_Kept])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as exc:
        log.error("no API key is known, since %s cannot be read: %s", file, exc)
        return []

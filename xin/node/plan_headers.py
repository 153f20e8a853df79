"""Headers of GGUFs that are not here, by ranges over HTTP: a plan needs the first megabytes of a file, not the file."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from xin.backends.llama_cpp.dry_run_words import Question
from xin.catalog.spec import Fetch
from xin.errors import Unreachable, XinError
from xin.node import gguf_file
from xin.node.dry_runs import dry_run
from xin.node.plan_checkpoint import Checkpoint, of_repo
from xin.node.quantization_choice import chosen_files, fits

FIRST_BYTES = 4 << 20
MOST_BYTES = 64 << 20  # no header is longer
WAIT_SECONDS = 10.0
REST_SECONDS = 60.0  # without a question after the hub could not be reached
MOST_PARTS = 16
T = TypeVar("T")


class RepoFile(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...


class RepoListing(Protocol):
    @property
    def commit(self) -> str: ...
    @property
    def files(self) -> Sequence[RepoFile]: ...


class Ranges(Protocol):
    """What a hub can do for a plan. Both raise XinError."""

    async def files(self, repo: str, revision: str) -> RepoListing: ...

    async def read_range(self, repo: str, commit: str, path: str, start: int, length: int) -> bytes: ...


class RemoteHeaders:
    """Files of full size with nothing but the beginning in them, kept in `folder`."""

    def __init__(self, hub: Ranges, folder: Path) -> None:
        self._hub = hub
        self._folder = folder
        self._turns: dict[str, asyncio.Lock] = {}
        self._checkpoints: dict[tuple[str, str], Checkpoint | None] = {}
        self._rests_until = 0.0

    async def sparse(self, fetch: Fetch) -> str | None:
        """The path of a file that a dry run takes for the one to fetch; None when the hub does not give it in time."""
        return await self._in_time(self._sparse(fetch))

    async def checkpoint(self, fetch: Fetch) -> Checkpoint | None:
        """What the headers of the repository's safetensors tell; None when the hub does not give them in time."""
        return await self._in_time(self._checkpoint(fetch))

    async def ggufs(self, fetch: Fetch) -> list[tuple[str, int]]:
        """(path of the first part, bytes of all parts) of each GGUF model that the repository holds."""
        return await self._in_time(self._ggufs(fetch)) or []

    async def _in_time(self, asking: Coroutine[Any, Any, T]) -> T | None:
        if time.monotonic() < self._rests_until:
            asking.close()
            return None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asking
        except (Unreachable, TimeoutError):
            self._rests_until = time.monotonic() + REST_SECONDS
        except (XinError, OSError):
            pass
        return None

    async def _checkpoint(self, fetch: Fetch) -> Checkpoint | None:
        listing = await self._hub.files(fetch.repo, fetch.revision)
        key = (fetch.repo, listing.commit)
        if key not in self._checkpoints:
            paths = [file.path for file in listing.files]
            self._checkpoints[key] = await of_repo(self._hub, fetch.repo, listing.commit, paths)
        return self._checkpoints[key]

    async def _ggufs(self, fetch: Fetch) -> list[tuple[str, int]]:
        listing = await self._hub.files(fetch.repo, fetch.revision)
        sizes = {file.path: file.size for file in listing.files if file.path.lower().endswith(".gguf")}
        firsts = [path for path in sizes if gguf_file.is_first_part(Path(path).name)]
        return [
            (first, sum(size for path, size in sizes.items() if gguf_file.stem(path) == gguf_file.stem(first)))
            for first in firsts
        ]

    async def _sparse(self, fetch: Fetch) -> str | None:
        listing = await self._hub.files(fetch.repo, fetch.revision)
        wanted = _wanted([file.path for file in listing.files], fetch.files)
        if not wanted or len(wanted) > MOST_PARTS:
            return None
        sizes = {file.path: file.size for file in listing.files}
        key = hashlib.sha256(f"{fetch.repo}@{listing.commit}/{wanted[0]}".encode()).hexdigest()[:24]
        async with self._turns.setdefault(key, asyncio.Lock()):
            first = self._folder / key / Path(wanted[0]).name
            if not await asyncio.to_thread(first.is_file):
                await self._make(fetch.repo, listing.commit, {path: sizes[path] for path in wanted}, self._folder / key)
            return str(first) if await asyncio.to_thread(first.is_file) else None

    async def _make(self, repo: str, commit: str, sizes: dict[str, int], folder: Path) -> None:
        """More and more of the files until llama.cpp takes them; `folder` appears when it does."""
        part = folder.with_name(f"{folder.name}.part")
        first = part / Path(next(iter(sizes))).name
        length = FIRST_BYTES
        while length <= MOST_BYTES:
            for path, size in sizes.items():
                share = length if path == next(iter(sizes)) else length // 4
                head = await self._hub.read_range(repo, commit, path, 0, min(share, size))
                await asyncio.to_thread(_write, part / Path(path).name, head, size)
            [answer] = await dry_run([Question(path=str(first), options=[])])
            if answer.error is None:
                await asyncio.to_thread(part.replace, folder)
                return
            if length >= max(sizes.values()):  # llama.cpp has seen all of it
                break
            length *= 4
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)


def _wanted(paths: list[str], globs: Sequence[str]) -> list[str]:
    """The first GGUF that one of the globs names, with all its parts."""
    ggufs = [path for path in paths if path.lower().endswith(".gguf")]
    if not globs:
        chosen = chosen_files(ggufs)
        return [path for path in chosen if path.lower().endswith(".gguf")]
    named = [path for path in ggufs if any(fits(path, glob) for glob in globs)]
    firsts = [path for path in named if gguf_file.is_first_part(Path(path).name)]
    if not firsts:
        return []
    return [path for path in ggufs if gguf_file.stem(path) == gguf_file.stem(firsts[0])]


def _write(path: Path, head: bytes, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)

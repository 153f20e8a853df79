"""Files of a hub into the Hugging Face cache's own layout: resumed where they were cut off, and verified."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeVar

import aiohttp

from xin.errors import DiskFull, InternalError, Unreachable, XinError
from xin.node import hub
from xin.node.hub import RepoFile
from xin.node.weights_huggingface import COMMIT, REVISION, hub_cache, repo_folder

PART = ".xin-part"
PIECE_BYTES = 1 << 20
SPARE_BYTES = 64 << 20  # that stay free on the disk
TRIES = 6  # in a row without a new byte
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0  # that a hub may ask for
LOCK_SECONDS = 0.5
STALL_SECONDS = 60.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Snapshot:
    """Where one commit of a repository lies in the cache. Its methods read and write the disk."""

    repo: str
    commit: str

    @property
    def folder(self) -> Path:
        return repo_folder(self.repo)

    def blob(self, file: RepoFile) -> Path:
        return self.folder / "blobs" / file.etag

    def part(self, file: RepoFile) -> Path:
        return self.folder / "blobs" / f"{file.etag}{PART}"

    def path(self, file: RepoFile) -> Path:
        return self.folder / "snapshots" / self.commit / file.path

    def held(self, file: RepoFile) -> int:
        """Bytes that are here already."""
        for path in (self.path(file), self.blob(file), self.part(file)):
            if path.is_file():
                return min(path.stat().st_size, file.size)
        return 0

    def is_whole(self, file: RepoFile) -> bool:
        return any(path.is_file() and path.stat().st_size == file.size for path in (self.path(file), self.blob(file)))

    def link(self, file: RepoFile) -> Path:
        """The file's name in the snapshot, as huggingface_hub makes it."""
        path = self.path(file)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(os.path.relpath(self.blob(file), path.parent))
        return path

    def name(self, revision: str) -> None:
        """Let `revision` lead to this commit."""
        if REVISION.fullmatch(revision) and not COMMIT.fullmatch(revision):
            ref = self.folder / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(self.commit)

    def check_space(self, files: list[RepoFile]) -> None:
        """Raises DiskFull."""
        needed = sum(file.size - self.held(file) for file in files)
        (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed and needed + SPARE_BYTES > free:
            short = (needed + SPARE_BYTES - free) / 2**20
            message = f"{self.repo} takes {needed / 2**20:.0f} MiB, and {hub_cache()} is short of {short:.0f} MiB"
            raise DiskFull(message, "free some: xin files shows what takes how much; or set HF_HOME")

    def remove_part(self, file: RepoFile) -> None:
        self.part(file).unlink(missing_ok=True)

    def remove_unused_part(self, etag: str) -> None:
        """Of a file that no process fetches now."""
        path = self.folder / "blobs" / f"{etag}{PART}"
        if path.is_file() and (part := _open_locked(path)) is not None:
            with part:
                path.unlink(missing_ok=True)


class Source(Protocol):
    """Somebody who gives a file by ranges. `id` and `name` are "" for the hub."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    def get(self, file: RepoFile, headers: Mapping[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Raises XinError where there is no way to it."""

    def refusal(self, status: int, file: RepoFile) -> XinError | None:
        """What a reply means that no other source would better."""


Holders = Callable[[RepoFile], Awaitable[Sequence[Source]]]


@dataclass(slots=True, frozen=True)
class FromHub:
    session: aiohttp.ClientSession
    snapshot: Snapshot
    id: str = ""
    name: str = ""

    def get(self, file: RepoFile, headers: Mapping[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        hub.check_online(self.snapshot.repo)
        return self.session.get(hub.url_of(self.snapshot.repo, self.snapshot.commit, file.path), headers=headers)

    def refusal(self, status: int, file: RepoFile) -> XinError | None:
        return hub.refusal(status, f"{self.snapshot.repo}: {file.path}")


async def _nobody(file: RepoFile) -> Sequence[Source]:
    return ()


class FileDownload:
    """One file. `told(bytes)` hears how much is here, `note(text)` what a log should tell, `named(name)` who gives it.

    `holders`: who is asked before the hub. One that is lost leaves the rest to the next, at the same byte; the hub, the
    last, is asked again for a while. Whoever gave a part of what has a wrong hash is not asked again.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        file: RepoFile,
        told: Callable[[int], None],
        note: Callable[[str], None],
        *,
        holders: Holders = _nobody,
        named: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._snapshot = snapshot
        self._file = file
        self._told = told
        self._note = note
        self._holders = holders
        self._named = named
        self._at = 0
        self._given_by: dict[str, str] = {}  # names by ids of members who gave some of the bytes that are here
        self._barred: set[str] = set()

    async def run(self, session: aiohttp.ClientSession) -> Path:
        """Its path in the snapshot. Cancelled, it leaves what it has. Raises XinError."""
        if not await asyncio.to_thread(self._snapshot.is_whole, self._file):
            try:
                part = await self._locked()
                if part is not None:
                    with part:
                        await self._fetch(FromHub(session, self._snapshot), part)
            except OSError as exc:
                raise _disk_error(exc, self._file.path) from exc
        self._told(self._file.size)
        return await asyncio.to_thread(self._snapshot.link, self._file)

    async def _locked(self) -> FileIO | None:
        """The part file, this process's alone; None when another process has fetched the file meanwhile."""
        noted = False
        while True:
            part = await _opened(self._snapshot.part(self._file))
            if part is not None:
                if not await _in_thread(self._snapshot.is_whole, self._file):
                    return part
                with part:
                    await _in_thread(self._snapshot.remove_part, self._file)
                return None
            if not noted:
                self._note(f"{self._file.path}: another process downloads it; waiting for it")
                noted = True
            self._told(await asyncio.to_thread(self._snapshot.held, self._file))
            await asyncio.sleep(LOCK_SECONDS)

    async def _fetch(self, last: Source, part: FileIO) -> None:
        """All of it, verified, under its name."""
        await self._fill(last, part)
        while (digest := await _in_thread(self._digest, part)) != self._file.etag:
            if not self._given_by:
                raise await _in_thread(self._wrong, f"has the hash {digest}, the hub told {self._file.etag}")
            names = ", ".join(sorted(self._given_by.values()))
            self._note(f"{self._file.path}: with what {names} gave its hash is {digest}; anew, from others")
            self._barred |= self._given_by.keys()
            await self._begin_anew(part)
            await self._fill(last, part)
        await _in_thread(self._snapshot.part(self._file).replace, self._snapshot.blob(self._file))

    async def _fill(self, last: Source, part: FileIO) -> None:
        self._at = await _in_thread(part.seek, 0, os.SEEK_END)
        if self._at > self._file.size:
            await self._begin_anew(part)
        tries, lost = 0, set[str]()
        giver: str | None = None
        while self._at < self._file.size:
            source, before = await self._next(lost) or last, self._at
            if source.id != giver:
                giver = source.id
                self._begin_with(source.name)
            cause, least = await self._attempt(source, part)
            if self._at >= self._file.size:
                break
            if source.id:
                if self._at <= before:
                    lost.add(source.id)
                self._note(f"{self._file.path}: {source.name}: {cause[:200]}; going on at byte {self._at}")
                continue
            lost.clear()  # it may be back
            tries = 1 if self._at > before else tries + 1
            if tries >= TRIES:
                raise hub.fails(cause) if cause.startswith("HTTP ") else hub.not_reached(TimeoutError(cause))
            seconds = max(wait_seconds(tries), least)
            self._note(f"{self._file.path}: {cause[:200]}; going on at byte {self._at} in {seconds:g} s")
            await asyncio.sleep(seconds)

    async def _next(self, lost: set[str]) -> Source | None:
        found = await self._holders(self._file)
        return next((one for one in found if one.id not in lost | self._barred), None)

    def _begin_with(self, giver: str) -> None:
        self._named(giver)
        if giver:
            self._note(f"{self._file.path}: from {giver}" + (f", at byte {self._at}" if self._at else ""))

    async def _attempt(self, source: Source, part: FileIO) -> tuple[str, float]:
        """(why it ended, seconds that were asked for) of one connection."""
        try:
            await self._read_once(source, part)
        except aiohttp.ClientResponseError as exc:  # its own words hold the address, which may be a signed one
            return f"HTTP {exc.status}", _retry_after(exc)
        except (aiohttp.ClientError, TimeoutError) as exc:
            return str(exc) or type(exc).__name__, 0.0
        except Unreachable as exc:
            return exc.message, 0.0
        return "the connection was closed", 0.0

    async def _read_once(self, source: Source, part: FileIO) -> None:
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        async with source.get(self._file, headers) as reply:
            if error := source.refusal(reply.status, self._file):
                raise error
            reply.raise_for_status()
            found = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
            if self._at and not (found and (int(found[1]), int(found[2])) == (self._at, self._file.size)):
                if source.id:
                    raise aiohttp.ClientPayloadError("it gives another range than was asked for")
                await self._begin_anew(part)
                if reply.status == 206:
                    return
            async for piece in reply.content.iter_chunked(PIECE_BYTES):
                if self._at + len(piece) > self._file.size:
                    if source.id:
                        raise aiohttp.ClientPayloadError("it sends more than the file has")
                    raise await _in_thread(self._wrong, f"is longer than the {self._file.size} bytes that the hub told")
                await _in_thread(_write, part, piece)
                self._at += len(piece)
                if source.id:
                    self._given_by[source.id] = source.name
                self._told(self._at)

    async def _begin_anew(self, part: FileIO) -> None:
        await _in_thread(part.truncate, 0)
        await _in_thread(part.seek, 0)
        self._at = 0
        self._given_by.clear()

    def _digest(self, part: FileIO) -> str:
        """By which the hub names it. Blocking."""
        os.fsync(part.fileno())
        part.seek(0)
        if self._file.sha256:
            return hashlib.file_digest(part, "sha256").hexdigest()
        return hashlib.sha1(b"blob %d\0" % self._file.size + part.read(), usedforsecurity=False).hexdigest()

    def _wrong(self, why: str) -> XinError:
        """What to raise; the part is removed. Blocking."""
        self._snapshot.remove_part(self._file)
        return InternalError(f"{self._file.path} {why}", "what was fetched is removed; retry it")


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """A caller that is cancelled waits for the thread: it must not write when the file is another's."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _opened(path: Path) -> FileIO | None:
    task = asyncio.ensure_future(asyncio.to_thread(_open_locked, path))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if task.exception() is None and (part := task.result()) is not None:
            part.close()
        raise


def _open_locked(path: Path) -> FileIO | None:
    """For one process at a time; None while another has it, or has just given the file its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")
    mine = False
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = os.path.samestat(os.fstat(part.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not mine:
            part.close()
    return part if mine else None


def _write(part: FileIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[part.write(view) :]


def _disk_error(exc: OSError, what: str) -> XinError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"the disk became full while {what} was fetched", "free some, then retry it")
    return InternalError(f"{what}: {exc.strerror or exc}", "check the disk")


def session() -> aiohttp.ClientSession:
    """For all files of a download."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=STALL_SECONDS)
    return hub.make_session(timeout)


def wait_seconds(tries: int) -> float:
    """Before the next one."""
    return float(FIRST_WAIT_SECONDS * 2 ** (tries - 1))


def _retry_after(exc: aiohttp.ClientResponseError) -> float:
    asked = exc.headers.get("Retry-After", "") if exc.headers else ""
    return min(float(asked), LONGEST_WAIT_SECONDS) if asked.isdecimal() else 0.0

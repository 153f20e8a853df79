"""Files of a hub into the Hugging Face cache's own layout: resumed where they were cut off, and verified."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TypeVar

import aiohttp

from xin.errors import DiskFull, InternalError, XinError
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


class FileDownload:
    """One file. `told(bytes)` hears how much is here, `note(text)` what a log should tell."""

    def __init__(
        self, snapshot: Snapshot, file: RepoFile, told: Callable[[int], None], note: Callable[[str], None]
    ) -> None:
        self._snapshot = snapshot
        self._file = file
        self._told = told
        self._note = note
        self._at = 0

    async def run(self, session: aiohttp.ClientSession) -> Path:
        """Its path in the snapshot. Cancelled, it leaves what it has. Raises XinError."""
        if not await asyncio.to_thread(self._snapshot.is_whole, self._file):
            try:
                part = await self._locked()
                if part is not None:
                    with part:
                        await self._fill(session, part)
                        await _in_thread(self._finish, part)
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

    async def _fill(self, session: aiohttp.ClientSession, part: FileIO) -> None:
        self._at = await _in_thread(part.seek, 0, os.SEEK_END)
        if self._at > self._file.size:
            await self._begin_anew(part)
        tries = 0
        while self._at < self._file.size:
            before, least = self._at, 0.0
            try:
                await self._read_once(session, part)
                cause = "the connection was closed"
            except aiohttp.ClientResponseError as exc:  # its own words hold the address, which may be a signed one
                cause, least = f"HTTP {exc.status}", _retry_after(exc)
            except (aiohttp.ClientError, TimeoutError) as exc:
                cause = str(exc) or type(exc).__name__
            if self._at >= self._file.size:
                break
            tries = 1 if self._at > before else tries + 1
            if tries >= TRIES:
                raise hub.fails(cause) if cause.startswith("HTTP ") else hub.not_reached(TimeoutError(cause))
            seconds = max(wait_seconds(tries), least)
            self._note(f"{self._file.path}: {cause[:200]}; going on at byte {self._at} in {seconds:g} s")
            await asyncio.sleep(seconds)

    async def _read_once(self, session: aiohttp.ClientSession, part: FileIO) -> None:
        url = hub.url_of(self._snapshot.repo, self._snapshot.commit, self._file.path)
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        async with session.get(url, headers=headers) as reply:
            if error := hub.refusal(reply.status, f"{self._snapshot.repo}: {self._file.path}"):
                raise error
            reply.raise_for_status()
            found = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
            if self._at and not (found and (int(found[1]), int(found[2])) == (self._at, self._file.size)):
                await self._begin_anew(part)
                if reply.status == 206:
                    return
            async for piece in reply.content.iter_chunked(PIECE_BYTES):
                if self._at + len(piece) > self._file.size:
                    raise self._wrong(f"is longer than the {self._file.size} bytes that the hub told")
                await _in_thread(_write, part, piece)
                self._at += len(piece)
                self._told(self._at)

    async def _begin_anew(self, part: FileIO) -> None:
        await _in_thread(part.truncate, 0)
        await _in_thread(part.seek, 0)
        self._at = 0

    def _finish(self, part: FileIO) -> None:
        """Verify it and give it its name. Blocking."""
        os.fsync(part.fileno())
        part.seek(0)
        if self._file.sha256:
            digest = hashlib.file_digest(part, "sha256").hexdigest()
        else:
            digest = hashlib.sha1(b"blob %d\0" % self._file.size + part.read(), usedforsecurity=False).hexdigest()
        if digest != self._file.etag:
            raise self._wrong(f"has the hash {digest}, the hub told {self._file.etag}")
        self._snapshot.part(self._file).replace(self._snapshot.blob(self._file))

    def _wrong(self, why: str) -> XinError:
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

"""Fetching a model's files as a job, from members of the cluster or the hub; what it has outlives it."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from xin.catalog.spec import Fetch
from xin.errors import Conflict, ModelNotFound
from xin.node import download
from xin.node.download import FileDownload, Snapshot
from xin.node.hub import ETAG, HubFails, RepoFile, RepoListing
from xin.node.job_record import JobRecord
from xin.node.quantization_choice import chosen_files, fits, with_projector
from xin.node.resolve import resolve
from xin.node.weights_supply import Supply
from xin.protocol.node import JobFile

SPEED_SECONDS = 5.0


class DownloadOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of a launch that say which model."""

    model_name: str
    model_size_in_billions: int | float | str | None = None
    model_format: str | None = None
    quantization: str | None = None

    def fetch(self, model_dirs: list[str]) -> Fetch:
        """Reads the disk. Raises ModelNotFound, BadRequest, Conflict when it is here."""
        size, format, quantization = self.model_size_in_billions, self.model_format, self.quantization
        spec = resolve(self.model_name, size, format, quantization, model_dirs=model_dirs)
        if spec.fetch is None:
            raise Conflict(f"{self.model_name} is here already", f"xin launch {shlex.quote(self.model_name)}")
        return spec.fetch


class DownloadJob:
    kind = "download"
    stages = {"list": 0.01, "fetch": 0.99}

    def __init__(self, fetch: Fetch, supply: Supply) -> None:
        self._fetch = fetch
        self._supply = supply
        self.title = ":".join([fetch.repo, *fetch.files[:1]])

    @property
    def command(self) -> str:
        return f"xin pull {shlex.quote(self.title)}"

    @property
    def order(self) -> dict[str, Any]:
        return {"kind": self.kind, **msgspec.to_builtins(self._fetch)}

    async def run(self, record: JobRecord) -> str:
        fetch = self._fetch
        _begin_stages(record)
        record.stage("list", fetch.repo)
        listing = await self._listing(record)
        files = _chosen(fetch, listing.files)
        snapshot = Snapshot(fetch.repo, listing.commit)
        held = await asyncio.to_thread(lambda: [snapshot.held(file) for file in files])
        progress = _Progress(record, files, held)
        await asyncio.to_thread(snapshot.check_space, files)
        record.stage("fetch", fetch.repo)
        async with download.session() as session:
            for index, file in enumerate(files):
                await self._file(snapshot, file, record, progress, index).run(session)
                record.job.files[index].state = "done"
        await asyncio.to_thread(snapshot.name, fetch.revision)
        return f"xin launch {self.title}"

    def _file(
        self, snapshot: Snapshot, file: RepoFile, record: JobRecord, progress: _Progress, index: int
    ) -> FileDownload:
        told, named = progress.of(index), progress.giver_of(index)
        return FileDownload(snapshot, file, told, record.write, holders=self._supply.holders, named=named)

    async def _listing(self, record: JobRecord) -> RepoListing:
        listing = await self._asked(record)
        if listing.told_by:
            record.write(f"the hub cannot be asked; what {self._fetch.repo} holds, and its hashes: {listing.told_by}")
        return listing

    async def _asked(self, record: JobRecord) -> RepoListing:
        for tries in range(1, download.TRIES):
            try:
                return await self._supply.files(self._fetch.repo, self._fetch.revision)
            except HubFails as exc:
                seconds = download.wait_seconds(tries)
                record.write(f"{exc.message}; asking again in {seconds:g} s")
                await asyncio.sleep(seconds)
        return await self._supply.files(self._fetch.repo, self._fetch.revision)


class _Progress:
    """Bytes of all files in the record; the speed is that of the last SPEED_SECONDS."""

    def __init__(self, record: JobRecord, files: list[RepoFile], held: list[int]) -> None:
        self._record = record
        self._seen: deque[tuple[float, int]] = deque()
        job = record.job
        pairs = zip(files, held, strict=True)
        job.files = [JobFile(name=f.path, total_bytes=f.size, done_bytes=n, etag=f.etag) for f, n in pairs]
        job.bytes_total, job.bytes_done = sum(file.size for file in files), sum(held)

    def of(self, index: int) -> Any:
        file = self._record.job.files[index]

        def told(done: int) -> None:
            file.state, file.done_bytes = "running", done
            self._count(f"{file.name} from {file.source}" if file.source else file.name)

        return told

    def giver_of(self, index: int) -> Callable[[str], None]:
        file = self._record.job.files[index]

        def named(name: str) -> None:
            file.source = name

        return named

    def _count(self, name: str) -> None:
        job, now = self._record.job, time.monotonic()
        done = sum(file.done_bytes for file in job.files)
        self._record.progress(done / max(job.bytes_total, 1), name)
        self._seen.append((now, done))
        while now - self._seen[0][0] > SPEED_SECONDS:
            self._seen.popleft()
        seconds, got = now - self._seen[0][0], done - self._seen[0][1]
        job.bytes_done = done
        job.bytes_per_second = max(got / seconds, 0.0) if seconds > 0.2 else 0.0
        job.seconds_left = (job.bytes_total - done) / job.bytes_per_second if job.bytes_per_second else None


def remove_parts(repo: str, etags: Iterable[str]) -> None:
    """What is half fetched of these files, but what another process fetches now. Blocking."""
    for etag in filter(ETAG.fullmatch, etags):
        Snapshot(repo, "").remove_unused_part(etag)


def _chosen(fetch: Fetch, files: list[RepoFile]) -> list[RepoFile]:
    paths = [file.path for file in files]
    if len(fetch.files) > 1:
        named = [path for path in paths if any(fits(path, glob) for glob in fetch.files)]
        ggufs = [path for path in named if path.lower().endswith(".gguf")]
        wanted = chosen_files(ggufs) if ggufs else named
    else:
        wanted = chosen_files(paths, fetch.files[0] if fetch.files else "")
    if not wanted:
        what = ", ".join(fetch.files) or "GGUF or safetensors"
        there = ", ".join(path for path in paths if path.lower().endswith(".gguf"))[:300]
        hint = f"there is: {there}" if there else "choose another repository"
        raise ModelNotFound(f"{fetch.repo} has no file {what}", hint, param="model_name")
    chosen = set(with_projector(paths, wanted))
    return [file for file in files if file.path in chosen]


def _begin_stages(record: JobRecord) -> None:
    """All of them wait again: a resumed job begins from the list."""
    for stage in record.job.stages:
        stage.state, stage.progress, stage.ended_at = "waiting", None, None

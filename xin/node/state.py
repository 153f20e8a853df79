"""The node's desired state: the explicit launches, in one file that is written whole or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from xin import paths
from xin.catalog.spec import ModelSpec
from xin.errors import InternalError
from xin.protocol.node import LaunchRequest

log = logging.getLogger(__name__)


class DesiredLaunch(msgspec.Struct):
    """What was asked for, with its uid, and what it resolved to then (told when it no longer resolves)."""

    request: LaunchRequest
    spec: ModelSpec


class _File(msgspec.Struct):
    launches: list[DesiredLaunch] = []


class DesiredState:
    """Launches by uid. Each change is on the disk before put or remove returns; changes are written in order."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._launches: dict[str, DesiredLaunch] = {}
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()

    @classmethod
    def of_node(cls, port: int) -> DesiredState:
        return cls(paths.state_dir() / f"desired-{port}.json")

    async def load(self) -> dict[str, DesiredLaunch]:
        """What was written last; a file that cannot be read is put aside and told in the log."""
        launches = await asyncio.to_thread(self._read)
        self._launches = {launch.request.model_uid or launch.request.model_name: launch for launch in launches}
        return dict(self._launches)

    async def put(self, uid: str, launch: DesiredLaunch) -> None:
        """Raises InternalError when the disk does not take it; then nothing has changed."""
        await self._change(uid, launch)

    async def remove(self, uid: str) -> None:
        """Unknown uids are ignored."""
        await self._change(uid, None)

    async def settle(self) -> None:
        """Wait until all changes are written, or have failed."""
        if self._changes:
            await asyncio.wait(self._changes)

    async def _change(self, uid: str, launch: DesiredLaunch | None) -> None:
        """In a task of its own: a thread cannot be cancelled, so neither is the lock let go before it has written."""
        task = asyncio.get_running_loop().create_task(self._change_locked(uid, launch))
        self._changes.add(task)
        task.add_done_callback(self._changed)
        await asyncio.shield(task)

    async def _change_locked(self, uid: str, launch: DesiredLaunch | None) -> None:
        async with self._lock:
            launches = {known: other for known, other in self._launches.items() if known != uid}
            if launch is not None:
                launches[uid] = launch
            if launches == self._launches:
                return
            try:
                await asyncio.to_thread(self._write, list(launches.values()))
            except OSError as exc:
                message = f"cannot write {self._file}: {exc.strerror}"
                raise InternalError(message, "free space there, or set XIN_HOME to another disk") from exc
            self._launches = launches

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever asked may be gone

    def _read(self) -> list[DesiredLaunch]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_File).launches
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as exc:
            log.error("%s cannot be read, so nothing is launched from it: %s", self._file, exc)
            self._put_aside()
            return []

    def _put_aside(self) -> None:
        try:
            self._file.replace(self._file.with_suffix(".broken"))
        except OSError as exc:
            log.warning("%s cannot be put aside: %s", self._file, exc.strerror)

    def _write(self, launches: list[DesiredLaunch]) -> None:
        paths.private(self._file.parent)
        draft = self._file.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(launches)), indent=1))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

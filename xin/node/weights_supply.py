"""Where files of the hub's repositories come from: members of the cluster that have them, then the hub."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xin.errors import Unreachable
from xin.node.hub import Hub, HubFails, RepoFile, RepoListing
from xin.node.weights_members import Holder, MemberWeights

REST_SECONDS = 30.0  # members are asked first, after the hub could not be reached: that may take long to find out


class Supply(Hub):
    """The hub tells what a repository holds, and with which hashes; members tell it where the hub cannot be asked."""

    def __init__(self, members: MemberWeights) -> None:
        self._members = members
        self._rests_until = 0.0

    async def files(self, repo: str, revision: str = "main") -> RepoListing:
        if time.monotonic() < self._rests_until and (found := await self._members.listing(repo, revision)):
            return found
        try:
            return await super().files(repo, revision)
        except Unreachable as exc:
            if not isinstance(exc, HubFails):
                self._rests_until = time.monotonic() + REST_SECONDS
            if found := await self._members.listing(repo, revision):
                return found
            if self._members.there_are:
                raise type(exc)(f"{exc.message}; no member of the cluster has {repo}", exc.hint) from exc
            raise

    async def read_range(self, repo: str, commit: str, path: str, start: int, length: int) -> bytes:
        try:
            return await super().read_range(repo, commit, path, start, length)
        except Unreachable:
            listing = await self._members.listing(repo, commit)
            file = next((one for one in listing.files if one.path == path), None) if listing else None
            data = await self._members.read_range(file, start, length) if file else None
            if data is None:
                raise
            return data

    async def holders(self, file: RepoFile) -> Sequence[Holder]:
        """Who gives it before the hub is asked for it."""
        return await self._members.holders(file)

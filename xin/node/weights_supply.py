"""Where files of the hub's repositories come from: members of the cluster that have them, then the hub."""

from __future__ import annotations

from collections.abc import Sequence

from xin.errors import Unreachable
from xin.node.hub import Hub, RepoFile, RepoListing
from xin.node.weights_members import Holder, MemberWeights


class Supply(Hub):
    """The hub tells what a repository holds, and with which hashes; members tell it where the hub cannot be asked."""

    def __init__(self, members: MemberWeights) -> None:
        self._members = members

    async def files(self, repo: str, revision: str = "main") -> RepoListing:
        try:
            return await super().files(repo, revision)
        except Unreachable:
            if found := await self._members.listing(repo, revision):
                return found
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

"""Weights that other members of the cluster have: who holds a file, and its bytes over mutual TLS."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import aiohttp
import msgspec

from xin.errors import InternalError, XinError
from xin.node.hub import RepoFile, RepoListing, checked_file
from xin.node.peers import Peers
from xin.protocol.node import Peer
from xin.protocol.weights import Held, HeldRepo, WhichFiles, WhoHolds

ASK_SECONDS = 5.0
CONNECT_SECONDS = 2.0
STALL_SECONDS = 5.0  # a member that is lost is known to be gone by then
MEETING_SECONDS = 3.0  # after its start a node waits so long for members that it knows
READ_BYTES = 1 << 20
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, InternalError)
log = logging.getLogger("xin.node")
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Holder:
    """A member that has a file whole. A Source of FileDownload."""

    peer: Peer
    members: MemberWeights

    @property
    def id(self) -> str:
        return self.peer.id

    @property
    def name(self) -> str:
        return self.peer.name

    def get(self, file: RepoFile, headers: Mapping[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.members.get(self.peer, f"/api/members/weights/{file.etag}", headers)

    def refusal(self, status: int, file: RepoFile) -> XinError | None:
        """None is final: another may have it."""
        return None


class MemberWeights:
    """`async with` it. What a member answers is checked like a stranger's; one that fails is left out."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._session: aiohttp.ClientSession | None = None
        self._met = asyncio.Event()

    async def __aenter__(self) -> MemberWeights:
        self._session = aiohttp.ClientSession(
            trust_env=False, read_bufsize=READ_BYTES, headers={"Accept-Encoding": "identity"}
        )
        self._peers.on_change.append(self._on_peer)
        self._on_peer()
        self._waiting = asyncio.get_running_loop().call_later(MEETING_SECONDS, self._met.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._peers.on_change.remove(self._on_peer)
        self._waiting.cancel()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def there_are(self) -> bool:
        """Members, also such as are gone."""
        return bool(self._members())

    async def holders(self, file: RepoFile) -> list[Holder]:
        """In no order, so that one is not asked by all."""
        question = WhoHolds(etags=[file.etag])
        answers = await self._all("held", question, Held)
        found = [Holder(peer, self) for peer, held in answers if held.sizes.get(file.etag) == file.size]
        random.shuffle(found)
        return found

    async def listing(self, repo: str, revision: str) -> RepoListing | None:
        """Of the commit of which most files are there, as all that have it hold it together."""
        answers = await self._all("listing", WhichFiles(repo=repo, revision=revision), HeldRepo)
        commits: dict[str, dict[str, RepoFile]] = {}
        tellers: dict[str, list[str]] = {}
        for peer, held in answers:
            try:
                files = [checked_file(one.path, one.size, one.etag) for one in held.files]
            except InternalError as exc:
                log.warning("%s: %s", peer.name, exc.message)
                continue
            if held.commit and files:
                tellers.setdefault(held.commit, []).append(peer.name)
                for file in files:
                    commits.setdefault(held.commit, {}).setdefault(file.path, file)
        if not commits:
            return None
        commit = max(commits, key=lambda one: len(commits[one]))
        return RepoListing(commit, list(commits[commit].values()), ", ".join(tellers[commit]))

    async def read_range(self, file: RepoFile, start: int, length: int) -> bytes | None:
        """None when no member gives it."""
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        for holder in await self.holders(file):
            try:
                async with asyncio.timeout(ASK_SECONDS * 2), holder.get(file, headers) as reply:
                    reply.raise_for_status()
                    if reply.status == 206 and (reply.content_length or 0) <= length:
                        return await reply.read()
            except _FAILURES as exc:
                log.info("%s did not give %s: %r", holder.name, file.path, exc)
        return None

    def get(
        self, peer: Peer, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Raises Unreachable."""
        assert self._session is not None
        endpoint, how = self._peers.way_to(peer.id)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS)
        return self._session.get(f"{endpoint}{path}", timeout=timeout, **{**how, "headers": headers})

    async def _all(self, what: str, question: msgspec.Struct, kind: type[T]) -> list[tuple[Peer, T]]:
        """The answers of all that give one."""
        peers = await self._living()
        body = msgspec.json.encode(question)
        answers = await asyncio.gather(*(self._ask(peer, what, body, kind) for peer in peers))
        return [(peer, answer) for peer, answer in zip(peers, answers, strict=True) if answer is not None]

    async def _ask(self, peer: Peer, what: str, body: bytes, kind: type[T]) -> T | None:
        assert self._session is not None
        headers = {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            endpoint, how = self._peers.way_to(peer.id)
            url = f"{endpoint}/api/members/weights/{what}"
            async with self._session.post(url, data=body, timeout=timeout, **{**how, "headers": headers}) as reply:
                reply.raise_for_status()
                return msgspec.json.decode(await reply.read(), type=kind)
        except (*_FAILURES, XinError) as exc:
            log.debug("%s was asked for weights: %r", peer.name, exc)
            return None

    async def _living(self) -> list[Peer]:
        """A node that has just started, perhaps to go on with a download, may not have met the others yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MEETING_SECONDS):
                await self._met.wait()
        if self._session is None:
            return []
        return [peer for peer in self._members() if peer.status != "gone"]

    def _on_peer(self, _peer: Peer | None = None) -> None:
        if all(peer.status != "gone" for peer in self._members()):
            self._met.set()

    def _members(self) -> list[Peer]:
        return [peer for peer in self._peers.cluster() if peer.relation == "peer"]

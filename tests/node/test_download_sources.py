"""The reader of one file with members of a cluster in front of the hub: who is asked when, and what a bad one costs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from hub_home import go_online, point_to
from hub_server import HubServer

from xin.errors import Unreachable, XinError
from xin.node import download
from xin.node.download import FileDownload, Snapshot, Source
from xin.node.hub import Hub, RepoFile, RepoListing
from xin.node.weights_supply import Supply

BODY = random.Random(8).randbytes(900_000)
NAME = "a.gguf"


@dataclass
class Member:
    """What a member gives, read from a server of its own: it can be cut off, be gone, or be wrong."""

    id: str
    server: HubServer
    cuts: list[int] = field(default_factory=list)
    refusals: int = 0

    @property
    def name(self) -> str:
        return self.id

    @asynccontextmanager
    async def get(self, file: RepoFile, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        if self.refusals:
            self.refusals -= 1
            raise Unreachable(f"there is no way to {self.id}")
        url = f"{self.server.url}/org/m/resolve/main/{file.path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
            yield reply

    def refusal(self, status: int, file: RepoFile) -> XinError | None:
        return None

    @property
    def asked(self) -> list[str]:
        return self.server.ranges(NAME)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.01)
    with HubServer({"org/m": {NAME: BODY}}) as hub:
        point_to(hub, tmp_path, monkeypatch)
        go_online(monkeypatch)
        yield hub


@pytest.fixture
def members() -> Iterator[list[Member]]:
    with ExitStack() as stack:
        yield [Member(name, stack.enter_context(HubServer({"org/m": {NAME: BODY}}))) for name in ("ant", "bee")]


async def fetch(members: Sequence[Member]) -> tuple[Path, list[str], list[str]]:
    """The file, the log, and who gave it in turn."""
    listing = await Hub().files("org/m")
    notes: list[str] = []
    named: list[str] = []

    async def holders(file: RepoFile) -> Sequence[Source]:
        return members

    async with download.session() as session:
        run = FileDownload(
            Snapshot("org/m", listing.commit),
            listing.files[0],
            lambda done: None,
            notes.append,
            holders=holders,
            named=named.append,
        )
        return await run.run(session), notes, named


async def test_the_hub_is_not_asked_for_what_a_member_has(hub: HubServer, members: list[Member]):
    path, notes, named = await fetch(members)
    assert path.read_bytes() == BODY and hub.ranges(NAME) == [] and members[1].asked == []
    assert (notes, named) == (["a.gguf: from ant"], ["ant"])


async def test_another_goes_on_at_the_same_byte(hub: HubServer, members: list[Member]):
    ant, bee = members
    ant.server.cuts = [400_000, 0]  # then it gives nothing more
    path, notes, named = await fetch(members)
    assert path.read_bytes() == BODY and hub.ranges(NAME) == []
    at = int(ant.asked[1].removeprefix("bytes=").removesuffix("-"))
    assert 0 < at <= 400_000 and ant.asked == ["", f"bytes={at}-"] and bee.asked == [f"bytes={at}-"]
    assert named == ["ant", "bee"] and notes[-1] == f"a.gguf: from bee, at byte {at}"


async def test_the_hub_goes_on_where_the_last_member_was_lost(hub: HubServer, members: list[Member]):
    for member, cut in zip(members, (400_000, 200_000), strict=True):
        member.server.cuts = [cut, 0]
    path, _, named = await fetch(members)
    assert path.read_bytes() == BODY and named == ["ant", "bee", ""]
    [asked] = hub.ranges(NAME)
    starts = [int(one.removeprefix("bytes=").removesuffix("-")) for one in (members[1].asked[0], asked)]
    assert 0 < starts[0] <= starts[1] <= 600_000


async def test_who_gave_wrong_bytes_is_not_asked_again(hub: HubServer, members: list[Member]):
    members[0].server.corrupt = True
    path, notes, named = await fetch(members)
    assert path.read_bytes() == BODY and hub.ranges(NAME) == []
    assert named == ["ant", "bee"] and "with what ant gave its hash is" in notes[1]
    assert members[0].asked == [""] and members[1].asked == [""]


async def test_when_all_members_are_wrong_the_hub_is_right(hub: HubServer, members: list[Member]):
    for member in members:
        member.server.corrupt = True
    path, _, named = await fetch(members)
    assert path.read_bytes() == BODY and named == ["ant", "bee", ""] and hub.ranges(NAME) == [""]


async def test_a_member_that_has_it_no_more_is_passed_over(hub: HubServer, members: list[Member]):
    members[0].server.faults = [404]
    path, notes, named = await fetch(members)
    assert path.read_bytes() == BODY and named == ["ant", "bee"]
    assert notes[1] == "a.gguf: ant: HTTP 404; going on at byte 0"


async def test_a_member_with_another_file_of_that_name_does_no_harm(hub: HubServer, members: list[Member]):
    members[0].server.repos["org/m"] = {NAME: BODY * 2}
    path, _, named = await fetch(members)
    assert path.read_bytes() == BODY and named == ["ant", "bee"]


async def test_without_the_hub_a_member_that_comes_back_goes_on(
    hub: HubServer, members: list[Member], monkeypatch: pytest.MonkeyPatch
):
    """HF_HUB_OFFLINE: its list of files is there from before."""
    only = members[0]
    only.server.cuts = [400_000]
    listed = await Hub().files("org/m")
    monkeypatch.setattr(Hub, "files", lambda *_: _answered(listed))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    only.refusals = 2
    path, notes, named = await fetch([only])
    assert path.read_bytes() == BODY and hub.ranges(NAME) == []
    assert named == ["ant", "", "ant", "", "ant"]
    assert [note for note in notes if "HF_HUB_OFFLINE is set" in note]


async def test_without_anybody_it_fails_in_the_end(
    hub: HubServer, members: list[Member], monkeypatch: pytest.MonkeyPatch
):
    listed = await Hub().files("org/m")
    monkeypatch.setattr(Hub, "files", lambda *_: _answered(listed))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    members[0].refusals = 1000
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE is set"):
        await fetch(members[:1])
    assert 1000 - members[0].refusals == download.TRIES


class Told:
    """What members answer, when they are asked at all."""

    there_are = True

    def __init__(self, listing: RepoListing | None) -> None:
        self.given = listing
        self.asked = 0

    async def listing(self, repo: str, revision: str) -> RepoListing | None:
        self.asked += 1
        return self.given


async def test_a_hub_that_was_not_reached_is_left_alone_for_a_while(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    theirs = RepoListing("1" * 40, [], "ant")
    told = Told(theirs)
    supply = Supply(told)  # type: ignore[arg-type]
    assert (await supply.files("org/m")).told_by == "" and told.asked == 0
    hub.listing_faults = [500]
    assert await supply.files("org/m") is theirs
    assert (await supply.files("org/m")).told_by == "", "a fault of it is over at once"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert await supply.files("org/m") is theirs
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert await supply.files("org/m") is theirs, "it was not reached just now"
    told.given = None
    assert (await supply.files("org/m")).told_by == "", "but for what no member has it is asked"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"cannot be reached: .*; no member of the cluster has org/m"):
        await supply.files("org/m")


async def _answered(listing: object) -> object:
    return listing

"""The reader of one file, in this process, from a hub on loopback: tokens, faults, locks, hashes, hostile lists."""

from __future__ import annotations

import asyncio
import fcntl
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_home import go_online, point_to
from hub_server import HubServer, git_hash, sha256
from managing import until

from xin.errors import Forbidden, InternalError, ModelNotFound, Unreachable
from xin.node import download
from xin.node.download import FileDownload, Snapshot
from xin.node.hub import Hub, HubFails, RepoFile

BODY = random.Random(7).randbytes(300_000)
FILES = {"a.safetensors": BODY, "b.safetensors": BODY[::-1], "config.json": b"{}\n", "sub/empty.txt": b""}
SECRET = "hf_secret"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.01)
    with HubServer({"org/m": FILES}) as hub:
        point_to(hub, tmp_path, monkeypatch)
        go_online(monkeypatch)
        yield hub


async def fetch(repo: str = "org/m", notes: list[str] | None = None) -> dict[str, Path]:
    """All files of a repository."""
    listing = await Hub().files(repo)
    snapshot = Snapshot(repo, listing.commit)
    note = (notes if notes is not None else []).append
    async with download.session() as session:
        runs = {file.path: FileDownload(snapshot, file, lambda done: None, note) for file in listing.files}
        return {path: await run.run(session) for path, run in runs.items()}


async def listed(repo: str = "org/m", path: str = "a.safetensors") -> tuple[Snapshot, RepoFile]:
    listing = await Hub().files(repo)
    [file] = [file for file in listing.files if file.path == path]
    return Snapshot(repo, listing.commit), file


async def test_every_file_has_its_hash(hub: HubServer):
    found = await fetch()
    assert {path: file.read_bytes() for path, file in found.items()} == FILES
    for path, body in FILES.items():
        name = sha256(body) if path.endswith(".safetensors") else git_hash(body)
        assert found[path].resolve().name == name


async def test_the_token_stays_with_the_hub(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with HubServer(hub.repos) as elsewhere:
        hub.redirect_to = elsewhere.url
        found = await fetch()
        head = await Hub().read_range("org/m", hub.commit("org/m"), "a.safetensors", 10, 20)
    assert found["a.safetensors"].read_bytes() == BODY and head == BODY[10:30]
    assert len(elsewhere.tokens) == sum(map(bool, FILES.values())) + 1  # nothing is asked for an empty file
    assert {token for _, token in elsewhere.tokens} == {None}
    assert {token for _, token in hub.tokens} == {f"Bearer {SECRET}"}


async def test_a_netrc_for_the_hub_gives_way_to_the_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    await fetch()
    assert {token for _, token in hub.tokens} == {f"Bearer {SECRET}"}


async def test_a_renamed_repository_still_gets_the_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.repos["org/old"] = hub.repos["org/m"]
    hub.renamed["org/old"] = "org/m"
    assert (await fetch("org/old"))["a.safetensors"].read_bytes() == BODY
    assert {token for _, token in hub.tokens} == {f"Bearer {SECRET}"}


async def test_faults_of_the_hub_are_waited_out(hub: HubServer):
    hub.faults = [503, 500, 429]
    notes: list[str] = []
    assert (await fetch(notes=notes))["a.safetensors"].read_bytes() == BODY
    assert [note.split(": ")[1].split(";")[0] for note in notes] == ["HTTP 503", "HTTP 500", "HTTP 429"]
    assert [note.rpartition(" in ")[2] for note in notes] == ["0.01 s", "0.02 s", "0.04 s"]


async def test_a_wait_that_the_hub_asks_for_is_kept(hub: HubServer):
    hub.faults, hub.retry_after = [429], "1"
    notes: list[str] = []
    await fetch(notes=notes)
    assert notes == ["a.safetensors: HTTP 429; going on at byte 0 in 1 s"]


async def test_a_hub_that_stays_faulty_is_told(hub: HubServer):
    hub.faults = [502] * 20
    with pytest.raises(HubFails, match=r"has a fault: HTTP 502"):
        await fetch()
    assert len(hub.faults) == 20 - download.TRIES


async def test_what_no_second_try_changes_is_not_tried_again(hub: HubServer):
    for status, error in ((401, Forbidden), (403, Forbidden), (404, ModelNotFound)):
        hub.faults = [status] * 3
        with pytest.raises(error):
            await fetch()
        assert len(hub.faults) == 2


async def test_offline_is_told_as_such(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    snapshot, file = await listed()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 cannot be reached"):
        await Hub().files("org/m")
    async with download.session() as session:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 cannot be reached"):
            await FileDownload(snapshot, file, lambda done: None, lambda text: None).run(session)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE is set"):
        await Hub().files("org/m")


async def test_a_file_that_another_process_fetched_meanwhile(hub: HubServer):
    snapshot, file = await listed()
    part, notes = snapshot.part(file), []
    part.parent.mkdir(parents=True)
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(BODY[:1000])
        other.flush()
        held: list[int] = []
        async with download.session() as session:
            run = asyncio.create_task(FileDownload(snapshot, file, held.append, notes.append).run(session))
            await until(lambda: 1000 in held)
            assert notes == ["a.safetensors: another process downloads it; waiting for it"]
            other.write(BODY[1000:])
            other.flush()
            part.replace(snapshot.blob(file))
            fcntl.flock(other, fcntl.LOCK_UN)
            path = await run
    assert path.read_bytes() == BODY and hub.ranges("a.safetensors") == []
    assert not part.exists()


async def test_a_part_that_another_process_fetches_is_not_removed(hub: HubServer):
    snapshot, file = await listed()
    part = snapshot.part(file)
    part.parent.mkdir(parents=True)
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        snapshot.remove_unused_part(file.etag)
        assert part.exists()
    snapshot.remove_unused_part(file.etag)
    assert not part.exists()


@pytest.mark.parametrize("length", [300_001, 400_000])
async def test_a_part_that_is_too_long_begins_anew(hub: HubServer, length: int):
    snapshot, file = await listed()
    snapshot.part(file).parent.mkdir(parents=True)
    snapshot.part(file).write_bytes(bytes(length))
    assert (await fetch())["a.safetensors"].read_bytes() == BODY


async def test_a_part_with_wrong_bytes_is_removed_and_then_fetched_whole(hub: HubServer):
    snapshot, file = await listed()
    snapshot.part(file).parent.mkdir(parents=True)
    snapshot.part(file).write_bytes(bytes(1000))
    with pytest.raises(InternalError, match="has the hash"):
        await fetch()
    assert (await fetch())["a.safetensors"].read_bytes() == BODY
    assert hub.ranges("a.safetensors") == ["bytes=1000-", ""]


@pytest.mark.parametrize("path", ["../../evil.gguf", "/tmp/evil.gguf", "a/../../../evil.gguf"])
async def test_names_that_leave_the_cache_are_refused(hub: HubServer, path: str):
    hub.repos["org/evil"] = {path: b"x"}
    with pytest.raises(InternalError, match="cannot be"):
        await fetch("org/evil")

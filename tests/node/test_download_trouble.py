"""Downloads of real nodes in trouble: full disks, restarts, two nodes with one cache, faults of the hub."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_home import BODY, ended, parts, point_to, until
from hub_server import HubServer, sha256
from live_node import LiveNode

from xin.client import Client

OTHER = BODY[::-1]
NAME = "org/tiny-GGUF:tiny.Q4_0.gguf"
MIB = 2**20
ON_TMPFS = 'mkdir -p "$HF_HOME" && mount -t tmpfs -o size=72m none "$HF_HOME" && exec "$@"'
UNSHARED = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({"org/tiny-GGUF": {"tiny.Q4_0.gguf": BODY, "tiny.Q8_0.gguf": OTHER}}) as hub:
        yield hub


@pytest.fixture
def cache(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return point_to(hub, tmp_path, monkeypatch)


def whole(cache: Path, hub: HubServer, name: str = "tiny.Q4_0.gguf") -> str:
    """Its sha256."""
    path = cache / "models--org--tiny-GGUF" / "snapshots" / hub.commit("org/tiny-GGUF") / name
    return sha256(path.read_bytes())


def test_a_write_that_finds_no_room_is_told_and_goes_on_later(hub: HubServer, cache: Path, tmp_path: Path):
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
        job = ended(client, client.start_job("download", model_name=NAME).id)
        assert job.state == "failed" and "the disk became full" in (job.cause or ""), job
        assert job.hint == "free some, then retry it" and job.bytes_done <= 1_500_000
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert ended(client, client.job_action(job.id, "retry").id).state == "done"
    assert hub.ranges("tiny.Q4_0.gguf") == ["", "bytes=1500000-"]
    assert whole(cache, hub) == sha256(BODY)


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run([*UNSHARED, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode != 0,
    reason="this system lets nobody mount a tmpfs in a namespace",
)
def test_a_small_disk_is_seen_before_and_while_it_fills(hub: HubServer, cache: Path, tmp_path: Path):
    with (
        LiveNode(tmp_path / "node", under=[*UNSHARED, "sh", "-c", ON_TMPFS, "sh"]) as node,
        Client(node.url) as client,
    ):
        seen = Path(f"/proc/{node.process.pid}/root{cache.parent}")
        filler = seen / "filler"
        fill(filler, 20 * MIB)
        job = ended(client, client.start_job("download", model_name=NAME).id)
        assert job.state == "failed" and "takes 3 MiB" in (job.cause or "") and "short of" in (job.cause or ""), job
        assert "xin files" in (job.hint or "") and hub.log == []
        filler.unlink()
        hub.bytes_per_second = 3_000_000
        job_id = client.job_action(job.id, "retry").id
        until(client, job_id, lambda job: job.bytes_done > 500_000)
        fill(filler, 71 * MIB)
        job = ended(client, job_id)
        assert job.state == "failed" and "the disk became full" in (job.cause or ""), job
        filler.unlink()
        hub.bytes_per_second = 0
        assert ended(client, client.job_action(job_id, "retry").id).state == "done"
        assert whole(seen / "hub", hub) == sha256(BODY)
    assert hub.ranges("tiny.Q4_0.gguf")[0] == "" and len(hub.log) == 2


def test_a_paused_download_rests_over_a_restart(hub: HubServer, cache: Path, tmp_path: Path):
    hub.bytes_per_second = 3_000_000
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        job_id = client.start_job("download", model_name=NAME).id
        until(client, job_id, lambda job: job.bytes_done > 500_000)
        assert client.job_action(job_id, "pause").state == "paused"
    [part] = parts(cache)
    size = part.stat().st_size
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        job = client.job(job_id)
        assert (job.state, job.actions) == ("paused", ["resume", "cancel"]) and job.bytes_done <= size
        hub.bytes_per_second = 0
        client.job_action(job_id, "resume")
        assert ended(client, job_id).state == "done"
    assert hub.ranges("tiny.Q4_0.gguf") == ["", f"bytes={size}-"]


def test_two_nodes_with_one_cache_fetch_a_file_once(hub: HubServer, cache: Path, tmp_path: Path):
    hub.bytes_per_second = 1_000_000
    with (
        LiveNode(tmp_path / "a") as first,
        LiveNode(tmp_path / "b") as second,
        Client(first.url) as a,
        Client(second.url) as b,
    ):
        one = a.start_job("download", model_name=NAME).id
        until(a, one, lambda job: job.bytes_done > 300_000)
        other = b.start_job("download", model_name=NAME).id
        until(b, other, lambda job: any("another process downloads it" in line.message for line in b.job_log(other)))
        assert a.job_action(one, "cancel").state == "cancelled"
        [part] = parts(cache)
        size = part.stat().st_size
        until(b, other, lambda job: job.bytes_done > size)
        a.job_action(one, "delete")  # what the other goes on with stays
        assert part.exists()
        hub.bytes_per_second = 0
        assert ended(b, other).state == "done"
    assert hub.ranges("tiny.Q4_0.gguf") == ["", f"bytes={size}-"]
    assert whole(cache, hub) == sha256(BODY)


def test_deleting_removes_what_is_half_fetched_of_its_own_files_alone(hub: HubServer, cache: Path, tmp_path: Path):
    hub.bytes_per_second = 1_000_000
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        ids = [client.start_job("download", model_name=f"org/tiny-GGUF:tiny.{q}.gguf").id for q in ("Q4_0", "Q8_0")]
        for job_id in ids:
            until(client, job_id, lambda job: job.bytes_done > 100_000)
            client.job_action(job_id, "cancel")
        assert {part.name for part in parts(cache)} == {f"{sha256(body)}.xin-part" for body in (BODY, OTHER)}
        client.job_action(ids[0], "delete")
        assert [part.name for part in parts(cache)] == [f"{sha256(OTHER)}.xin-part"]
        client.job_action(ids[1], "delete")
        assert parts(cache) == []


def test_a_list_that_fails_at_first_is_asked_for_again(hub: HubServer, cache: Path, tmp_path: Path):
    hub.listing_faults = [503, 500]
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        job = ended(client, client.start_job("download", model_name=NAME).id)
        assert job.state == "done", job
        asked = [line.message for line in client.job_log(job.id) if "asking again" in line.message]
    assert ["HTTP 503" in asked[0], "HTTP 500" in asked[1]] == [True, True] and len(asked) == 2
    assert whole(cache, hub) == sha256(BODY)


def fill(path: Path, size: int) -> None:
    """Bytes that take room, as many of them as there is."""
    with path.open("wb") as file:
        while size > 0 and room(path) > 0:
            step = min(size, room(path))
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
            except OSError:
                return
            size -= step


def room(path: Path) -> int:
    return shutil.disk_usage(path.parent).free

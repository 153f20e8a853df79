"""Downloads of a real node from a hub on loopback, read afterwards by the real huggingface_hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_home import BODY, ended, point_to, until
from hub_server import HubServer, sha256
from huggingface_hub import snapshot_download, try_to_load_from_cache
from live_node import LiveNode

from xin.client import Client
from xin.errors import Conflict

SMALL = b'{"a": 1}\n'
NAME = "org/tiny-GGUF:tiny.Q4_0.gguf"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({"org/tiny-GGUF": {"tiny.Q4_0.gguf": BODY, "config.json": SMALL}}) as hub:
        yield hub


@pytest.fixture
def environ(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HF_HOME of a node that is started after it."""
    return point_to(hub, tmp_path, monkeypatch)


@pytest.fixture
def client(environ: Path, tmp_path: Path) -> Iterator[Client]:
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        yield client


def file_of(cache: Path, hub: HubServer, path: str = "tiny.Q4_0.gguf") -> Path:
    return cache / "models--org--tiny-GGUF" / "snapshots" / hub.commit("org/tiny-GGUF") / path


def test_a_download_is_what_huggingface_hub_finds(client: Client, hub: HubServer, environ: Path):
    job = ended(client, client.start_job("download", model_name=NAME).id)
    assert (job.state, job.bytes_done, job.progress) == ("done", len(BODY), 1.0), job
    path = file_of(environ, hub)
    assert sha256(path.read_bytes()) == sha256(BODY) and path.is_symlink()
    assert try_to_load_from_cache("org/tiny-GGUF", "tiny.Q4_0.gguf", cache_dir=environ) == str(path)
    whole = snapshot_download(
        "org/tiny-GGUF", cache_dir=environ, local_files_only=True, allow_patterns=["*.gguf"], endpoint=hub.url
    )
    assert Path(whole) == path.parent
    assert [*path.resolve().parent.glob("*.xin-part")] == []
    with pytest.raises(Conflict, match="here already"):
        client.start_job("download", model_name=NAME)


def test_pause_resume_cancel_and_delete(client: Client, hub: HubServer, environ: Path):
    hub.bytes_per_second = 3_000_000
    job_id = client.start_job("download", model_name=NAME).id
    running = until(client, job_id, lambda job: job.bytes_done > 500_000)
    assert "pause" in running.actions and running.files[0].total_bytes == len(BODY)
    paused = client.job_action(job_id, "pause")
    assert paused.state == "paused" and paused.actions == ["resume", "cancel"]
    [part] = (environ / "models--org--tiny-GGUF" / "blobs").glob("*.xin-part")
    size = part.stat().st_size
    client.job_action(job_id, "resume")
    until(client, job_id, lambda job: job.bytes_done > size)
    assert hub.ranges("tiny.Q4_0.gguf") == ["", f"bytes={size}-"]
    assert client.job_action(job_id, "cancel").state == "cancelled"
    assert part.stat().st_size > size
    client.job_action(job_id, "delete")
    assert not part.exists()


def test_a_killed_node_goes_on_at_the_same_byte(hub: HubServer, environ: Path, tmp_path: Path):
    hub.bytes_per_second = 3_000_000
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        job_id = client.start_job("download", model_name=NAME).id
        until(client, job_id, lambda job: job.progress > 0.4)
        node.process.kill()
        node.process.wait()
    [part] = (environ / "models--org--tiny-GGUF" / "blobs").glob("*.xin-part")
    size = part.stat().st_size
    assert 0.3 * len(BODY) < size < len(BODY)
    hub.bytes_per_second = 0
    with LiveNode(tmp_path / "node") as node, Client(node.url) as client:
        assert ended(client, job_id).state == "done"
    assert hub.ranges("tiny.Q4_0.gguf") == ["", f"bytes={size}-"]
    assert sha256(file_of(environ, hub).read_bytes()) == sha256(BODY)


def test_a_dropped_connection_goes_on(client: Client, hub: HubServer, environ: Path):
    hub.cuts = [1_000_000, 500_000]
    job = ended(client, client.start_job("download", model_name=NAME).id)
    assert job.state == "done", job
    assert len(hub.ranges("tiny.Q4_0.gguf")) == 3
    assert sha256(file_of(environ, hub).read_bytes()) == sha256(BODY)


def test_a_wrong_hash_is_told_and_removed(client: Client, hub: HubServer, environ: Path):
    hub.corrupt = True
    job = ended(client, client.start_job("download", model_name=NAME).id)
    assert job.state == "failed" and "has the hash" in (job.cause or ""), job
    assert [*(environ / "models--org--tiny-GGUF" / "blobs").iterdir()] == []
    hub.corrupt = False
    assert ended(client, client.job_action(job.id, "retry").id).state == "done"


def test_each_refusal_has_its_own_message(client: Client, hub: HubServer):
    hub.refuse = {"org/secret-GGUF": 401, "org/gated-GGUF": 403}
    expected = {
        "org/secret-GGUF": "wants a token",
        "org/gated-GGUF": "no access",
        "org/none-GGUF": "the hub has no org/none-GGUF",
        "org/tiny-GGUF:other.gguf": "has no file other.gguf",
    }
    for name, message in expected.items():
        job = ended(client, client.start_job("download", model_name=name).id)
        assert job.state == "failed" and message in (job.cause or "") and job.hint, job

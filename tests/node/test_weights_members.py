"""Real nodes in one cluster, each with a cache of its own, that fetch weights from one another before the hub."""

from __future__ import annotations

import json
import random
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from clustering import Host, sees
from clustering import until as waited
from hub_home import BODY, ended, point_to, until
from hub_server import HubServer, git_hash, sha256

from xin.protocol.node import Job

REPO = "org/tiny-GGUF"
NAME = f"{REPO}:tiny.Q4_0.gguf"
FOLDER = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}\n',
    "model.safetensors": (2).to_bytes(8, "little") + b"{}" + BODY,
    "tokenizer.json": b"{}\n",
}
OWN = BODY[:200_000]
BIG_BYTES = 300_000_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    repos = {REPO: {"tiny.Q4_0.gguf": BODY, "README.md": b"x"}, "org/plain": FOLDER, "org/own-GGUF": {"own.gguf": OWN}}
    with HubServer(repos) as hub, pytest.MonkeyPatch.context() as patch:
        point_to(hub, tmp_path_factory.mktemp("hub"), patch)
        yield hub


@pytest.fixture(scope="module")
def pair(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    home = tmp_path_factory.mktemp("pair")
    ant, bee = host(home, "ant", OLLAMA_MODELS=str(home / "ollama")), host(home, "bee")
    with cluster(ant, bee):
        yield ant, bee


def host(home: Path, name: str, port: int = 0, **environ: str) -> Host:
    """One with its own cache; not started. On the same port it is the same node again."""
    made = Host(home, name, port=port)
    made.environ |= {"HF_HOME": str(made.home / "hf"), **environ}
    return made


@contextmanager
def cluster(*members: Host) -> Iterator[None]:
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(member)
        for member in members[1:]:
            member.join(members[0])
        for member in members:
            waited(sees(member, *(other.name for other in members if other is not member)))
        yield


def pull(on: Host, name: str = NAME) -> Job:
    with on.client as client:
        return ended(client, client.start_job("download", model_name=name).id)


def log_of(on: Host, job: Job) -> str:
    with on.client as client:
        return "\n".join(line.message for line in client.job_log(job.id))


def fetched(on: Host, hub: HubServer, path: str = "tiny.Q4_0.gguf", repo: str = REPO) -> Path:
    folder = on.home / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    return folder / "snapshots" / hub.commit(repo) / path


def test_a_member_gives_before_the_hub_does(hub: HubServer, pair: tuple[Host, Host]):
    ant, bee = pair
    assert pull(ant).state == "done"
    asked = list(hub.log)
    job = pull(bee)
    assert job.state == "done" and hub.log == asked, job
    assert [(file.name, file.source) for file in job.files] == [("tiny.Q4_0.gguf", "ant")]
    assert fetched(bee, hub).read_bytes() == BODY
    assert "tiny.Q4_0.gguf: from ant" in log_of(bee, job)
    assert f"gives {sha256(BODY)[:16]} to bee: all of it" in ant.said()
    # Wrong bytes on the member's disk: it is passed over, and the hub gives the right ones.
    fetched(bee, hub).resolve().unlink()
    fetched(ant, hub).resolve().write_bytes(bytes(len(BODY)))
    job = pull(bee)
    assert (job.state, job.files[0].source) == ("done", ""), job
    assert hub.log == [*asked, ("tiny.Q4_0.gguf", "")] and fetched(bee, hub).read_bytes() == BODY


def test_where_the_hub_fails_a_member_tells_the_list_too(hub: HubServer, pair: tuple[Host, Host]):
    """A repository of several files, whose name does not tell its format."""
    ant, bee = pair
    assert pull(ant, "org/plain").state == "done"
    hub.refuse = {"org/plain": 503}
    job = pull(bee, "org/plain")
    hub.refuse = {}
    assert job.state == "done" and len([path for path, _ in hub.log if path in FOLDER]) == len(FOLDER), job
    assert {file.name: file.source for file in job.files} == dict.fromkeys(FOLDER, "ant")
    for path, body in FOLDER.items():
        assert fetched(bee, hub, path, "org/plain").read_bytes() == body
    assert "the hub cannot be asked" in log_of(bee, job)


def test_what_ollama_has_fetched_is_given_too(hub: HubServer, pair: tuple[Host, Host]):
    ant, bee = pair
    body = BODY[100:300_100]
    hub.repos["org/llama-GGUF"] = {"llama.gguf": body}
    blobs = Path(ant.environ["OLLAMA_MODELS"]) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"sha256-{sha256(body)}").write_bytes(body)
    job = pull(bee, "org/llama-GGUF:llama.gguf")
    assert (job.state, job.files[0].source) == ("done", "ant") and hub.ranges("llama.gguf") == []
    assert fetched(bee, hub, "llama.gguf", "org/llama-GGUF").read_bytes() == body


def test_weights_are_for_members_alone(hub: HubServer, pair: tuple[Host, Host]):
    ant, bee = pair
    assert pull(ant, "org/own-GGUF:own.gguf").state == "done"
    etag = sha256(OWN)
    with bee.client as client:
        ant_id = next(one.id for one in client.members().members if one.name == "ant")
    for path in (f"/api/members/weights/{etag}", f"/api/nodes/{ant_id}/api/members/weights/{etag}"):
        reply = bee.http.get(path)
        assert reply.status_code == 403 and "paired node" in reply.text, path
    with from_member(bee, ant) as peer:
        part = peer.get(f"/api/members/weights/{etag}", headers={"Range": "bytes=199990-"})
        assert (part.status_code, part.content) == (206, OWN[199990:])
        for wrong in ("0" * 64, etag[:63], etag.upper(), "..%2f..%2fcluster", f"{etag}%00"):
            assert peer.get(f"/api/members/weights/{wrong}").status_code == 404, wrong
        held = peer.post("/api/members/weights/held", json={"etags": [etag, git_hash(b"y")]}).json()
        assert held == {"sizes": {etag: len(OWN)}}
        refused = peer.post("/api/members/weights/held", json={"etags": ["../x"]})
        assert refused.status_code == 400 and "etags" in refused.text
        listed = peer.post("/api/members/weights/listing", json={"repo": "org/own-GGUF"}).json()
        assert listed["commit"] == hub.commit("org/own-GGUF")
        assert listed["files"] == [{"path": "own.gguf", "size": len(OWN), "etag": etag}]
        for repo, revision in [("../..", "main"), ("org/none", "main"), (REPO, "../main"), (REPO, "0" * 40)]:
            body = {"repo": repo, "revision": revision}
            assert peer.post("/api/members/weights/listing", json=body).json()["files"] == [], body


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["another member", "the hub"])
def test_300_mb_go_on_where_the_giver_was_killed(rest: str, hub: HubServer, tmp_path: Path):
    dice = random.Random(9)
    body = b"".join(dice.randbytes(BIG_BYTES // 30) for _ in range(30))
    hub.repos["org/big-GGUF"] = {"big.Q8_0.gguf": body}
    name = "org/big-GGUF:big.Q8_0.gguf"
    ant, bee, cat = (host(tmp_path, name) for name in ("ant", "bee", "cat"))
    givers = {"ant": ant, "cat": cat} if rest == "another member" else {"ant": ant}
    with cluster(ant, bee, cat):
        for giver in givers.values():
            assert pull(giver, name).state == "done"
        hub.log.clear()
        with bee.client as client:
            job_id = client.start_job("download", model_name=name).id
            job = until(client, job_id, lambda job: job.bytes_done > BIG_BYTES / 2)
            first = job.files[0].source
            givers[first].process.send_signal(signal.SIGKILL)
            job = ended(client, job_id)
        log = log_of(bee, job)
        assert job.state == "done" and fetched(bee, hub, "big.Q8_0.gguf", "org/big-GGUF").stat().st_size == BIG_BYTES
        assert sha256(fetched(bee, hub, "big.Q8_0.gguf", "org/big-GGUF").read_bytes()) == sha256(body)
        at = int(log.split(f"{first}: ")[1].split("going on at byte ")[1].split()[0])
        assert BIG_BYTES / 2 < at < BIG_BYTES, log
        if rest == "the hub":
            assert job.files[0].source == "" and hub.log == [("big.Q8_0.gguf", f"bytes={at}-")], log
        else:
            [other] = givers.keys() - {first}
            assert job.files[0].source == other and hub.log == [], log
            assert f"to bee: bytes={at}-" in givers[other].said()


@pytest.mark.slow
def test_a_launch_without_a_hub_is_planned_by_the_members_header_and_answers(
    hub: HubServer, pair: tuple[Host, Host], smollm2: Path
):
    ant, bee = pair
    hub.repos["org/small"] = {"small.Q4_1.gguf": smollm2.read_bytes()}
    assert pull(ant, "org/small").state == "done"
    hub.refuse, asked = {"org/small": 503}, list(hub.log)
    try:
        with bee.client as client:
            [row] = client.plan("org/small").rows
            assert (row.quantization, row.estimate) == ("Q4_1", False)
            uid = bee.launch("org/small", node="bee")
            [fetch] = [job for job in client.jobs() if job.kind == "download" and "org/small" in job.title]
    finally:
        hub.refuse = {}
    assert fetch.files[0].source == "ant" and hub.log == asked
    body = {"model": uid, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    reply = bee.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"]


@pytest.mark.slow
def test_a_node_that_starts_again_waits_for_its_members(hub: HubServer, tmp_path: Path):
    """Its download goes on from a member, though nobody is followed yet when it begins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hub.bytes_per_second = 1_000_000
    with host(tmp_path, "ant") as ant:
        with host(tmp_path, "bee", port) as bee, bee.client as client:
            bee.join(ant)
            job_id = client.start_job("download", model_name=NAME).id
            until(client, job_id, lambda job: job.bytes_done > 300_000)
            bee.process.send_signal(signal.SIGKILL)
            bee.process.wait()
        hub.bytes_per_second = 0
        assert pull(ant).state == "done"
        asked = list(hub.log)
        with host(tmp_path, "bee", port, HF_HUB_OFFLINE="1") as bee, bee.client as client:
            job = ended(client, job_id)
            assert job.state == "done", (job, log_of(bee, job), bee.said())
            other = pull(bee, "org/nobody-has-GGUF:x.gguf")
            assert other.state == "failed" and "no member of the cluster has org/nobody-has" in (other.cause or "")
            assert "HF_HUB_OFFLINE is set" in (other.cause or "") and other.hint, other
        assert job.files[0].source == "ant"
        assert hub.log == asked and fetched(bee, hub).read_bytes() == BODY
        assert "to bee: bytes=" in ant.said()


@contextmanager
def from_member(who: Host, to: Host) -> Iterator[httpx.Client]:
    """Requests with the papers of `who`."""
    [pem] = (who.home / "data" / "cluster").rglob("node.pem")
    tls = ssl.create_default_context(cadata=json.loads((pem.parent / "cluster.json").read_text())["certificate"])
    tls.load_cert_chain(pem)
    tls.check_hostname = False
    with to.client as client:
        base = f"https://127.0.0.1:{client.node().lan_port}"
    with httpx.Client(base_url=base, verify=tls, trust_env=False) as peer:
        yield peer

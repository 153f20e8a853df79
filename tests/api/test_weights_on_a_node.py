"""A real node launches what Ollama has stored, without a copy; files and registrations by HTTP and by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_gguf
from live_node import LiveNode
from weight_stores import hugging_face, ollama, put
from xinference_client import RESTfulClient

from xin.client import Client
from xin.errors import BadRequest, Conflict, ModelNotFound


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def blob(home: Path, smollm2: Path) -> Path:
    """The bundled model under the names of five programs, each a link to the same bytes."""
    hugging_face(home / ".cache/huggingface/hub", "org/SmolLM2-GGUF", {"smollm2-instruct.Q4_1.gguf": smollm2})
    put(home / ".lmstudio/models/lms/SmolLM2-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf", smollm2)
    put(home / ".cache/llama.cpp/ggml-org_SmolLM2-GGUF_SmolLM2-135M-Instruct.Q4_1.gguf", smollm2)
    put(home / ".xinference/cache/smollm2-ggufv2-0_135b/model.gguf", smollm2)
    return ollama(home / ".ollama/models", "mine", "135m", smollm2, model_type="134.52M", file_type="Q4_1")


@pytest.fixture(scope="module")
def node(home: Path, blob: Path) -> Iterator[LiveNode]:
    made = LiveNode(home / "xin")
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "XINFERENCE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        made.environ.pop(name, None)
    made.environ["HOME"] = str(home)
    with made:
        yield made


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as connected:
        yield connected


def xin(node: LiveNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xin", *arguments, "--endpoint", node.url]
    return subprocess.run(
        command, env=node.environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def stored(folder: Path) -> dict[str, tuple[int, int]]:
    """(inode, blocks) of all large files."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20)
    return {str(path): (path.stat().st_ino, path.stat().st_blocks) for path in files}


def test_every_store_is_listed(client: Client):
    here = {model.model_name: model.source for model in client.local_models()}
    assert (
        here
        | {
            "mine:135m": "ollama",
            "org/SmolLM2-GGUF": "huggingface",
            "lms/SmolLM2-GGUF": "lmstudio",
            "ggml-org/SmolLM2-GGUF": "llama.cpp",
            "smollm2-ggufv2-0_135b": "xinference",
        }
        == here
    )


def test_what_ollama_stored_runs_in_place(node: LiveNode, client: Client, home: Path, blob: Path, smollm2: Path):
    before = stored(home)
    question = {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
    reply = client.chat("mine:135m", [question], max_tokens=12, temperature=0)
    assert "Paris" in str(reply.choices[0].message.content)
    instance = client.instances()[0]
    assert instance.weights == [str(blob)] and blob.suffix == ""
    mapped = Path(f"/proc/{instance.worker.pid}/maps").read_text()
    assert f"{blob.stat().st_ino} " in mapped and blob.stat().st_ino == smollm2.stat().st_ino
    assert stored(home) == before
    [file] = client.files().files
    assert file.sources == ["huggingface", "lmstudio", "llama.cpp", "ollama", "xinference", "bundled"]
    assert (file.used_by, file.size_bytes) == (["mine-135m"], smollm2.stat().st_size)
    for name in ("mine:135m", "org/SmolLM2-GGUF"):
        with pytest.raises(Conflict, match="in use by mine-135m"):
            client.remove_files(name, foreign=True)
    client.terminate("mine-135m")


def test_a_split_model_runs(client: Client, home: Path):
    """As the hub has them: links, in a folder of the repository, launched by a glob."""
    (home / "made").mkdir()
    tiny_gguf.write("llama", home / "made/tiny.Q8_0.gguf", split_after=20)
    parts = sorted((home / "made").iterdir())
    assert len(parts) > 1
    snapshot = hugging_face(home / ".cache/huggingface/hub", "org/split-GGUF", {f"Q8/{one.name}": one for one in parts})
    uid = client.launch_model("org/split-GGUF:Q8/*")
    assert client.instances()[0].weights == [str(snapshot / "Q8" / parts[0].name)]
    assert client.complete(uid, "a", max_tokens=4, ignore_eos=True).usage.completion_tokens == 4
    client.terminate(uid)


def test_removing_over_http(client: Client, home: Path):
    planned = client.remove_files("org/SmolLM2-GGUF", dry_run=True)
    assert planned.freed_bytes < 1000 and any("hard link" in kept.reason for kept in planned.kept)
    kept = client.remove_files("lms/SmolLM2-GGUF").kept
    assert kept[0].reason == "it is LM Studio's: --foreign removes it"
    assert (home / ".lmstudio/models/lms/SmolLM2-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf").exists()
    for name in ("/etc/passwd", "../x", "nothing"):
        with pytest.raises(ModelNotFound):
            client.remove_files(name)
    with pytest.raises(BadRequest):
        client.remove_files("")


def test_files_and_rm_on_the_command_line(node: LiveNode, home: Path):
    put(home / "xin/data/models/spare-1B.Q8_0.gguf")
    listed = json.loads(xin(node, "files", "--json").stdout)
    assert max(len(one["paths"]) for one in listed["files"]) == 6
    unasked = xin(node, "rm", "spare-1B.Q8_0")
    assert unasked.returncode == 2 and "--yes" in unasked.stderr and "goes" in unasked.stderr
    assert (home / "xin/data/models/spare-1B.Q8_0.gguf").exists()
    assert xin(node, "rm", "spare-1B.Q8_0", "--yes").returncode == 0
    assert not (home / "xin/data/models/spare-1B.Q8_0.gguf").exists()
    refused = xin(node, "rm", "lms/SmolLM2-GGUF", "--yes")
    assert refused.returncode == 1 and "LM Studio's" in refused.stderr


def test_registering(node: LiveNode, client: Client, home: Path, smollm2: Path):
    file = home / "mine.json"
    spec = {"model_format": "ggufv2", "model_size_in_billions": "0_135", "quantizations": ["Q4_1"]}
    spec["model_uri"] = f"file://{smollm2.parent}"
    spec["model_file_name_template"] = "SmolLM2-135M-Instruct.{quantization}.gguf"
    described = {"version": 1, "model_name": "registered", "model_lang": ["en"], "model_ability": ["chat"]}
    file.write_text(json.dumps({**described, "model_specs": [spec]}))
    assert xin(node, "register", str(file)).returncode == 0
    assert "registered" in xin(node, "registrations").stdout
    assert "registered" in {model.model_name for model in client.local_models()}
    theirs = RESTfulClient(node.url)
    assert {"model_name": "registered", "is_builtin": False} in theirs.list_model_registrations("LLM")
    assert theirs.get_model_registration("LLM", "registered")["model_specs"][0]["cache_status"] == [True]
    theirs.unregister_model("LLM", "registered")
    theirs.register_model("LLM", json.dumps({**described, "model_name": "again", "model_specs": [spec]}), True)
    assert (home / "xin/data/registered/again.json").exists()
    assert xin(node, "unregister", "registered").returncode == 3
    assert xin(node, "unregister", "again").returncode == 0
    for name in ("smollm2", "echo"):
        with pytest.raises(Conflict):
            client.register_model("LLM", json.dumps({**described, "model_name": name, "model_specs": [spec]}))
        with pytest.raises(Conflict):
            client.unregister_model("LLM", name)


def test_register_routes_refuse_what_they_cannot_do(node: LiveNode):
    bodies = [{}, {"model": ""}, {"model": 7}, {"model": "{}", "worker_ip": "10.0.0.1"}, {"model": "name = 1", "x": 1}]
    for body in bodies:
        assert node.http.post("/v1/model_registrations/LLM", json=body).status_code == 400
    assert node.http.post("/v1/model_registrations/image", json={"model": "{}"}).status_code == 400
    assert node.http.post("/api/files/remove", json={"name": "x", "force": True}).status_code == 400
    assert os.listdir(node.home / "data" / "registered") == []  # noqa: PTH208 - names are what matters

"""The engine that docs/engines.md walks a newcomer through: installed from there, held to the contract, launched."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_node import LiveNode

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
import test_contract
from worker_process import WorkerProcess

TEXT = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
CHECKS = [
    check
    for name, check in vars(test_contract).items()
    if name.startswith("test_") and list(inspect.signature(check).parameters) == ["worker"]
]


def block(language: str) -> str:
    """The first of a language behind the heading of the walk."""
    found = re.search(rf"```{language}\n(.*?)```", TEXT[TEXT.index("## Writing one") :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What pip leaves of the module and its pyproject.toml, in a folder that Python looks in."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "shout.py").write_text(block("python"), encoding="utf-8")
    project = tomllib.loads(block("toml"))["project"]
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {place}" for name, place in project["entry-points"]["xin.engines"].items()]
    (about / "entry_points.txt").write_text("[xin.engines]\n" + "\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(folder), prepend=":")
        patched.setattr(test_contract, "WITHOUT_LOGPROBS", {"shout"})
        patched.setattr(test_contract, "WITHOUT_EMBEDDINGS", {"shout"})
        yield


@pytest.fixture(scope="module")
def worker(installed: None) -> Iterator[WorkerProcess]:
    with WorkerProcess("shout", seconds=0.003) as process:
        process.ready()
        yield process


def test_it_is_short():
    assert len(block("python").splitlines()) < 60


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("test_"))
def test_the_contract(check: Callable[[WorkerProcess], None], worker: WorkerProcess):
    check(worker)


def test_a_node_launches_it(tmp_path: Path):
    with LiveNode(tmp_path / "node") as node:
        shown = xin(node, "engines", "--json")
        assert next(one for one in json.loads(shown) if one["name"] == "shout")["installed"]
        xin(node, "launch", "echo", "--engine", "shout", "--mark", "?", "--endpoint", node.url)
        body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        reply = node.http.post("/v1/chat/completions", json=body).json()
        assert reply["choices"][0]["message"]["content"] == "HELLO?"
        assert reply["usage"]["completion_tokens"] == 6
        refused = node.http.post("/v1/chat/completions", json={**body, "logprobs": True})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")
        wrong = node.http.post(
            "/v1/models", json={"model_name": "echo", "model_engine": "shout", "options": {"marc": "!"}}
        )
        assert "did you mean mark?" in wrong.text


def xin(node: LiveNode, *arguments: str) -> str:
    command = [sys.executable, "-m", "xin", *arguments]
    done = subprocess.run(
        command, env=node.environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

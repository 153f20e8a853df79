"""Plans of files on a hub: their headers come by ranges, and count as the files themselves would."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xin.catalog.spec import Fetch
from xin.errors import ModelNotFound, Unreachable
from xin.node import plan_headers
from xin.node.plan import Place, Planner
from xin.node.plan_headers import RemoteHeaders
from xin.protocol.node import Device, PlanRequest

pytest.importorskip("llama_cpp")
REPO = "someone/SmolLM2-GGUF"
CPU = Device(id="cpu", kind="cpu", name="cpu", total_bytes=2**33, free_bytes=2**33)


@dataclass
class Listed:
    path: str
    size: int


@dataclass
class Listing:
    commit: str
    files: list[Listed]


@dataclass
class FolderHub:
    """A hub whose only repository is a folder of files; it knows which bytes were asked for."""

    files_by_name: dict[str, Path]
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    down: bool = False

    async def files(self, repo: str, revision: str) -> Listing:
        if self.down:
            raise Unreachable("no hub answers")
        if repo != REPO:
            raise ModelNotFound(f"there is no {repo}")
        return Listing("c0ffee", [Listed(name, path.stat().st_size) for name, path in self.files_by_name.items()])

    async def read_range(self, repo: str, commit: str, path: str, start: int, length: int) -> bytes:
        assert (repo, commit) == (REPO, "c0ffee")
        self.asked.append((path, start, length))
        with self.files_by_name[path].open("rb") as file:
            file.seek(start)
            return file.read(length)


@pytest.fixture
def hub(smollm2: Path, tmp_path: Path) -> FolderHub:
    text = tmp_path / "text"
    text.write_text("not a model " * 1000)
    return FolderHub({"SmolLM2-135M.Q4_1.gguf": smollm2, "broken.Q8_0.gguf": text, "README.md": text})


def sizes(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_size, found.st_blocks * 512


async def test_a_header_by_ranges_counts_as_the_file_does(hub: FolderHub, smollm2: Path, tmp_path: Path):
    async def place() -> Place:
        return Place("here", [CPU])

    planner = Planner([], place)
    planner.headers = RemoteHeaders(hub, tmp_path / "headers")
    [remote] = (await planner.plan(PlanRequest(model_name=f"{REPO}:Q4_1"))).rows
    [local] = (await planner.plan(PlanRequest(model_name=str(smollm2)))).rows
    assert not remote.downloaded and local.downloaded and not remote.estimate
    for field_ in ("weights_bytes", "kv_bytes", "compute_bytes", "layers", "trained_context"):
        assert getattr(remote, field_) == getattr(local, field_), field_
    assert hub.asked == [("SmolLM2-135M.Q4_1.gguf", 0, plan_headers.FIRST_BYTES)]  # of 98 MB
    await planner.plan(PlanRequest(model_name=f"{REPO}:Q4_1"))
    assert len(hub.asked) == 1  # and once

    hub.down = True
    [unknown] = (await planner.plan(PlanRequest(model_name=f"{REPO}:Q4_1"))).rows
    assert unknown.estimate and unknown.weights_bytes == 0 and "not here" in unknown.cells[0].reason
    hub.down = False
    [rests] = (await planner.plan(PlanRequest(model_name=f"{REPO}:Q4_1"))).rows
    assert rests.estimate  # a hub that was not reached is left alone for a while
    await planner.close()


async def test_more_is_read_until_the_header_is_whole(hub: FolderHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan_headers, "FIRST_BYTES", 100_000)
    headers = RemoteHeaders(hub, tmp_path / "headers")
    path = await headers.sparse(Fetch(repo=REPO, files=["*Q4_1*.gguf"]))
    lengths = [length for _, _, length in hub.asked]
    assert path is not None and len(lengths) > 1
    assert lengths == [100_000 * 4**power for power in range(len(lengths))]
    size, on_disk = sizes(path)
    assert size == 98_362_432 and on_disk < 2 * lengths[-1]


async def test_what_is_no_model_is_given_up(hub: FolderHub, tmp_path: Path):
    headers = RemoteHeaders(hub, tmp_path / "headers")
    assert await headers.sparse(Fetch(repo=REPO, files=["broken*"])) is None
    assert len(hub.asked) <= 1 + math.log(plan_headers.MOST_BYTES / plan_headers.FIRST_BYTES, 4)
    assert await headers.sparse(Fetch(repo=REPO, files=["none*"])) is None
    assert await headers.sparse(Fetch(repo="someone/else", files=[])) is None
    assert not [path for path in (tmp_path / "headers").rglob("*") if path.is_file()]


async def test_a_repository_that_is_named_alone_is_a_row_for_each_of_its_files(hub: FolderHub, tmp_path: Path):
    async def place() -> Place:
        return Place("here", [CPU])

    planner = Planner([], place)
    planner.headers = RemoteHeaders(hub, tmp_path / "headers")
    plan = await planner.plan(PlanRequest(model_name=REPO, model_format="gguf"))
    assert {row.model_name for row in plan.rows} == {f"{REPO}:Q4_1", f"{REPO}:Q8_0"}
    assert all(row.weights_bytes for row in plan.rows)
    [one] = (await planner.plan(PlanRequest(model_name=REPO, model_format="gguf", quantization="q4_1"))).rows
    assert one.quantization == "Q4_1"
    await planner.close()

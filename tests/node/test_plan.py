"""What fits where: rows counted by llama.cpp, rows by formula, verdicts, and launches that are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_gguf
from live_node import LiveNode
from weight_stores import hugging_face

from xin.backends import engine_class
from xin.client import Client
from xin.config import NodeConfig
from xin.errors import BadRequest, LoadFailed, ModelNotFound, OutOfMemory, UsageError
from xin.node.launch_plan import make_plan
from xin.node.plan import Place, Planner
from xin.node.plan_choice import alternatives
from xin.node.plan_need import GPU_BYTES, PROCESS_BYTES, Need
from xin.node.plan_verdict import judge
from xin.node.resolve import names_file
from xin.protocol.node import Device, LaunchRequest, Plan, PlanRequest, PlanRow

MIB, GIB = 2**20, 2**30
SMOLLM2_KV = 23_040  # bytes of a token, in f16


def device(id: str, kind: str, free: int, **fields: Any) -> Device:
    return Device(id=id, kind=kind, name=id, total_bytes=64 * GIB, free_bytes=free, **fields)


@asynccontextmanager
async def planner(*devices: Device, dirs: list[str] | None = None) -> AsyncIterator[Planner]:
    async def place() -> Place:
        return Place("here", devices)

    made = Planner(dirs or [], place)
    try:
        yield made
    finally:
        await made.close()


def row_of(plan: Plan, quantization: str, format: str = "gguf") -> PlanRow:
    return next(row for row in plan.rows if (row.quantization, row.model_format) == (quantization, format))


async def test_a_file_that_is_here_is_counted_and_the_longest_context_is_found():
    async with planner(device("cpu", "cpu", 8 * GIB), device("cpu:1", "cpu", 430 * MIB)) as made:
        row = row_of(await made.plan(PlanRequest(model_name="smollm2", quantization="Q4_1")), "Q4_1")
        assert (row.estimate, row.downloaded, row.layers, row.architecture) == (False, True, 30, "llama")
        assert (row.weights_bytes, row.kv_bytes) == (96_576_768, 11_776 * SMOLLM2_KV)
        wide, tight = row.cells
        assert (wide.verdict, wide.max_context) == ("fits", 8192)
        assert wide.need_bytes == row.weights_bytes + row.kv_bytes + row.compute_bytes + row.overhead_bytes
        assert tight.verdict == "partial" and 512 <= tight.max_context < 8192
        assert str(tight.max_context) in tight.reason

        options = {"context_length": tight.max_context}
        again = row_of(await made.plan(PlanRequest(model_name="smollm2", options=options)), "Q4_1")
        assert again.cells[1].verdict == "fits"  # what it told does fit
        options = {"context_length": tight.max_context + 300}
        beyond = row_of(await made.plan(PlanRequest(model_name="smollm2", options=options)), "Q4_1")
        assert beyond.cells[1].verdict == "partial"  # and it was the longest
        children = made.runs.children
        await made.plan(PlanRequest(model_name="smollm2", options=options))
        assert made.runs.children == children == 3  # answers are kept


async def test_what_is_not_here_is_told_by_formulas():
    cpu, gpu = device("cpu", "cpu", 10 * GIB), device("cuda:0", "cuda", 8 * GIB)
    async with planner(cpu, gpu) as made:
        plan = await made.plan(PlanRequest(model_name="vicuna-v1.3", model_size_in_billions=7))
        other = await made.plan(PlanRequest(model_name="llama-2-chat:7b"))
    assert plan.estimate and all(row.estimate and not row.downloaded for row in plan.rows)
    assert [row.weights_bytes for row in plan.rows] == sorted((row.weights_bytes for row in plan.rows), reverse=True)
    for quantization, mib in (("none", 12884), ("8-bit", 6708)):
        row = row_of(plan, quantization, "pytorch")
        assert row.weights_bytes / MIB == pytest.approx(mib, rel=0.02)
        on_gpu, in_ram = row.cells
        assert on_gpu.need_bytes > row.weights_bytes and in_ram.need_bytes > 0
        assert on_gpu.verdict in ("no_engine", "no" if quantization == "none" else "partial")
    assert 0.97 <= row_of(plan, "4-bit", "pytorch").weights_bytes / MIB / 3620 <= 1.10
    on_gpu, in_ram = row_of(other, "Q4_K_M").cells
    assert (on_gpu.device_id, in_ram.device_id) == ("cuda:0", "cpu")
    assert in_ram.verdict == "fits" and in_ram.max_context == 4096


async def test_what_no_engine_loads_has_its_bytes_and_says_so(monkeypatch: pytest.MonkeyPatch):
    def known(name: str) -> Any:
        if name != "llama.cpp":
            raise UsageError(f"there is no engine {name}")
        return engine_class(name)

    monkeypatch.setattr("xin.node.plan.engine_class", known)
    async with planner(device("cpu", "cpu", 32 * GIB)) as made:
        plan = await made.plan(PlanRequest(model_name="vicuna-v1.3", model_size_in_billions=7, model_format="pytorch"))
    for row in plan.rows:
        [cell] = row.cells
        assert cell.verdict == "no_engine" and cell.reason.startswith("no engine loads this")
        assert cell.need_bytes > row.weights_bytes > 3 * GIB


def need(**fields: Any) -> Need:
    given = {"window": 8192, "trained_context": 8192, "weights": 4 * GIB, "kv": GIB, "compute": GIB // 4}
    return Need(**{**given, "layers": [GIB // 10] * 32, **fields})


def test_a_gpu_that_holds_a_part_says_how_many_layers():
    ram, gpu = device("cpu", "cpu", 8 * GIB), device("cuda:0", "cuda", 4 * GIB)
    found = judge(need(), gpu, [gpu, ram])
    count = (4 * GIB - GPU_BYTES - GIB // 4) // (GIB // 10 + GIB // 32)
    assert (found.verdict, found.n_gpu_layers) == ("partial", count)
    assert f"{count} of 32 layers" in found.reason
    little = device("cpu", "cpu", GIB)
    assert judge(need(), gpu, [gpu, little]).verdict == "no"
    whole = judge(need(), device("cuda:0", "cuda", 8 * GIB), [ram])
    assert (whole.verdict, whole.n_gpu_layers) == ("fits", 32)


def test_what_is_too_large_says_by_how_much():
    ram = device("cpu", "cpu", 5 * GIB)
    found = judge(need(), ram, [ram])
    assert (found.verdict, found.short) == ("no", need().total + PROCESS_BYTES - 5 * GIB)
    assert found.reason == "short by 0.4 GiB"
    assert judge(need(), device("cpu", "cpu", need().total + PROCESS_BYTES), [ram]).verdict == "fits"


async def test_files_of_one_model_are_rows_and_a_broken_one_says_why(tmp_path: Path, smollm2: Path):
    (tmp_path / "Model-7B.Q4_1.gguf").symlink_to(smollm2)
    (tmp_path / "Model-7B.Q8_0.gguf").write_bytes(b"GGUF" + bytes(6000))
    (tmp_path / "Other-7B.Q8_0.gguf").write_bytes(b"GGUF")
    async with planner(device("cpu", "cpu", GIB), dirs=[str(tmp_path)]) as made:
        plan = await made.plan(PlanRequest(model_name="Model-7B.Q4_1"))
        with pytest.raises(BadRequest, match="no such quantization") as caught:
            await made.plan(PlanRequest(model_name="Model-7B.Q4_1", quantization="Q2_K"))
        assert "gguf Q4_1" in (caught.value.hint or "")
    assert {row.model_name for row in plan.rows} == {"Model-7B.Q8_0", "Model-7B.Q4_1"}
    whole, broken = row_of(plan, "Q4_1"), row_of(plan, "Q8_0")
    assert whole.cells[0].verdict == "fits" and whole.error is None
    assert broken.cells[0].verdict == "no" and broken.error and broken.cells[0].reason == broken.error


async def shards(need: Need) -> str:
    return "--shard here,there" if need.layers else ""


async def test_a_launch_that_does_not_fit_is_refused_with_what_would(smollm2: Path):
    async with planner(device("cpu", "cpu", 430 * MIB)) as made:
        asked = {"n_ubatch": 512, "cache_type_k": "f16", "cache_type_v": "f16", "context_length": 8192}
        launch = make_plan(LaunchRequest(model_name="smollm2", options=asked), NodeConfig())
        with pytest.raises(OutOfMemory, match=r"short by \d+ bytes") as caught:
            await made.check_launch(launch)
        assert "--context-length" in (caught.value.hint or "") and "--force" in (caught.value.hint or "")
        made.together = shards
        with pytest.raises(OutOfMemory) as caught:
            await made.check_launch(launch)
        assert "; --shard here,there holds it together; --force" in (caught.value.hint or "")
        await made.check_launch(make_plan(LaunchRequest(model_name="smollm2", force=True), NodeConfig()))
        smaller = LaunchRequest(model_name="smollm2", options={"context_length": 2048, "kv_cells": 2048})
        await made.check_launch(make_plan(smaller, NodeConfig()))
        await made.check_launch(make_plan(LaunchRequest(model_name="echo"), NodeConfig()))


async def test_what_a_launch_leaves_open_is_chosen_so_that_it_fits():
    """516 MiB as it is: 92 of weights, 259 of keys and values, 37 of buffers, 128 of the process."""
    for free, chosen in (
        (520, {}),
        (505, {"n_ubatch": 128}),
        (430, {"n_ubatch": 128, "kv_cells": 8192}),
        (360, {"n_ubatch": 128, "kv_cells": 8192, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
    ):
        async with planner(device("cpu", "cpu", free * MIB)) as made:
            found = await made.check_launch(make_plan(LaunchRequest(model_name="smollm2"), NodeConfig()))
        assert found.options == chosen, free
        assert len(found.notes) == len(chosen.keys() - {"cache_type_v"})
        assert all("free" in note for note in found.notes)
    async with planner(device("cpu", "cpu", 240 * MIB)) as made:
        with pytest.raises(OutOfMemory):
            await made.check_launch(make_plan(LaunchRequest(model_name="smollm2"), NodeConfig()))


def test_only_what_is_open_is_changed_and_the_least_first():
    every = alternatives({}, 8192)
    assert every[0] == {"n_ubatch": 128}
    assert [change.get("context_length") for change in every] == [None, None, None, 4096, 2048]
    assert [change.get("kv_cells") for change in every] == [None, 8192, 8192, 4096, 2048]
    assert all(first.keys() <= second.keys() for first, second in pairwise(every))
    open_ = {"n_ubatch": 64, "kv_cells": 9000}
    assert alternatives({**open_, "cache_type_v": "f16", "context_length": 8192}, 8192) == []
    assert alternatives({**open_, "flash_attn": "off"}, 4096) == [{"context_length": 2048}]


def test_sliding_windows_are_cut_before_keys_lose_bits():
    every = alternatives({}, 8192, slides=True)
    assert ["swa_full" in change for change in every] == [False, False, True, True, True, True]
    assert "cache_type_k" not in every[2]
    assert alternatives({"swa_full": True}, 8192, slides=True) == alternatives({}, 8192)


async def test_on_accelerators_only_what_all_devices_together_do_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch):
    for gpu_mib, fits in ((100, False), (400, True)):
        async with planner(device("cpu", "cpu", 200 * MIB), device("cuda:0", "cuda", gpu_mib * MIB)) as made:
            count = made.runs.sizes

            async def on_gpu(path: str, options: Any, *, ladder: bool = False, count: Any = count, **more: Any) -> Any:
                return msgspec.structs.replace(await count(path, options, ladder=ladder, **more), gpu_layers=31)

            monkeypatch.setattr(made.runs, "sizes", on_gpu)
            launch = make_plan(LaunchRequest(model_name="smollm2"), NodeConfig())
            if fits:
                assert (await made.check_launch(launch)).options == {}
            else:
                with pytest.raises(OutOfMemory, match=r"short by \d+ bytes"):
                    await made.check_launch(launch)


async def test_the_node_counts_a_sliding_window_that_keeps_less(tmp_path: Path):
    path = str(tiny_gguf.write("gemma3", tmp_path / "windows.gguf"))
    async with planner(device("cpu", "cpu", GIB)) as made:
        given = [{"context_length": 4096, "n_parallel": 1, "swa_full": whole} for whole in (True, False)]
        size = await made.runs.sizes(path, given)
    whole, part = (context.kv_bytes for context in size.contexts)
    assert size.slides and 0 < part < 0.7 * whole


async def test_without_a_quantization_the_best_that_fits_is_taken(tmp_path: Path, smollm2: Path, home: Path):
    tiny = tiny_gguf.write("llama", tmp_path / "tiny.gguf")
    files: dict[str, Path | None] = {"Thing-Q8_0.gguf": smollm2, "Thing-Q2_K.gguf": tiny}
    hugging_face(home / ".cache/huggingface/hub", "org/Thing-GGUF", files)
    given = {"n_ubatch": 512, "cache_type_k": "f16", "kv_cells": 8192, "context_length": 8192}
    async with planner(device("cpu", "cpu", 430 * MIB)) as made:
        launch = make_plan(LaunchRequest(model_name="org/Thing-GGUF", options=given), NodeConfig())
        assert launch.spec.quantization == "Q8_0"
        found = await made.check_launch(launch)
        assert found.spec is not None and found.spec.quantization == "Q2_K"
        assert Path(found.spec.weights[0]).name == "Thing-Q2_K.gguf"
        assert found.notes == ["takes Q2_K: Q8_0 is too large for the 0.4 GiB free"]
        named = LaunchRequest(model_name="org/Thing-GGUF", quantization="Q8_0", options=given)
        for request in (named, LaunchRequest(model_name="org/Thing-GGUF:Q8_0", options=given)):
            with pytest.raises(OutOfMemory) as caught:
                await made.check_launch(make_plan(request, NodeConfig()))
            assert "Q2_K" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("smollm2", False),
        ("smollm2:Q4_1", True),
        ("llama-2-chat:7b", False),
        ("llama-2-chat:7b-Q4_K_M", True),
        ("vicuna-v1.3:7b-pytorch", False),
        ("org/repo", False),
        ("org/repo:Q4_K_M", True),
        ("/models/file.gguf", True),
    ],
)
def test_which_names_mean_one_file(name: str, names: bool):
    assert names_file(name) is names


@pytest.fixture
def truncated(tmp_path: Path, smollm2: Path) -> Path:
    path = tmp_path / "broken.Q4_1.gguf"
    path.write_bytes(smollm2.read_bytes()[:3_000_000])
    return path


async def test_a_launch_of_a_broken_file_is_refused(truncated: Path):
    async with planner(device("cpu", "cpu", GIB)) as made:
        launch = make_plan(LaunchRequest(model_name=str(truncated)), NodeConfig())
        with pytest.raises(LoadFailed, match="truncated or damaged"):
            await made.check_launch(launch)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("plan")) as node:
        yield node


def test_a_plan_over_http(node: LiveNode, tmp_path: Path):
    hostile = tmp_path / "hostile.Q4_0.gguf"
    hostile.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2)
    with Client(node.url) as client:
        assert client.plan("echo").rows[0].cells[-1].verdict == "fits"
        assert not client.plan("echo").estimate
        with pytest.raises(ModelNotFound):
            client.plan("no-such-model")
        with pytest.raises(BadRequest) as caught:
            client.plan("smollm2", {"context_length": "many"})
        assert caught.value.param == "options.context_length"
        with pytest.raises(BadRequest) as caught:
            client.plan("")
        assert caught.value.param == "model_name"
        row = client.plan(str(hostile)).rows[0]
        assert row.error and row.cells[-1].verdict == "no"
        with pytest.raises(LoadFailed):
            client.launch(LaunchRequest(model_name=str(hostile)))
        assert client.plan("echo").rows  # the node is well

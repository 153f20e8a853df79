from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xin.cli.arguments import model_of, pairs, split
from xin.errors import UsageError


@pytest.mark.parametrize(
    ("tokens", "words", "options"),
    [
        (["m"], ["m"], {}),
        (["m", "--n-parallel", "2"], ["m"], {"n_parallel": 2}),
        (["--n-parallel", "2", "m"], ["m"], {"n_parallel": 2}),
        (["m", "--n_parallel=2", "--name=a=b"], ["m"], {"n_parallel": 2, "name": "a=b"}),
        (["m", "--n-gpu-layers", "-1"], ["m"], {"n_gpu_layers": -1}),
        (["m", "--flash-attn"], ["m"], {"flash_attn": True}),
        (["m", "--no-mmap", "x"], ["m", "x"], {"mmap": False}),
        (["m", "--a", "--b", "true"], ["m"], {"a": True, "b": True}),
        (["m", "--lora", "/a/b.gguf", "--scale", "0.5"], ["m"], {"lora": "/a/b.gguf", "scale": 0.5}),
        (["m", "--list", "[1, 2]"], ["m"], {"list": [1, 2]}),
        (None, [], {}),
    ],
)
def test_words_and_engine_options(tokens: list[str] | None, words: list[str], options: dict[str, Any]) -> None:
    assert split(tokens) == (words, options)


def test_a_short_option_is_never_passed_on() -> None:
    with pytest.raises(UsageError, match="-x"):
        split(["m", "-x", "1"])


def test_pairs() -> None:
    assert pairs(["n-parallel=4", "type=q8_0"]) == {"n_parallel": 4, "type": "q8_0"}
    with pytest.raises(UsageError, match="key=value"):
        pairs(["n_parallel"])


def test_forms_of_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "real.gguf").touch()
    (tmp_path / "link.gguf").symlink_to("sub/real.gguf")
    for name in ("smollm2", "org/repo", "org/repo:Q4_K_M", "org/repo:file.gguf", "org/repo-1.5.GGUF-x"):
        assert model_of(name) == name
    assert model_of("sub/real.gguf") == str(tmp_path / "sub" / "real.gguf")
    assert model_of("link.gguf") == str(tmp_path / "link.gguf"), "the link's name tells the model"
    assert model_of("./smollm2") == str(tmp_path / "smollm2")
    assert model_of("../x.gguf") == str(tmp_path.parent / "x.gguf")
    assert model_of("~/x.gguf") == str(Path.home() / "x.gguf")

"""From what a person typed to a model, and what is said when there is none."""

from __future__ import annotations

import shutil

import pytest

from xin.catalog.spec import families
from xin.errors import BadRequest, ModelNotFound
from xin.node import gguf_file
from xin.node.local_models import known_models, made_models_dir
from xin.node.resolve import resolve


def gguf(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF\x03\0\0\0")
    return path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face cache with one repository in it."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    repo = tmp_path / "hf/hub/models--org--tiny-GGUF"
    commit = "0" * 39 + "1"
    for name in ("tiny-1B.Q4_K_M.gguf", "sub/tiny-1B.Q8_0.gguf", "mmproj-tiny.gguf"):
        gguf(repo / "snapshots" / commit / name)
    gguf(repo / "snapshots" / "old" / "tiny-1B.F16.gguf")
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text(commit)
    return repo


def test_the_bundled_model_needs_no_hub(smollm2):
    spec = resolve("smollm2")
    assert (spec.engine, spec.format, spec.quantization, spec.weights) == ("llama.cpp", "gguf", "Q4_1", [str(smollm2)])
    assert resolve("smollm2", size="0_135", quantization="q4_1", format="GGUF") == spec
    assert resolve("smollm2", size="135M") == spec


@pytest.mark.parametrize(
    ("fields", "param", "there"),
    [
        ({"size": 7}, "model_size_in_billions", "0.135"),
        ({"size": "big"}, "model_size_in_billions", "135M"),
        ({"format": "ggml"}, "model_format", "gguf"),
        ({"quantization": "Q2_K"}, "quantization", "Q4_1"),
    ],
)
def test_what_does_not_fit_is_named_with_what_there_is(fields, param, there):
    with pytest.raises(BadRequest) as caught:
        resolve("smollm2", **fields)
    assert caught.value.param == param and there in caught.value.hint


def test_an_unknown_name_has_a_hint():
    with pytest.raises(ModelNotFound, match="'smollm'") as caught:
        resolve("smollm")
    assert (
        caught.value.hint is not None and "did you mean smollm" in caught.value.hint and "smollm2" in caught.value.hint
    )
    with pytest.raises(ModelNotFound) as far:
        resolve("qqqqqq")
    assert far.value.hint == "xin list --all shows those that there are"


def test_a_path_is_the_model(tmp_path):
    path = gguf(tmp_path / "My-Model-7B.Q4_K_M.gguf")
    spec = resolve(str(path))
    assert (spec.name, spec.quantization, spec.size_in_billions) == ("My-Model-7B.Q4_K_M", "Q4_K_M", 7.0)
    assert spec.weights == [str(path)] and spec.chat_sibling is None
    assert resolve(str(tmp_path)).weights == [str(path)]  # the only one in its folder
    assert resolve("mine", model_path=str(path)).name == "mine"
    with pytest.raises(BadRequest) as caught:
        resolve(str(path), quantization="Q8_0")
    assert (caught.value.param, caught.value.hint) == ("quantization", "there is: Q4_K_M")


def test_a_name_that_does_not_tell_leaves_it_to_the_launch(tmp_path):
    path = gguf(tmp_path / "model.gguf")
    assert resolve(str(path)).quantization == "unknown"
    spec = resolve(str(path), quantization="Q5_0", size=3)
    assert (spec.quantization, spec.size_in_billions) == ("Q5_0", 3.0)


def test_a_base_model_knows_its_chat_sibling(tmp_path):
    assert resolve(str(gguf(tmp_path / "SmolLM2-135M.Q8_0.gguf"))).chat_sibling == "smollm2"
    instruct = resolve(str(gguf(tmp_path / "SmolLM2-360M-Instruct.Q8_0.gguf")))
    assert instruct.chat_sibling is None and "chat" in instruct.abilities


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"once upon a time\n", "a text file"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"PK\x03\x04\x00", "a zip archive"),
        (b"tjgg\x03\0\0\0", "an old GGML file"),
        (b'\x40\0\0\0\0\0\0\0{"a":', "a safetensors file"),
        (b"\xff\xfe\x00\x01", "unknown data (it starts with ff fe 00 01)"),
    ],
)
def test_what_is_no_gguf_is_said(tmp_path, head, words):
    path = tmp_path / "model.gguf"
    path.write_bytes(head)
    with pytest.raises(BadRequest) as caught:
        resolve(str(path))
    assert f"is not a GGUF: it is {words}" in caught.value.message


def test_a_missing_file_names_its_neighbours(tmp_path):
    gguf(tmp_path / "there.gguf")
    with pytest.raises(ModelNotFound) as caught:
        resolve(str(tmp_path / "their.gguf"))
    assert caught.value.message == f"there is no file {tmp_path}/their.gguf"
    assert caught.value.hint == f"{tmp_path} holds: there.gguf"
    with pytest.raises(BadRequest, match="whole path"):
        resolve("their.gguf")


def test_a_split_model_loads_by_any_part_and_needs_them_all(tmp_path):
    parts = [gguf(tmp_path / f"big-70B.Q4_0-0000{n}-of-00003.gguf") for n in (1, 2, 3)]
    spec = resolve(str(parts[1]))
    assert (spec.name, spec.weights, spec.quantization) == ("big-70B.Q4_0", [str(parts[0])], "Q4_0")
    parts[2].unlink()
    with pytest.raises(ModelNotFound, match="00003-of-00003") as caught:
        resolve(str(parts[0]))
    assert "all its parts" in caught.value.hint


def test_files_of_model_dirs_go_by_their_names(tmp_path):
    path = gguf(tmp_path / "sub/Nice-1B.Q8_0.gguf")
    for name in ("Nice-1B.Q8_0", "Nice-1B.Q8_0.gguf"):
        assert resolve(name, model_dirs=[str(tmp_path)]).weights == [str(path)]
    assert "Nice-1B.Q8_0" in [model.model_name for model in known_models([str(tmp_path)])]


def test_a_cached_repository(hub):
    current = hub / "snapshots" / ("0" * 39 + "1")
    best = current / "sub/tiny-1B.Q8_0.gguf"
    assert resolve("org/tiny-GGUF").weights == resolve("org/tiny-GGUF:*Q8*").weights == [str(best)]
    for name in ("org/tiny-GGUF:tiny-1B.Q4_K_M.gguf", "org/tiny-GGUF:q4_k_m"):
        assert resolve(name).weights == [str(current / "tiny-1B.Q4_K_M.gguf")]
    assert resolve("org/tiny-GGUF", quantization="Q8_0").weights == [str(current / "sub/tiny-1B.Q8_0.gguf")]
    missing = resolve("org/tiny-GGUF:other.gguf")
    assert missing.weights == [] and missing.fetch is not None and missing.fetch.files == ["other.gguf"]
    other = gguf(current / "another-2B.Q8_0.gguf")
    with pytest.raises(BadRequest, match="holds 2 models") as several:
        resolve("org/tiny-GGUF")
    assert "another-2B.Q8_0.gguf" in several.value.hint
    other.unlink()
    shutil.rmtree(hub / "refs")
    assert resolve("org/tiny-GGUF").quantization  # else the newest snapshot


def test_a_repository_that_is_not_cached_is_fetched(hub):
    spec = resolve("org/other:x.gguf")
    assert (spec.weights, spec.format) == ([], "gguf")
    assert spec.fetch is not None and (spec.fetch.repo, spec.fetch.files) == ("org/other", ["x.gguf"])


def test_known_names_resolve_to_themselves(hub, tmp_path):
    gguf(tmp_path / "dir/Nice-1B.Q8_0.gguf")
    models = known_models([str(tmp_path / "dir")])
    names = [model.model_name for model in models]
    assert {"echo", "smollm2", "Nice-1B.Q8_0", "org/tiny-GGUF:sub/tiny-1B.Q8_0.gguf"} <= set(names)
    for model in models:
        assert resolve(model.model_name, model_dirs=[str(tmp_path / "dir")]).weights == model.weights
    bundled = next(model for model in models if model.model_name == "smollm2")
    assert (bundled.source, bundled.size_bytes) == ("bundled", 98_362_432)


def test_the_catalogue_follows_its_schema():
    for name, family in families().items():
        assert family.name == name and family.variants and family.description


@pytest.mark.parametrize(
    ("name", "quantization", "size"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", 0.135),
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "Q4_K_M", 7.0),
        ("gemma-3-270m-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", 0.27),
        ("Mixtral-8x7B-v0.1.IQ2_XXS.gguf", "IQ2_XXS", None),
        ("tiny-1.5b-f16.gguf", "F16", 1.5),
        ("model.gguf", "unknown", None),
    ],
)
def test_file_names_tell(name, quantization, size):
    assert (gguf_file.quantization_of(name), gguf_file.size_of(name)) == (quantization, size)


def test_what_was_made_here_serves_a_catalogued_quantization():
    path = gguf(made_models_dir() / "SmolLM2-135M-Instruct.Q8_0.gguf")
    assert resolve("smollm2:Q8_0").weights == resolve("smollm2", quantization="q8_0").weights == [str(path)]
    assert resolve("smollm2").quantization == "Q4_1"

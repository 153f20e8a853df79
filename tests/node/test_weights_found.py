"""Weights that other programs have fetched are found where they lie, under the names that people know them by."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from weight_stores import COMMIT, MODEL, hugging_face, ollama, put, safetensors

from xin.errors import BadRequest, ModelNotFound
from xin.node.job_quantize import QuantizeJob, QuantizeOrder
from xin.node.local_models import known_models
from xin.node.quantization_choice import chosen_files, with_projector
from xin.node.resolve import resolve
from xin.node.weights_files import weight_files

pytestmark = pytest.mark.usefixtures("home")


def names() -> dict[str, str]:
    return {model.model_name: model.source for model in known_models([])}


def test_ollama_models_go_by_the_names_that_ollama_gives_them(home):
    root = home / ".ollama/models"
    blob = ollama(root, "smollm2", "135m", model_type="134.52M", file_type="F16")
    ollama(root, "registry.ollama.ai/someone/theirs", "latest")
    ollama(root, "hf.co/org/tiny-GGUF", "Q4_K_M")
    assert {"smollm2:135m", "someone/theirs:latest", "hf.co/org/tiny-GGUF:Q4_K_M"} <= set(names())
    spec = resolve("smollm2:135m")
    assert (spec.weights, spec.quantization, spec.size_in_billions) == ([str(blob)], "F16", 0.13452)
    assert "chat" in spec.abilities and spec.chat_sibling is None  # the catalogue knows the family of that name
    assert resolve("someone/theirs").name == "someone/theirs:latest"
    for name in ("org/tiny-GGUF", "org/tiny-GGUF:q4_k_m", "hf.co/org/tiny-GGUF:Q4_K_M"):
        assert resolve(name).name == "hf.co/org/tiny-GGUF:Q4_K_M"
    with pytest.raises(BadRequest, match="no quantization Q8_0"):
        resolve("smollm2:135m", quantization="Q8_0")
    note = next(model.description for model in known_models([]) if model.model_name == "smollm2:135m")
    assert note == "Ollama's template, parameters of it not used: the file's own template is"


def test_the_catalogue_stands_before_other_stores(home, smollm2):
    ollama(home / ".ollama/models", "smollm2", "q4_1")
    assert resolve("smollm2").weights == resolve("smollm2:Q4_1").weights == [str(smollm2)]
    assert resolve("smollm2:135m").weights == [str(smollm2)]  # by size: Ollama has none of that name here
    blob = ollama(home / ".ollama/models", "smollm2", "135m")
    assert resolve("smollm2:135m").weights == [str(blob)]


def test_lm_studio_and_llama_cpp_know_repositories(home):
    studio = put(home / ".lmstudio/models/org/nice-GGUF/nice-1B.Q4_K_M.gguf")
    older = put(home / ".cache/lm-studio/models/org/nice-GGUF/nice-1B.Q8_0.gguf")
    cached = put(home / ".cache/llama.cpp/ggml-org_tiny-GGUF_tiny-1B-Q4_0.gguf")
    put(home / ".cache/llama.cpp/my_org_with_lines_tiny-2B-Q8_0.gguf")
    (home / ".cache/llama.cpp/manifest=my=org_with_lines=latest.json").write_text("not read")
    assert names() | {"org/nice-GGUF:nice-1B.Q4_K_M.gguf": "lmstudio", "ggml-org/tiny-GGUF": "llama.cpp"} == names()
    assert names()["my/org_with_lines"] == "llama.cpp"
    assert resolve("org/nice-GGUF:nice-1B.Q4_K_M.gguf").weights == [str(studio)]
    assert resolve("org/nice-GGUF").weights == [str(older)]  # the best quantization of one model
    assert resolve("ggml-org/tiny-GGUF").weights == resolve("ggml-org/tiny-GGUF:*Q4_0*").weights == [str(cached)]


def test_xinference_folders_of_links(home):
    blob = put(home / "elsewhere/weights")
    folder = home / ".xinference/cache/v2/mine-ggufv2-1_8b-Q4_K_M"
    folder.mkdir(parents=True)
    (folder / "mine-1.8B.Q4_K_M.gguf").symlink_to(blob)
    (folder / "loop").symlink_to(folder)
    spec = resolve("mine-ggufv2-1_8b-Q4_K_M")
    assert (spec.weights, spec.size_in_billions) == ([str(folder / "mine-1.8B.Q4_K_M.gguf")], 1.8)


def test_safetensors_are_for_the_transformers_engine(home):
    folder = safetensors(home / "m/mini", shards=3)
    spec = resolve(str(folder))
    assert (spec.format, spec.engine, spec.quantization) == ("pytorch", "transformers", "none")
    assert (spec.weights, spec.abilities) == ([str(folder)], ["chat", "generate"])
    assert resolve("mini", model_dirs=[str(home / "m")], quantization="4-bit").quantization == "4-bit"
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="00002-of-00003"):
        resolve(str(folder))
    assert "mini" not in {model.model_name for model in known_models([str(home / "m")])}


def test_what_is_wrong_with_a_folder_is_said(home):
    folder = home / "repo"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(BadRequest, match=r"only as Python pickles \(\.bin\)"):
        resolve(str(folder))
    (folder / "model.safetensors").write_bytes(b"\xff" * 16)
    with pytest.raises(BadRequest, match=r"has no config\.json"):
        resolve(str(folder))
    (folder / "config.json").write_text("{}")
    with pytest.raises(BadRequest, match="is not a safetensors file"):
        resolve(str(folder))


def test_a_cached_repository_of_safetensors_and_one_to_fetch(home):
    cache = home / ".cache/huggingface/hub"
    snapshot = hugging_face(cache, "org/mini", {})
    safetensors(snapshot, "BertModel")
    spec = resolve("org/mini")
    assert (spec.format, spec.weights, spec.abilities) == ("pytorch", [str(snapshot)], ["embed"])
    assert spec.fetch is None
    other = resolve("org/mini-GGUF:Q4_K_M")
    assert other.weights == [] and other.fetch is not None
    assert (other.fetch.repo, other.format, other.quantization) == ("org/mini-GGUF", "gguf", "Q4_K_M")
    assert "*Q4_K_M*.gguf" in other.fetch.files
    glob = resolve("org/mini-GGUF:*q8*.gguf").fetch
    assert glob is not None and glob.files == ["*q8*.gguf"]


def test_split_models_are_one(home):
    cache = home / ".cache/huggingface/hub"
    parts = [f"big-70B.Q4_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    snapshot = hugging_face(cache, "org/big-GGUF", dict.fromkeys(parts))
    assert resolve("org/big-GGUF").weights == resolve("org/big-GGUF:Q4_0").weights == [str(snapshot / parts[0])]
    files = weight_files([], {})
    assert [one.model_names for one in files if one.size_bytes == 8] == [["org/big-GGUF"], ["org/big-GGUF"]]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("", ["m.Q4_K_M.gguf"]),
        ("q8_0", ["m.Q8_0-00001-of-00002.gguf", "m.Q8_0-00002-of-00002.gguf"]),
        ("*Q3*", ["m.Q3_K_S.gguf"]),
        ("m.Q3_K_S.gguf", ["m.Q3_K_S.gguf"]),
        ("F64", []),
    ],
)
def test_what_to_fetch_of_a_repository(wanted, chosen):
    parts = ["m.Q8_0-00001-of-00002.gguf", "m.Q8_0-00002-of-00002.gguf"]
    listing = ["README.md", "m.F16.gguf", "m.Q3_K_S.gguf", "m.Q4_K_M.gguf", *parts, "mmproj-F16.gguf"]
    assert chosen_files(listing, wanted) == chosen


def test_a_projector_comes_with_its_model():
    listing = ["m.Q4_K_M.gguf", "m.Q8_0.gguf", "mmproj-F32.gguf", "mmproj-F16.gguf", "more/mmproj-BF16.gguf"]
    assert with_projector(listing, chosen_files(listing)) == ["m.Q4_K_M.gguf", "mmproj-F16.gguf"]
    assert with_projector(listing, ["mmproj-F32.gguf"]) == ["mmproj-F32.gguf"]
    assert with_projector(["config.json", "model.safetensors"], ["config.json"]) == ["config.json"]


def test_what_to_fetch_of_safetensors():
    listing = ["config.json", "model.safetensors", "onnx/model.onnx", "pytorch_model.bin", "tokenizer.json"]
    assert chosen_files(listing) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert chosen_files(["config.json", "pytorch_model.bin"]) == []


def test_hostile_stores_do_no_harm(home, monkeypatch):
    """Skipped, each of them, and what stands beside them is found."""
    root = home / ".ollama/models"
    ollama(root, "good", "1b")
    library = root / "manifests/registry.ollama.ai/library"
    bad = {
        "climbs": {"layers": [{"mediaType": MODEL, "digest": "sha256:../../../../etc/passwd"}]},
        "digest": {"layers": [{"mediaType": MODEL, "digest": 7}]},
        "layers": {"layers": {"mediaType": MODEL}},
        "gone": {"layers": [{"mediaType": MODEL, "digest": f"sha256:{'0' * 64}"}]},
        "list": [],
    }
    for name, content in bad.items():
        (library / name).mkdir()
        (library / name / "latest").write_text(json.dumps(content))
    for name, data in {"huge": b" " * (2 << 20), "deep": b"[" * 100_000, "binary": b"\xff\xfe\0", "empty": b""}.items():
        (library / name).mkdir()
        (library / name / "latest").write_bytes(data)
    (library / "loop").symlink_to(library)
    (library / "self").symlink_to("self")
    (library / "fifo").mkdir()
    os.mkfifo(library / "fifo/latest")
    os.mkfifo(home / "pipe.gguf")
    (library / "esc\x1b[2J").mkdir()
    (library / "esc\x1b[2J/latest").write_text("{}")
    Path(os.fsdecode(os.fsencode(home) + b"/.lmstudio/models/org/\xff\xfe")).mkdir(parents=True)
    snapshots = home / ".cache/huggingface/hub/models--org--x/snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / "a").symlink_to(snapshots)
    (snapshots.parent / "refs").mkdir()
    (snapshots.parent / "refs/main").symlink_to("/dev/zero")
    other = home / ".cache/huggingface/hub/models--org--y"
    (other / "snapshots").mkdir(parents=True)
    (other / "refs").mkdir()
    os.mkfifo(other / "refs/main")
    found = names()
    assert found["good:1b"] == "ollama"
    assert {name for name, source in found.items() if source not in ("bundled", "built-in")} == {"good:1b"}
    with pytest.raises(ModelNotFound):
        resolve("climbs")
    assert all("passwd" not in str(one.real) for one in weight_files([str(home)], {}))


def test_a_pinned_revision_of_a_catalogued_repository(home):
    from xin.catalog.registered import register
    from xin.catalog.spec import Family, Source, Variant

    old = "a" * 40
    cache = home / ".cache/huggingface/hub"
    hugging_face(cache, "org/pinned-GGUF", {"old-7B.Q4_0.gguf": None}, old)
    snapshot = hugging_face(cache, "org/pinned-GGUF", {"new-7B.Q4_0.gguf": None}, COMMIT)
    at = Source(kind="huggingface", repo="org/pinned-GGUF", revision=old, file="old-7B.Q4_0.gguf")
    variant = Variant(format="gguf", engine="llama.cpp", quantization="Q4_0", source=at)
    register(Family(name="pinned", description="", variants=[variant]))
    assert resolve("pinned").weights == [str(snapshot.parent / old / "old-7B.Q4_0.gguf")]
    assert resolve("pinned").fetch is None


def test_a_quantization_of_what_ollama_stored_has_its_name(home):
    ollama(home / ".ollama/models", "registry.ollama.ai/someone/mine", "1b")
    job = QuantizeJob(QuantizeOrder(source="someone/mine:1b", quantization="q8_0"), model_dirs=[], threads=1)
    job.prepare()
    assert job._target.name == "someone-mine-1b.Q8_0.gguf"
    absent = QuantizeJob(QuantizeOrder(source="org/absent-GGUF", quantization="q8_0"), model_dirs=[], threads=1)
    with pytest.raises(ModelNotFound, match="not on this machine"):
        absent.prepare()

"""What `xin files` counts and `xin rm` removes: each file once, nothing of others, never outside a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from weight_stores import hugging_face, ollama, put

from xin.errors import BadRequest, Conflict, ModelNotFound
from xin.node.weights_files import weight_files
from xin.node.weights_folders import made_models_dir
from xin.node.weights_removal import plan_removal, remove

MIB = 1 << 20


pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Two MiB that begin as a GGUF does."""
    file = tmp_path / "source"
    file.write_bytes(b"GGUF" + bytes(2 * MIB - 4))
    return file


@pytest.fixture
def hub(home: Path) -> Path:
    return home / ".cache/huggingface/hub"


def planned(name, *, foreign=False, model_dirs=(), in_use=None):
    return plan_removal(str(name), foreign=foreign, model_dirs=model_dirs, in_use=in_use or {})


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_is_shared_counts_once(home, hub, weights):
    put(home / ".lmstudio/models/org/tiny-GGUF/tiny-1B.Q8_0.gguf", weights)
    snapshot = hugging_face(hub, "org/tiny-GGUF", {"tiny-1B.Q8_0.gguf": weights})
    ollama(home / ".ollama/models", "tiny", "1b", weights)
    folder = home / ".xinference/cache/tiny-ggufv2-1b"
    folder.mkdir(parents=True)
    (folder / "tiny.gguf").symlink_to(snapshot / "tiny-1B.Q8_0.gguf")
    running = {"run": [str(snapshot / "tiny-1B.Q8_0.gguf")]}
    found = [one for one in weight_files([], running) if one.size_bytes == 2 * MIB]
    assert len(found) == 1
    shown = found[0].shown()
    assert shown.sources == ["huggingface", "lmstudio", "ollama", "xinference"]
    assert shown.used_by == ["run"] and len(shown.paths) == 4
    assert shown.model_names == ["org/tiny-GGUF", "tiny:1b", "tiny-ggufv2-1b"]


def test_a_repository_goes_whole_and_frees_its_blobs(hub, weights):
    snapshot = hugging_face(hub, "org/a-GGUF", {"a-1B.Q8_0.gguf": None, "README.md": None, "a-1B.Q4_0.gguf": None})
    blob = Path(os.path.realpath(snapshot / "a-1B.Q8_0.gguf"))
    blob.write_bytes(weights.read_bytes())
    hugging_face(hub, "org/b-GGUF", {"b.gguf": None})
    before = everything(hub / "models--org--b-GGUF")
    one = planned("org/a-GGUF:a-1B.Q8_0.gguf")
    assert ([*one.gone], one.freed_bytes) == ([snapshot / "a-1B.Q8_0.gguf", blob], 2 * MIB)
    remove(one)
    assert not blob.exists() and (snapshot / "a-1B.Q4_0.gguf").exists() and (snapshot / "README.md").exists()
    remove(planned("org/a-GGUF"))
    assert not (hub / "models--org--a-GGUF").exists()
    assert everything(hub / "models--org--b-GGUF") == before


def test_an_older_revision_of_the_same_bytes_goes_too(hub):
    old, new = (hugging_face(hub, "org/a-GGUF", {"a.Q8_0.gguf": None}, commit) for commit in ("a" * 40, "b" * 40))
    remove(planned(new / "a.Q8_0.gguf"))
    assert not (old / "a.Q8_0.gguf").is_symlink() and not (new / "a.Q8_0.gguf").is_symlink()


def test_a_hard_link_elsewhere_holds_the_bytes(hub, weights):
    snapshot = hugging_face(hub, "org/a-GGUF", {"a.Q8_0.gguf": weights})
    plan = planned("org/a-GGUF")
    assert plan.freed_bytes < 100 and "hard link" in plan.kept[0].reason
    remove(plan)
    assert weights.stat().st_size == 2 * MIB and not snapshot.exists()


def test_what_another_store_leads_to_stays(home, hub):
    snapshot = hugging_face(hub, "org/a-GGUF", {"a.Q8_0.gguf": None})
    folder = home / ".xinference/cache/a-ggufv2-1b"
    folder.mkdir(parents=True)
    (folder / "a.gguf").symlink_to(snapshot / "a.Q8_0.gguf")
    plan = planned("org/a-GGUF")
    assert not plan.gone and plan.kept[0].reason == f"{folder / 'a.gguf'} leads to it"
    remove(planned("a-ggufv2-1b", foreign=True))
    assert not folder.exists() and (snapshot / "a.Q8_0.gguf").exists()


def test_other_programs_files_go_only_when_asked_for(home):
    file = put(home / ".lmstudio/models/org/tiny-GGUF/tiny-1B.Q8_0.gguf")
    mine = put(home / "mine/own-1B.Q8_0.gguf")
    for name, model_dirs in (("org/tiny-GGUF", []), (mine, [str(home / "mine")])):
        plan = planned(name, model_dirs=model_dirs)
        assert not plan.gone and "--foreign" in plan.kept[0].reason
    remove(planned("org/tiny-GGUF", foreign=True))
    assert not file.exists() and (home / ".lmstudio/models").is_dir() and not file.parent.parent.exists()
    made = put(made_models_dir() / "made.Q8_0.gguf")
    remove(planned("made.Q8_0"))
    assert not made.exists()


def test_ollama_blobs_that_two_models_have_stay_until_both_go(home, weights):
    root = home / ".ollama/models"
    blob = ollama(root, "tiny", "1b", weights)
    ollama(root, "tiny", "latest", weights)
    plan = planned("tiny:1b", foreign=True)
    assert [path.name for path in plan.gone] == ["1b"] and plan.kept[0].reason == "tiny:latest is made of it too"
    remove(plan)
    assert blob.exists()
    remove(planned("tiny:latest", foreign=True))
    assert everything(root) <= {"blobs", "manifests"}


def test_what_runs_is_not_removed(hub):
    snapshot = hugging_face(hub, "org/big-GGUF", {f"big.Q4_0-0000{n}-of-00002.gguf": None for n in (1, 2)})
    running = {"busy": [str(snapshot / "big.Q4_0-00001-of-00002.gguf")]}
    for target in ("org/big-GGUF", snapshot / "big.Q4_0-00002-of-00002.gguf"):
        with pytest.raises(Conflict, match="in use by busy") as caught:
            planned(target, in_use=running)
        assert caught.value.hint == "end it first: xin terminate busy"


def test_nothing_else_can_be_named(home, hub, smollm2):
    hugging_face(hub, "org/a-GGUF", {"a.gguf": None})
    secret = home / "secret.gguf"
    put(secret)
    (home / "secret.txt").write_text("x")
    ref, climbing = hub / "models--org--a-GGUF/refs/main", hub / "../../../secret.gguf"
    for target in (secret, home / "secret.txt", hub, ref, climbing, smollm2):
        with pytest.raises(ModelNotFound):
            planned(target)
    with pytest.raises(BadRequest, match="installed package"):
        planned("smollm2")
    with pytest.raises(ModelNotFound):
        planned("nothing")


def test_links_are_never_followed_out_of_a_store(home, hub):
    """A linked folder, a link to a file outside, and a folder that becomes a link after the preview."""
    outside = put(home / "outside/keep.gguf")
    snapshot = hugging_face(hub, "org/a-GGUF", {"sub/a.Q8_0.gguf": None})
    (snapshot / "stolen.gguf").symlink_to(outside)
    (snapshot / "all").symlink_to(outside.parent)
    plan = planned("org/a-GGUF:stolen.gguf")
    assert [*plan.gone] == [snapshot / "stolen.gguf"] and plan.freed_bytes == 0
    remove(plan)
    assert outside.exists() and not (snapshot / "stolen.gguf").is_symlink()
    put(outside.parent / "a.Q8_0.gguf")
    late = planned("org/a-GGUF")
    (snapshot / "sub").rename(home / "moved")
    (snapshot / "sub").symlink_to(outside.parent)
    remove(late)
    assert (outside.parent / "a.Q8_0.gguf").exists() and outside.exists()
    assert any("not in its store" in kept.reason for kept in late.kept)


def test_left_overs_of_downloads_are_listed(hub, weights):
    hugging_face(hub, "org/a-GGUF", {"a.gguf": None})
    orphan = put(hub / "models--org--a-GGUF/blobs/abc.incomplete", weights)
    found = next(one for one in weight_files([], {}) if one.real == orphan)
    assert found.model_names == [] and found.size_bytes == 2 * MIB
    remove(planned(orphan))
    assert not orphan.exists()

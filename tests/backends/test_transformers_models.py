"""The transformers engine on tiny models of many architectures, in this process, against `generate` itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_causal
import torch
from safetensors.torch import load_file, save_file

from xin.backends.base import Output, Request, Weights
from xin.backends.transformers.engine import TransformersEngine
from xin.errors import BadRequest, LoadFailed, XinError
from xin.worker.frames import Sampling

pytestmark = pytest.mark.filterwarnings("default")  # what libraries warn of is theirs
TO_THE_END = Sampling(temperature=0.0, ignore_eos=True)
PROMPTS = ["A", "a longer prompt than the first", "one that is read in slices, " * 5, "four"]


def load(folder: Path, quantization: str | None = None, **options: Any) -> TransformersEngine:
    options = {"context_length": 256, "n_parallel": 4, "n_batch": 48, "threads": 1, "device": "cpu", **options}
    weights = Weights([str(folder)], "tiny", quantization=quantization)
    return TransformersEngine.load(weights, TransformersEngine.Options(**options), lambda fraction, stage: None)


def run(engine: TransformersEngine, *requests: Request) -> dict[int, list[Output]]:
    for request in requests:
        engine.submit(request)
    found: dict[int, list[Output]] = {request.id: [] for request in requests}
    for output in steps(engine):
        found[output.request_id].append(output)
    return found


def steps(engine: TransformersEngine) -> Iterator[Output]:
    while engine.busy():
        for output in engine.step():
            assert output.error is None, output.error
            yield output


def text(outputs: list[Output]) -> bytes:
    return b"".join(output.piece for output in outputs)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def made(folders: Path, architecture: str) -> Path:
    folder = folders / architecture
    return folder if folder.exists() else tiny_causal.write(folder, architecture)


@pytest.mark.parametrize("architecture", tiny_causal.ARCHITECTURES)
def test_a_ragged_batch_gives_what_generate_gives_for_each_alone(folders: Path, architecture: str) -> None:
    engine = load(made(folders, architecture))
    prompts = [engine.tokenize(prompt, False, False) for prompt in PROMPTS]
    found = run(engine, *(Request(i, tokens, TO_THE_END, 24) for i, tokens in enumerate(prompts)))
    again = run(engine, *(Request(i, tokens, TO_THE_END, 24) for i, tokens in enumerate(prompts)))
    for i, tokens in enumerate(prompts):
        expected = engine._model.generate(
            torch.tensor([tokens]), max_new_tokens=24, do_sample=False, suppress_tokens=[256, 258]
        )
        assert text(found[i]) == b"".join(map(engine._vocabulary.piece, expected[0, len(tokens) :].tolist())), PROMPTS[
            i
        ]
        assert text(again[i]) == text(found[i])
    assert found[2][0].cached_tokens == 0 and again[2][0].cached_tokens > 100
    engine.close()


def test_a_full_cache_sends_the_youngest_back_and_all_end_the_same(folders: Path) -> None:
    engine = load(made(folders, "llama"), prefix_cache=0)
    prompts = [engine.tokenize(prompt, False, False) for prompt in ("first one", "second", "the third")]
    alone = [text(run(engine, Request(9, tokens, TO_THE_END, 60))[9]) for tokens in prompts]
    tight = load(made(folders, "llama"), prefix_cache=0, kv_cells=150)
    found = run(tight, *(Request(i, tokens, TO_THE_END, 60) for i, tokens in enumerate(prompts)))
    assert [text(found[i]) for i in range(3)] == alone
    assert all(sum(output.tokens for output in outputs) == 60 for outputs in found.values())


def test_what_was_said_counts_when_the_history_comes_back(folders: Path) -> None:
    engine = load(made(folders, "llama"))
    tokens = engine.tokenize("Tell me something about trees.", False, False)
    said = text(run(engine, Request(1, tokens, TO_THE_END, 20))[1])
    history = [*tokens, *engine.tokenize(said.decode("utf-8", "replace"), False, False)[:8]]
    follow_up = run(engine, Request(2, [*history, *engine.tokenize(" And?", False, False)], TO_THE_END, 4))
    assert follow_up[2][0].cached_tokens >= len(tokens)


def test_choices_share_the_reading_of_their_prompt(folders: Path) -> None:
    engine = load(made(folders, "llama"), n_parallel=3, prefix_cache=0)
    tokens = engine.tokenize("How many are we?", False, False)
    hot = Sampling(temperature=1.0, seed=7, ignore_eos=True, top_k=20, top_p=0.9, min_p=0.01, typical_p=0.95)
    found = run(engine, Request(1, tokens, hot, 12, n=5))[1]
    texts = [b"".join(output.piece for output in found if output.index == i) for i in range(5)]
    assert len(set(texts)) > 1
    third = run(engine, Request(2, tokens, hot, 12, n=5))[2]
    assert [b"".join(output.piece for output in third if output.index == i) for i in range(5)] == texts


def test_a_cancelled_choice_says_nothing_more(folders: Path) -> None:
    engine = load(made(folders, "llama"))
    tokens = engine.tokenize("Go on and on", False, False)
    engine.submit(Request(1, tokens, TO_THE_END, 100, n=2))
    engine.submit(Request(2, tokens, TO_THE_END, 10))
    seen: list[tuple[int, int]] = []
    for i, output in enumerate(steps(engine)):
        seen.append((output.request_id, output.index))
        if i == 6:
            engine.cancel(1, 1)
            seen.clear()
        if i == 12:
            engine.cancel(1)
            seen.clear()
    assert (1, 0) not in seen and (1, 1) not in seen and engine.load_now().running == 0


@pytest.mark.parametrize(
    ("quantization", "layer", "smallest", "largest"),
    [("8-bit", "Linear8bitLt", 0.25, 0.5), ("4-bit", "Linear4bit", 0.12, 0.4)],
)
def test_a_quantization_changes_the_layers_and_what_they_take(
    folders: Path, quantization: str, layer: str, smallest: float, largest: float
) -> None:
    folder = folders / "wide"
    if not folder.exists():
        tiny_causal.write(folder, hidden_size=256, intermediate_size=1024, num_hidden_layers=2)
    whole, small = load(folder), load(folder, quantization)
    kinds = {type(module).__name__ for name, module in small._model.named_modules() if name.endswith("_proj")}
    assert kinds == {layer}
    share = small.describe().memory_bytes["weights"] / whole.describe().memory_bytes["weights"]
    assert smallest < share < largest
    tokens = small.tokenize("Say something", False, False)
    assert sum(output.tokens for output in run(small, Request(1, tokens, TO_THE_END, 8))[1]) == 8


# ---- refused


def refused(folder: Path, quantization: str | None = None, **options: Any) -> XinError:
    with pytest.raises(XinError) as caught:
        load(folder, quantization, **options)
    return caught.value


def test_remote_code_runs_only_when_repository_and_commit_are_named(folders: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--org--repo" / "snapshots" / commit
    tiny_causal.write(folder)
    config = json.loads((folder / "config.json").read_text())
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        f"class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n    open({str(ran)!r}, 'w').close()\n"
    )
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    error = refused(folder)
    assert error.param == "trust_remote_code" and f"org/repo@{commit}" in (error.hint or "")
    assert refused(folder, trust_remote_code="org/repo@main").param == "trust_remote_code"
    assert not ran.exists()
    engine = load(folder, trust_remote_code=f"org/repo@{commit}")
    assert ran.exists() and engine.describe().description.startswith("OwnModel")


def test_weights_that_lack_a_tensor_are_refused(folders: Path, tmp_path: Path) -> None:
    folder = tiny_causal.write(tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    error = refused(folder)
    assert isinstance(error, LoadFailed) and "model.layers.1.mlp.up_proj.weight" in error.message


def test_what_cannot_be_run_is_refused_with_a_reason(folders: Path, tmp_path: Path) -> None:
    folder = made(folders, "gpt2")
    assert refused(folder, context_length=4096).param == "context_length"
    assert refused(folder, device="cuda:7").param == "device"
    assert refused(folder, device="tpu").param == "device"
    assert isinstance(refused(folder, "q3_k"), BadRequest)
    broken = tiny_causal.write(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert isinstance(refused(broken), LoadFailed)
    (broken / "config.json").write_text('{"model_type": "no_such_model"}')
    assert "no_such_model" in refused(broken).message

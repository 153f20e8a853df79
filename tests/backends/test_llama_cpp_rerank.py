"""GGUFs that rerank: tiny ones of noise, whose scores are those of the published formulas over their hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import llama_cpp as lib
import numpy as np
import pytest
import tiny_gguf
from live_node import LiveNode

from xin.backends.base import Weights
from xin.backends.llama_cpp import embedder
from xin.backends.llama_cpp.engine import LlamaCppEngine
from xin.backends.llama_cpp.ranker import score
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter

DOCUMENTS = ["w1 w2 w3", "w9", "w4 w4 w4 w4 w4 w7 w8", ""]
QUERY = "w5 w6"
LAST = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rankers")
    return {name: tiny_gguf.write(name, folder / f"{name.replace(':', '-')}.gguf") for name in tiny_gguf.RANKERS}


def load(path: Path) -> Any:
    options = LlamaCppEngine.Options(context_length=256, threads=1, n_parallel=1, prefix_cache=0)
    return LlamaCppEngine.load(Weights([str(path)], "tiny"), options, lambda fraction, stage: None)


def states(engine: Any, prompts: list[list[int]], pooling: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the head is given of each prompt: the state of its first or last token."""
    made = embedder.embedding_params

    def params(*given: Any) -> Any:
        changed = made(*given)
        changed.pooling_type = pooling
        return changed

    with monkeypatch.context() as patched:
        patched.setattr(embedder, "embedding_params", params)
        plain = embedder.Embedder(engine._model, 256, 1)
    found = np.array(plain.vectors(prompts))
    plain.close()
    return found


def tensor(path: Path, name: str) -> np.ndarray:
    found = next(one for one in gguf.GGUFReader(path).tensors if one.name == name)
    return np.array(found.data, dtype=np.float32)


def test_a_language_models_score_is_its_share_of_yes(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    engine = load(files["qwen3:rank"])
    scores, tokens = engine.rerank(QUERY, DOCUMENTS)
    prompts = [engine._ranker._pair(QUERY, document) for document in DOCUMENTS]
    logits = states(engine, prompts, LAST, monkeypatch) @ tensor(files["qwen3:rank"], "cls.output.weight").T
    expected = np.exp(logits[:, 0]) / np.exp(logits).sum(1)
    assert scores == pytest.approx(expected.tolist(), abs=2e-3)
    assert len(set(np.round(scores, 5))) > 1
    assert tokens == sum(map(len, prompts))
    engine.close()


def test_a_cross_encoder_is_refused_with_a_way_out(files: dict[str, Path]):
    with pytest.raises(LoadFailed, match="cross-encoder") as told:
        load(files["bert:rank"])
    assert "pytorch" in (told.value.hint or "")


def test_what_stands_in_a_document_is_never_a_control_token(files: dict[str, Path]):
    engine = load(files["qwen3:rank"])
    engine.rerank("a", ["b"])
    ids = engine._ranker._pair("is </s> an end? {document}", "<s> or </s>")
    assert (ids.count(1), ids.count(2)) == (1, 1)
    assert (ids[0], ids[-1]) == (1, 2)
    text = engine.detokenize(ids[1:-1]).decode()
    assert " ".join(text.replace("▁", " ").split()) == "query is </s> an end? {document} document <s> or </s>"
    engine.close()


def test_it_reranks_and_does_nothing_else(files: dict[str, Path]):
    engine = load(files["qwen3:rank"])
    assert engine.describe().abilities == ["rerank"]
    with pytest.raises(UnsupportedParameter, match="no embeddings"):
        engine.embed([[1, 2]])
    with pytest.raises(BadRequest) as long:
        engine.rerank("w1", ["w2", "w3 " * 400])
    assert long.value.param == "documents[1]"
    engine.set_threads(2)
    assert engine.rerank("w1", ["w2"])[0] == pytest.approx(engine.rerank("w1", ["w2", "w3 w4"])[0][:1], abs=1e-4)
    engine.close()
    engine.close()


def test_a_head_of_two_that_gives_no_shares_yet_is_made_into_shares():
    assert score(np.array([2.0, 0.0], np.float32)) == pytest.approx(1 / (1 + np.exp(-2)))
    assert score(np.array([0.25, 0.75], np.float32)) == pytest.approx(0.25)
    assert score(np.array([0.0], np.float32)) == 0.5


def test_over_http(files: dict[str, Path], tmp_path: Path):
    with LiveNode(tmp_path) as node:
        node.launch(str(files["qwen3:rank"]), model_uid="judge", context_length=256)
        body = {"model": "judge", "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
        told = node.http.post("/v1/rerank", json=body)
        assert told.status_code == 200, told.text
        first, second = told.json()["results"]
        assert first["relevance_score"] >= second["relevance_score"] > 0
        (listed,) = node.http.get("/v1/models").json()["data"]
        assert listed["model_type"] == "rerank"


def test_the_library_has_what_is_needed():
    assert callable(lib.llama_model_n_cls_out) and callable(lib.llama_model_chat_template)

"""Embedding models and cross-encoders of the transformers engine against the formulas for each text alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoder
import torch

from xin.backends.base import Engine, Weights
from xin.backends.transformers.engine import TransformersEngine
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter, XinError
from xin.worker.frames import Embed, Generate, Rerank
from xin.worker.job import prepare

pytestmark = pytest.mark.filterwarnings("default")  # what libraries warn of is theirs
TEXTS = ["a cat sat", "b", "the quick brown fox jumps over the lazy dog", "it rains", "no"]
QUERY = "what is a cat"


def load(folder: Path, **options: Any) -> Engine:
    options = {"threads": 1, "device": "cpu", **options}
    return TransformersEngine.load(
        Weights([str(folder)], "tiny"), TransformersEngine.Options(**options), lambda fraction, stage: None
    )


def embedded(engine: Engine, texts: list[str], dimensions: int | None = None) -> np.ndarray:
    result = prepare(engine, Embed(1, texts=texts, dimensions=dimensions))()  # type: ignore[operator]
    assert result.prompt_tokens > len(texts)
    return np.array([np.frombuffer(vector, "<f4") for vector in result.vectors])


def hidden(model: Any, text: str) -> torch.Tensor:
    """[tokens, size] of this text alone, without padding."""
    given = tiny_encoder.tokenizer()(text, return_tensors="pt")
    with torch.inference_mode():
        return model(**given).last_hidden_state[0]


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


POOLED = {
    "pooling_mode_cls_token": lambda h: h[0],
    "pooling_mode_max_tokens": lambda h: h.amax(0),
    "pooling_mode_mean_tokens": lambda h: h.mean(0),
    "pooling_mode_mean_sqrt_len_tokens": lambda h: h.sum(0) / len(h) ** 0.5,
    "pooling_mode_weightedmean_tokens": lambda h: (
        (h * torch.arange(1, len(h) + 1)[:, None]).sum(0) / sum(range(1, len(h) + 1))
    ),
    "pooling_mode_lasttoken": lambda h: h[-1],
}


@pytest.mark.parametrize("mode", POOLED)
def test_a_pooling_is_the_formula_for_each_text_of_a_padded_pass(tmp_path: Path, mode: str) -> None:
    model = tiny_encoder.write(tmp_path)
    tiny_encoder.write_layout(tmp_path, {mode: True})
    found = embedded(load(tmp_path), TEXTS)
    for vector, text in zip(found, TEXTS, strict=True):
        assert vector == pytest.approx(POOLED[mode](hidden(model, text)).numpy(), abs=1e-4)


def test_poolings_are_joined_and_further_modules_follow(tmp_path: Path) -> None:
    model = tiny_encoder.write(tmp_path)
    tiny_encoder.write_layout(tmp_path, {"pooling_mode": "mean"}, "Dense", "Normalize")
    weight, bias = tiny_encoder.write_dense(tmp_path, 8)
    found = embedded(load(tmp_path), TEXTS)
    for vector, text in zip(found, TEXTS, strict=True):
        expected = unit(torch.tanh(weight @ hidden(model, text).mean(0) + bias))
        assert vector == pytest.approx(expected.numpy(), abs=1e-4)


def test_two_poolings_make_a_longer_vector(tmp_path: Path) -> None:
    model = tiny_encoder.write(tmp_path)
    tiny_encoder.write_layout(tmp_path, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True})
    vector = embedded(load(tmp_path), TEXTS[:1])[0]
    rows = hidden(model, TEXTS[0])
    assert vector == pytest.approx(torch.cat([rows[0], rows.mean(0)]).numpy(), abs=1e-4)


def test_without_a_layout_it_is_the_mean_of_unit_length(tmp_path: Path) -> None:
    model = tiny_encoder.write(tmp_path)
    engine = load(tmp_path)
    assert engine.describe().abilities == ["embed"] and engine.describe().embedding_size == 32
    found = embedded(engine, TEXTS)
    assert found[2] == pytest.approx(unit(hidden(model, TEXTS[2]).mean(0)).numpy(), abs=1e-4)


def test_the_default_prompt_comes_first(tmp_path: Path) -> None:
    tiny_encoder.write(tmp_path)
    tiny_encoder.write_layout(
        tmp_path, {"pooling_mode": "mean"}, "Normalize", prompts={"q": "query "}, default_prompt_name="q"
    )
    prompted = embedded(load(tmp_path), ["cat"])
    (tmp_path / "config_sentence_transformers.json").write_text("{}")
    assert prompted == pytest.approx(embedded(load(tmp_path), ["query cat"]), abs=1e-5)


def test_a_vector_is_cut_only_where_the_model_was_trained_for_it(tmp_path: Path) -> None:
    tiny_encoder.write(tmp_path / "told", matryoshka_dimensions=[8, 16])
    tiny_encoder.write(tmp_path / "plain")
    told, plain = load(tmp_path / "told"), load(tmp_path / "plain")
    whole, cut = embedded(told, TEXTS), embedded(told, TEXTS, 8)
    assert cut == pytest.approx(whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), abs=1e-5)
    for engine, dimensions in ((told, 9), (told, 64), (plain, 8)):
        with pytest.raises(UnsupportedParameter, match="dimensions"):
            embedded(engine, TEXTS, dimensions)
    assert embedded(load(tmp_path / "plain", matryoshka=True), TEXTS, 8) == pytest.approx(cut, abs=1e-5)


def test_what_is_too_long_is_refused_by_its_place(tmp_path: Path) -> None:
    tiny_encoder.write(tmp_path)
    tiny_encoder.write_layout(tmp_path, {"pooling_mode": "mean"})
    with pytest.raises(BadRequest, match="at most 48") as caught:
        embedded(load(tmp_path), ["a", "a " * 60])
    assert caught.value.param == "input[1]"


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_cross_encoder_scores_pairs_as_each_pair_alone(tmp_path: Path, architecture: str) -> None:
    further = {"type_vocab_size": 1} if architecture == "roberta" else {}
    model = tiny_encoder.write(tmp_path, architecture, labels=1, **further)
    engine = load(tmp_path)
    assert engine.describe().abilities == ["rerank"]
    result = prepare(engine, Rerank(1, QUERY, TEXTS))()  # type: ignore[operator]
    tokens = 0
    for score, text in zip(result.scores, TEXTS, strict=True):
        given = tiny_encoder.tokenizer()(QUERY, text, return_tensors="pt")
        if architecture == "roberta":
            del given["token_type_ids"]
        with torch.inference_mode():
            assert score == pytest.approx(float(torch.sigmoid(model(**given).logits[0, 0])), abs=1e-4)
        tokens += given["input_ids"].numel()
    assert result.prompt_tokens == tokens and len(set(result.scores)) == len(TEXTS)


def test_a_score_is_raw_where_the_model_says_so(tmp_path: Path) -> None:
    model = tiny_encoder.write(
        tmp_path, labels=1, sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"}
    )
    scores, _ = load(tmp_path).rerank(QUERY, ["it rains"])
    with torch.inference_mode():
        expected = model(**tiny_encoder.tokenizer()(QUERY, "it rains", return_tensors="pt")).logits
    assert scores == [pytest.approx(float(expected[0, 0]), abs=1e-4)]


def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path) -> None:
    tiny_encoder.write(tmp_path / "embeds")
    tiny_encoder.write(tmp_path / "scores", labels=1)
    embeds, scores = load(tmp_path / "embeds"), load(tmp_path / "scores")
    with pytest.raises(UnsupportedParameter, match="does not write"):
        embeds.submit(prepare(embeds, Generate(1, prompt="a", max_tokens=1)).request)  # type: ignore[union-attr]
    with pytest.raises(UnsupportedParameter, match="does not rerank"):
        embeds.rerank(QUERY, TEXTS)
    with pytest.raises(UnsupportedParameter, match="no embeddings"):
        scores.embed([[2, 3]])
    with pytest.raises(BadRequest, match=r"documents\[1\].* at most 64"):
        scores.rerank(QUERY, ["a", "a " * 80])


def test_folders_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    tiny_encoder.write(tmp_path / "odd")
    tiny_encoder.write_layout(tmp_path / "odd", {"pooling_mode": "mean"}, "WeightedLayerPooling")
    tiny_encoder.write(tmp_path / "sorts", labels=3)
    tiny_encoder.write(tmp_path / "plain")
    for name, words in (("odd", "WeightedLayerPooling"), ("sorts", "3 classes")):
        with pytest.raises(LoadFailed, match=words):
            load(tmp_path / name)
    with pytest.raises(XinError, match="64 positions"):
        load(tmp_path / "plain", context_length=100)

"""A language model as a reranker: its share of "yes", for each document as if it were alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_causal
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from xin.backends.base import Weights
from xin.backends.transformers import judge
from xin.backends.transformers.engine import TransformersEngine
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter

pytestmark = pytest.mark.filterwarnings("default")  # what libraries warn of is theirs
QUERY = "what is a cat"
DOCUMENTS = ["a cat is an animal", "no", "it rains in the north, and <|im_end|> it is cold", "cats " * 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose vocabulary has the two words."""
    made = tiny_causal.write(tmp_path_factory.mktemp("judge") / "tiny", "qwen2", vocab_size=tiny_causal.VOCABULARY + 2)
    file = str(made / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    assert tokenizer.add_tokens(["yes", "no"]) == 2
    tokenizer.save(file)
    return made


def load(folder: Path, abilities: list[str], **options: Any) -> Any:
    given = TransformersEngine.Options(threads=1, device="cpu", **options)
    return TransformersEngine.load(
        Weights([str(folder)], "tiny", abilities=abilities), given, lambda fraction, stage: None
    )


def test_the_score_is_the_share_of_yes(folder: Path):
    engine = load(folder, ["rerank"])
    assert engine.describe().abilities == ["rerank"]
    scores, tokens = engine.rerank(QUERY, DOCUMENTS)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    counted = 0
    for document, score in zip(DOCUMENTS, scores, strict=True):
        body = f"<Instruct>: {judge.TASK}\n<Query>: {QUERY}\n<Document>: {document}"
        plain = tokenizer.encode(judge.BEFORE).ids, tokenizer.encode(judge.BEHIND).ids
        ids = [*plain[0], *engine.tokenize(body, False, False), *plain[1]]
        counted += len(ids)
        with torch.inference_mode():
            row = model(input_ids=torch.tensor([ids])).logits[0, -1]
        yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
        assert score == pytest.approx(torch.softmax(row[[yes, no]], 0)[0].item(), abs=1e-4)
    assert tokens == counted
    assert len({round(score, 6) for score in scores}) == len(DOCUMENTS)
    engine.close()


def test_control_tokens_of_a_document_are_words(folder: Path):
    engine = load(folder, ["rerank"])
    ids = engine._judge._prompt("a", "b <|im_end|> c")
    assert ids.count(258) == 2  # those of the form
    engine.close()


def test_only_who_is_known_as_a_reranker_judges(folder: Path):
    engine = load(folder, ["chat", "generate"])
    with pytest.raises(UnsupportedParameter, match="cannot rerank"):
        engine.rerank(QUERY, DOCUMENTS)
    engine.close()


def test_what_is_too_long_and_who_has_no_word_for_yes(folder: Path, tmp_path: Path):
    engine = load(folder, ["rerank"], context_length=512)
    with pytest.raises(BadRequest) as long:
        engine.rerank(QUERY, ["short", "long " * 400])
    assert long.value.param == "documents[1]"
    engine.close()
    with pytest.raises(LoadFailed, match="no token for 'yes'"):
        load(tiny_causal.write(tmp_path / "wordless", "llama"), ["rerank"])

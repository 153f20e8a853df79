"""How well documents answer a query, by a model that reads both at once and gives one number."""

from __future__ import annotations

from typing import Any

import torch

from xin.backends.transformers.padded import groups, padded
from xin.backends.transformers.vocabulary import Vocabulary
from xin.errors import BadRequest, LoadFailed


class CrossEncoder:
    """`limit`: tokens of a query and a document together at most. LoadFailed for a model with several labels."""

    def __init__(self, model: Any, vocabulary: Vocabulary, *, limit: int, pad: int, has_types: bool) -> None:
        if model.config.num_labels != 1:
            raise LoadFailed(
                f"this model sorts texts into {model.config.num_labels} classes; a reranker gives one score"
            )
        self._model = model
        self._vocabulary = vocabulary
        self._limit = limit
        self._pad = pad
        self._has_types = has_types
        self._is_sigmoid = not _activation(model.config).endswith("Identity")

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        """A score a document, and how many tokens were read."""
        pairs = [self._vocabulary.pair(query, document) for document in documents]
        for i, (ids, _) in enumerate(pairs):
            if len(ids) > self._limit:
                raise BadRequest(
                    f"documents[{i}] and the query have {len(ids)} tokens; this model reads at most {self._limit}",
                    "split the document",
                    param=f"documents[{i}]",
                )
        scores = [0.0] * len(pairs)
        for group in groups([len(ids) for ids, _ in pairs]):
            for i, score in zip(group, self._pass([pairs[i] for i in group]), strict=True):
                scores[i] = score
        return scores, sum(len(ids) for ids, _ in pairs)

    def _pass(self, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
        device = self._model.device
        ids, mask = padded([ids for ids, _ in pairs], self._pad)
        given = {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}
        if self._has_types:
            given["token_type_ids"] = padded([types for _, types in pairs], 0)[0].to(device)
        with torch.inference_mode():
            logits = self._model(**given).logits[:, 0].float()
            scores: list[float] = (torch.sigmoid(logits) if self._is_sigmoid else logits).tolist()
        return scores


def _activation(config: Any) -> str:
    """What sentence-transformers noted of it; a sigmoid is usual where there is one label."""
    told = getattr(config, "sentence_transformers", None)
    told = told.get("activation_fn") if isinstance(told, dict) else None
    return str(told or getattr(config, "sbert_ce_default_activation_function", None) or "Sigmoid")

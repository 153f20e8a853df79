"""Language models as rerankers: how likely is it that they call a document an answer to the query?"""

from __future__ import annotations

from typing import Any

import torch

from xin.backends.transformers.padded import groups, padded
from xin.backends.transformers.vocabulary import Vocabulary
from xin.errors import BadRequest, LoadFailed

# The form that Qwen3-Reranker was trained with, by its model card.
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
TASK = "Given a web search query, retrieve relevant passages that answer the query"
BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class Judge:
    """Scores from 0 to 1. `limit`: tokens of query, document and what stands around them."""

    def __init__(self, model: Any, vocabulary: Vocabulary, *, limit: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._limit = limit
        self._before = vocabulary.tokenize(BEFORE, False, True)
        self._behind = vocabulary.tokenize(BEHIND, False, True)
        self._answers = [self._answer("yes"), self._answer("no")]

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        """A score a document, and how many tokens were read."""
        prompts = [self._prompt(query, document) for document in documents]
        for i, ids in enumerate(prompts):
            if len(ids) > self._limit:
                raise BadRequest(
                    f"documents[{i}] and the query have {len(ids)} tokens; this model reads at most {self._limit}",
                    "split the document",
                    param=f"documents[{i}]",
                )
        scores = [0.0] * len(prompts)
        for group in groups([len(ids) for ids in prompts]):
            for i, score in zip(group, self._pass([prompts[i] for i in group]), strict=True):
                scores[i] = score
        return scores, sum(map(len, prompts))

    def _prompt(self, query: str, document: str) -> list[int]:
        """What stands in query or document is never read as a control token."""
        body = f"<Instruct>: {TASK}\n<Query>: {query}\n<Document>: {document}"
        return [*self._before, *self._vocabulary.tokenize(body, False, False), *self._behind]

    def _pass(self, rows: list[list[int]]) -> list[float]:
        """Padding on the right is seen by no token before it, and only each row's last token is asked."""
        device = self._model.get_input_embeddings().weight.device
        ids, mask = padded(rows, 0)
        last = torch.tensor([len(row) - 1 for row in rows])
        with torch.inference_mode():
            hidden = self._model.base_model(
                input_ids=ids.to(device), attention_mask=mask.long().to(device), use_cache=False
            ).last_hidden_state
            logits = self._model.get_output_embeddings()(hidden[torch.arange(len(rows)), last.to(hidden.device)])
            scores: list[float] = torch.softmax(logits[:, self._answers].float(), dim=-1)[:, 0].tolist()
        return scores

    def _answer(self, word: str) -> int:
        ids = self._vocabulary.tokenize(word, False, False)
        if len(ids) != 1:
            raise LoadFailed(f"this model has no token for {word!r}, so it cannot judge", "take another reranker")
        return ids[0]

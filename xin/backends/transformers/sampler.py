"""The next token of one choice: biases and the constraint's mask on the logits, then transformers' logits processors.

Logprobs are of the model's own distribution, before temperature, penalties, biases and masks (as OpenAI's are).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from xin.backends.transformers.vocabulary import Vocabulary
from xin.worker.frames import Sampling

Row = npt.NDArray[np.float32]


class Sampler:
    """State of one choice. The order is llama.cpp's: penalties, top_k, typical_p, top_p, min_p, temperature."""

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary, index: int) -> None:
        self._sampling = sampling
        self._banned = vocabulary.end_array if sampling.ignore_eos else None
        self._bias_ids = np.array(list(sampling.logit_bias), dtype=np.int64)
        self._bias = np.array(list(sampling.logit_bias.values()), dtype=np.float32)
        self._counts: Counter[int] = Counter()
        self._repeat = None
        if sampling.repeat_penalty != 1 and sampling.repeat_last_n:
            self._repeat = RepetitionPenaltyLogitsProcessor(float(sampling.repeat_penalty))
        self._warpers = _warpers(sampling)
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed((sampling.seed + index) & 0xFFFFFFFF)

    def pick(self, row: Row, matcher: Any | None, tokens: list[int]) -> int:
        """Choose and remember; `row` (vocabulary size, float32) is changed in place. `tokens`: prompt and reply."""
        if len(self._bias_ids):
            row[self._bias_ids] += self._bias
        if self._banned is not None:
            row[self._banned] = -np.inf
        row = self._penalized(row, tokens)
        if matcher is not None:
            matcher.apply(row)
        token = int(row.argmax()) if self._sampling.temperature <= 0 else self._drawn(row)
        if matcher is not None:
            matcher.accept(token)
        if self._sampling.presence_penalty or self._sampling.frequency_penalty:
            self._counts[token] += 1
        return token

    def _penalized(self, row: Row, tokens: list[int]) -> Row:
        """Repetition is judged over prompt and reply, presence and frequency over the reply."""
        if self._repeat is not None:
            recent = [token for token in tokens[-self._sampling.repeat_last_n :] if token >= 0]  # no places of images
            row = self._repeat(torch.tensor([recent]), torch.from_numpy(row)[None])[0].numpy()
        if self._counts:
            ids = np.fromiter(self._counts, dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            row[ids] -= self._sampling.presence_penalty + self._sampling.frequency_penalty * counts
        return row

    def _drawn(self, row: Row) -> int:
        scores = torch.from_numpy(row)[None]
        ids = None
        if 0 < self._sampling.top_k < len(row):
            scores, ids = torch.topk(scores, self._sampling.top_k)
        for warper in self._warpers:
            scores = warper(None, scores)
        drawn = torch.multinomial(torch.softmax(scores[0], -1), 1, generator=self._generator)
        return int(drawn if ids is None else ids[0, drawn])


def _warpers(sampling: Sampling) -> list[LogitsProcessor]:
    warpers: list[LogitsProcessor] = []
    if sampling.typical_p < 1:
        warpers.append(TypicalLogitsWarper(float(sampling.typical_p)))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(float(sampling.top_p)))
    if sampling.min_p > 0:
        warpers.append(MinPLogitsWarper(float(sampling.min_p)))
    if sampling.temperature not in (0, 1):
        warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
    return warpers

"""The next token of one choice: biases and the constraint's mask on the logits, then llama.cpp's sampler chain.

Logprobs are of the model's own distribution, before temperature, penalties, biases and masks (as OpenAI's are).
"""

from __future__ import annotations

import secrets
from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from xin.backends.llama_cpp.vocabulary import Vocabulary
from xin.worker.frames import Sampling

Row = npt.NDArray[np.float32]


class Sampler:
    """State of one choice; close() frees the chain."""

    def __init__(
        self,
        sampling: Sampling,
        vocabulary: Vocabulary,
        candidates: Candidates,
        prompt: list[int],
        window: int,
        index: int,
    ) -> None:
        self._biased: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None = None
        self._banned = vocabulary.end_array if sampling.ignore_eos else None
        if sampling.logit_bias:
            values = np.array(list(sampling.logit_bias.values()), dtype=np.float32)
            self._biased = np.array(list(sampling.logit_bias), dtype=np.int64), values
        self._repeat, self._chain = _chains(sampling, vocabulary, window, index)
        self._candidates = candidates if self._chain or self._repeat else None
        if self._repeat is not None:
            for token in prompt[-sampling.repeat_last_n :]:
                if token >= 0:  # not a place of an image
                    lib.llama_sampler_accept(self._repeat, token)

    def pick(self, row: Row, matcher: Any | None) -> int:
        """Choose and remember; `row` (vocabulary size, float32) is changed in place."""
        if self._biased is not None:
            ids, values = self._biased
            row[ids] += values
        if self._banned is not None:
            row[self._banned] = -np.inf
        if matcher is not None:
            matcher.apply(row)
        if self._candidates is None:
            token = int(row.argmax())
        else:
            token = self._candidates.sample(row, self._repeat, self._chain)
        if matcher is not None:
            matcher.accept(token)
        return token

    def close(self) -> None:
        for chain in (self._repeat, self._chain):
            if chain is not None:
                lib.llama_sampler_free(chain)
        self._repeat = self._chain = None


class Candidates:
    """llama_token_data_array over a numpy record array; one for all samplers of a step thread."""

    def __init__(self, size: int) -> None:
        self._ids = np.arange(size, dtype=np.int32)
        self._data = np.zeros(size, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        pointer = self._data.ctypes.data_as(lib.llama_token_data_p)
        self._array = lib.llama_token_data_array(data=pointer, size=size, selected=-1, sorted=False)
        self._size = size

    def sample(self, row: Row, repeat: Any | None, chain: Any | None) -> int:
        self._data["id"] = self._ids
        self._data["logit"] = row
        self._array.size, self._array.selected, self._array.sorted = self._size, -1, False
        for part in (repeat, chain):
            if part is not None:
                lib.llama_sampler_apply(part, self._array)
        if self._array.selected < 0:
            token = int(self._data["id"][int(self._data["logit"][: self._array.size].argmax())])
        else:
            token = int(self._data["id"][self._array.selected])
        for part in (repeat, chain):
            if part is not None:
                lib.llama_sampler_accept(part, token)
        return token


def _chains(sampling: Sampling, vocabulary: Vocabulary, window: int, index: int) -> tuple[Any | None, Any | None]:
    """(repetition penalty over prompt and reply, the rest); None where nothing is asked for."""
    params = lib.llama_sampler_chain_default_params()
    repeat = None
    if sampling.repeat_penalty != 1 and sampling.repeat_last_n:
        repeat = lib.llama_sampler_init_penalties(
            vocabulary.size, sampling.repeat_last_n, sampling.repeat_penalty, 0.0, 0.0
        )
    parts: list[Any] = []
    if sampling.presence_penalty or sampling.frequency_penalty:
        parts.append(
            lib.llama_sampler_init_penalties(
                vocabulary.size, window, 1.0, sampling.frequency_penalty, sampling.presence_penalty
            )
        )
    if sampling.temperature > 0:
        if sampling.top_k:
            parts.append(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.typical_p < 1:
            parts.append(lib.llama_sampler_init_typical(sampling.typical_p, 1))
        if sampling.top_p < 1:
            parts.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            parts.append(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        parts.append(lib.llama_sampler_init_temp(sampling.temperature))
        seed = secrets.randbits(32) if sampling.seed is None else (sampling.seed + index) & 0xFFFFFFFF
        parts.append(lib.llama_sampler_init_dist(seed % 0xFFFFFFFF))  # 2^32-1 would mean "any seed"
    if not parts:
        return repeat, None
    chain = lib.llama_sampler_chain_init(params)
    for part in parts:
        lib.llama_sampler_chain_add(chain, part)
    return repeat, chain

"""Embeddings of a causal language model: the mean of its last hidden states over the tokens, of unit length."""

from __future__ import annotations

from typing import Any

import torch

from xin.errors import BadRequest

MAX_TOKENS = 8192  # of one input, and of one pass with its padding


class Embedder:
    def __init__(self, model: Any, window: int) -> None:
        self._model = model.base_model
        self._device = model.get_input_embeddings().weight.device
        self._limit = min(window, MAX_TOKENS)

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        """One little-endian float32 vector an input. Inputs of like length go through together."""
        for i, tokens in enumerate(inputs):
            if len(tokens) > self._limit:
                raise BadRequest(
                    f"input[{i}] has {len(tokens)} tokens; this model embeds at most {self._limit}",
                    "split the text",
                    param=f"input[{i}]",
                )
        vectors: dict[int, bytes] = {}
        group: list[int] = []
        for i in sorted(range(len(inputs)), key=lambda i: -len(inputs[i])):
            if group and len(inputs[group[0]]) * (len(group) + 1) > self._limit:
                vectors |= self._pass(group, inputs)
                group = []
            group.append(i)
        if group:
            vectors |= self._pass(group, inputs)
        return [vectors[i] for i in range(len(inputs))]

    def _pass(self, group: list[int], inputs: list[list[int]]) -> dict[int, bytes]:
        lengths = torch.tensor([len(inputs[i]) for i in group])
        columns = int(lengths.max())
        ids = torch.tensor([inputs[i] + [0] * (columns - len(inputs[i])) for i in group])
        mask = torch.arange(columns) < lengths[:, None]
        given = {"input_ids": ids.to(self._device), "attention_mask": mask.long().to(self._device)}
        with torch.inference_mode():
            hidden = self._model(**given, use_cache=False).last_hidden_state
        weights = mask.to(hidden.device)[..., None]
        mean = (hidden.float() * weights).sum(1) / weights.sum(1)
        unit = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy().astype("<f4")
        return {i: row.tobytes() for i, row in zip(group, unit, strict=True)}

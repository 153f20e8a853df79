"""Embeddings: inputs of like length go through the model together; a layout makes vectors of its hidden states."""

from __future__ import annotations

from typing import Any

import torch

from xin.backends.transformers.padded import groups, padded
from xin.backends.transformers.sentence_layout import Layout
from xin.errors import BadRequest


class Embedder:
    """`limit`: tokens of one input at most."""

    def __init__(self, model: Any, layout: Layout, *, limit: int, pad: int) -> None:
        self._model = model
        self._layout = layout
        self._device = model.get_input_embeddings().weight.device
        self._limit = limit
        self._pad = pad

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        """One little-endian float32 vector an input."""
        for i, tokens in enumerate(inputs):
            if len(tokens) > self._limit:
                raise BadRequest(
                    f"input[{i}] has {len(tokens)} tokens; this model embeds at most {self._limit}",
                    "split the text",
                    param=f"input[{i}]",
                )
        vectors: dict[int, bytes] = {}
        for group in groups([len(tokens) for tokens in inputs]):
            rows = self.vectors([inputs[i] for i in group]).numpy().astype("<f4")
            vectors |= {i: row.tobytes() for i, row in zip(group, rows, strict=True)}
        return [vectors[i] for i in range(len(inputs))]

    def vectors(self, rows: list[list[int]]) -> torch.Tensor:
        ids, mask = padded(rows, self._pad)
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask.long(), **self._without_cache()).last_hidden_state
            return self._layout.vectors(hidden.float(), mask.to(hidden.device)).cpu()

    def _without_cache(self) -> dict[str, bool]:
        """Decoders would keep keys and values that nothing asks for."""
        return {"use_cache": False} if getattr(self._model.config, "use_cache", False) else {}

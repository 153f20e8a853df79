"""One pass of the model over the next tokens of some rows."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xin.backends.transformers.row_cache import RowCache
from xin.backends.transformers.sight import Sight, on_device


class Forward:
    """Calls a causal language model as `generate` does: padded on the left, positions and mask given."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = model.get_input_embeddings().weight.device
        takes = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in takes
        self._takes_keep = "logits_to_keep" in takes

    def run(
        self, cache: RowCache, rows: list[list[int]], *, keep: int = 1, sight: Sight | None = None
    ) -> npt.NDArray[np.float32]:
        """Logits of the last `keep` tokens: [rows, keep, vocabulary]. `sight`: the images of the one row there is.

        Rows may be of unequal length where the cache is empty.
        """
        columns = max(map(len, rows))
        cache.make_room(columns)
        before = torch.tensor(cache.lengths)
        added = torch.tensor([len(row) for row in rows])
        width = cache.width + columns
        if sight is not None:
            rows = [sight.ids(row) for row in rows]
        inputs: dict[str, Any] = {"input_ids": _right_aligned(rows, columns).to(self.device)}
        if sight is not None:
            inputs |= on_device(sight.inputs, self.device, self._model.dtype)
        if bool((before + added < width).any()):
            mask = torch.arange(width) >= (width - before - added)[:, None]
            inputs["attention_mask"] = mask.long().to(self.device)
        if self._takes_positions:
            positions = torch.arange(columns) + (before + added - columns)[:, None]
            inputs["position_ids"] = positions.clamp_(min=0).to(self.device)
        if self._takes_keep:
            inputs["logits_to_keep"] = keep
        logits = self._model(past_key_values=cache, use_cache=True, **inputs).logits
        cache.advance(added.tolist())
        kept: npt.NDArray[np.float32] = logits[:, -keep:].float().cpu().numpy()
        return kept


def _right_aligned(rows: list[list[int]], columns: int) -> torch.Tensor:
    return torch.tensor([[0] * (columns - len(row)) + row for row in rows])

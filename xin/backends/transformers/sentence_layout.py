"""What sentence-transformers writes beside the weights of an embedding model: pooling, further layers, prompts.

Source: https://sbert.net/docs/package_reference/sentence_transformer/models.html, the classes' own config.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from xin.backends.transformers.kind import read_json
from xin.errors import LoadFailed

Step = Callable[[torch.Tensor], torch.Tensor]
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")  # the order of joined ones
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, Step] = {"Identity": lambda x: x, "Tanh": torch.tanh}


@dataclass(slots=True)
class Layout:
    """Vectors are `steps` over the joined `poolings`. Without such files: the mean, of unit length."""

    poolings: list[str] = field(default_factory=lambda: ["mean"])
    steps: list[Step] = field(default_factory=lambda: [_normalized])
    max_tokens: int | None = None
    lower_case: bool = False
    prompt: str = ""

    def vectors(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[inputs, size] from [inputs, tokens, hidden size] and which tokens are real (padding on the right)."""
        pooled = torch.cat([_POOL[name](hidden, mask) for name in self.poolings], dim=-1)
        for step in self.steps:
            pooled = step(pooled)
        return pooled


def read_layout(folder: Path) -> Layout:
    """LoadFailed for a module that is not known here."""
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list) or not modules:
        return Layout()
    layout = Layout(steps=[])
    for module in modules:
        path = folder / str(module.get("path", ""))
        kind = str(module.get("type", "")).rpartition(".")[2]
        match kind:
            case "Transformer":
                about = read_json(folder / "sentence_bert_config.json")
                layout.max_tokens = about.get("max_seq_length")
                layout.lower_case = bool(about.get("do_lower_case"))
            case "Pooling":
                layout.poolings = _poolings(path)
            case "Normalize":
                layout.steps.append(_normalized)
            case "Dense":
                layout.steps.append(_dense(path))
            case _:
                raise LoadFailed(f"the embedding model has a module {kind!r}, which this engine does not know")
    about = read_json(folder / "config_sentence_transformers.json")
    layout.prompt = str((about.get("prompts") or {}).get(about.get("default_prompt_name"), ""))
    return layout


def _poolings(path: Path) -> list[str]:
    config = read_json(path / "config.json")
    mode = config.get("pooling_mode")
    found = [mode] if isinstance(mode, str) else mode or [name for flag, name in _FLAGS.items() if config.get(flag)]
    if not found or not set(found) <= set(_POOLINGS):
        raise LoadFailed(f"the embedding model pools by {found or 'nothing'}, which this engine does not know")
    return sorted(found, key=_POOLINGS.index)


def _dense(path: Path) -> Step:
    config = read_json(path / "config.json")
    name = str(config.get("activation_function", "")).rpartition(".")[2]
    file = path / "model.safetensors"
    if name not in _ACTIVATIONS or not file.is_file():
        what = f"activation {name!r}" if file.is_file() else "no model.safetensors"
        raise LoadFailed(f"the embedding model's layer {path.name} has {what}")
    tensors: dict[str, Any] = load_file(file)
    weight, bias, activate = tensors["linear.weight"], tensors.get("linear.bias"), _ACTIVATIONS[name]
    return lambda x: activate(torch.nn.functional.linear(x, weight.to(x), None if bias is None else bias.to(x)))


def _normalized(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _sum(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (hidden * weights[..., None]).sum(1)


def _largest(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(~mask[..., None], -torch.inf).amax(1)


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


def _weighted(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Later tokens count more (SGPT)."""
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _sum(hidden, weights) / weights.sum(1, keepdim=True)


_POOL: dict[str, Pool] = {
    "cls": lambda hidden, mask: hidden[:, 0],
    "max": _largest,
    "mean": lambda hidden, mask: _sum(hidden, mask) / mask.sum(1, keepdim=True),
    "mean_sqrt_len_tokens": lambda hidden, mask: _sum(hidden, mask) / mask.sum(1, keepdim=True).sqrt(),
    "weightedmean": _weighted,
    "lasttoken": _last,
}

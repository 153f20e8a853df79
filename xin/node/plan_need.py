"""What one quantization needs: counted by llama.cpp, or by formula. Bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xin.backends.llama_cpp.dry_run_words import ContextSize, ModelSize
from xin.backends.llama_cpp.pool import BITS, pool, windows
from xin.catalog import memory
from xin.node.plan_candidates import GGUF, PYTORCH, Candidate

PROCESS_BYTES = 128 * 2**20  # a worker's Python, libraries and vocabulary, as measured
GPU_BYTES = 400 * 2**20  # what a driver takes on the device for one process; not measured here
USUAL_CONTEXT = 8192
LEAST_CONTEXT = 512
_STEP = 256  # to which a longest context is rounded down


@dataclass(slots=True)
class Need:
    """`steps`: (window, bytes without the process) in order. `layers`: the weights of each. All 0: nothing is known."""

    window: int = 0
    trained_context: int = 0
    weights: int = 0
    kv: int = 0
    compute: int = 0
    architecture: str = ""
    layers: list[int] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    exact: bool = False
    error: str | None = None

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute

    def longest(self, free: int) -> int:
        """The longest window of these steps that needs no more than `free`; between two steps the chord decides."""
        fitting = [step for step in self.steps if step[1] <= free]
        if not fitting:
            return 0
        window, bytes_ = fitting[-1]
        beyond = next((step for step in self.steps if step[0] > window), None)
        if beyond is None:
            return window
        part = (free - bytes_) / max(beyond[1] - bytes_, 1)
        return max(window, int(window + part * (beyond[0] - window)) // _STEP * _STEP)

    def layers_within(self, free: int) -> int:
        """How many layers, with their part of the caches, fit beside the compute buffers."""
        if not self.layers:
            return 0
        room = free - self.compute
        kv = self.kv // len(self.layers)
        count = 0
        for layer in reversed(self.layers):  # llama.cpp takes the last ones first
            room -= layer + kv
            if room < 0:
                break
            count += 1
        return count


def counted(size: ModelSize) -> Need:
    """Of a dry run whose first context is the one asked for."""
    asked = size.contexts[0] if size.contexts else ContextSize()
    return Need(
        window=asked.window,
        trained_context=size.trained_context,
        weights=size.weights_bytes,
        kv=asked.kv_bytes,
        compute=compute_bytes(asked),
        architecture=size.architecture,
        layers=size.layer_bytes,
        steps=[
            (step.window, size.weights_bytes + step.kv_bytes + compute_bytes(step))
            for step in size.ladder
            if not step.error
        ],
        exact=size.exact and not size.error and not asked.error,
        error=size.error or asked.error,
    )


def estimated(one: Candidate, options: Mapping[str, Any], item_bytes: int = 2) -> Need:
    """By formulas; of the weights alone where the model's dimensions are not known.

    `item_bytes`: of a PyTorch model's weights that are not quantized, and of its keys and values.
    """
    window = options.get("context_length") or min(one.trained_context or USUAL_CONTEXT, USUAL_CONTEXT)
    weights, trained = one.weights_bytes(item_bytes), one.trained_context
    if not weights:
        return Need(window=0 if one.without_weights else window, trained_context=trained)
    need = Need(window=window, trained_context=trained, weights=weights)
    need.kv, need.compute = _formula(one, window, options, item_bytes)
    layers = one.shape.layers if one.shape else 0
    if one.shape and one.format == GGUF:  # the others go to one device as a whole
        need.layers = [weights * memory.linear_parameters(one.shape) // memory.parameters(one.shape) // layers] * layers
    if one.per_token:
        steps = windows(trained or window, one.per_token, options.get("n_parallel", 16))
        need.steps = [(step, weights + sum(_formula(one, step, options, item_bytes))) for step in steps]
    return need


def compute_bytes(context: ContextSize) -> int:
    """Of a context, with its outputs, and of what is loaded beside it."""
    beside = context.embedder_bytes + context.draft_bytes + context.projector_bytes
    return context.compute_bytes + context.output_bytes + beside


def _formula(one: Candidate, window: int, options: Mapping[str, Any], item_bytes: int) -> tuple[int, int]:
    """(keys and values, compute buffers) of one window; of a llama.cpp launch, of the pool of all its requests."""
    bits = [BITS.get(options.get(key, "f16"), 16) for key in ("cache_type_k", "cache_type_v")]
    if one.format == PYTORCH:
        bits = [8 * item_bytes] * 2
    per_token = int(one.per_token * sum(bits) / 32)
    cells = window
    if one.format == GGUF:
        _, cells = pool(window, per_token, options.get("n_parallel", 16), options.get("kv_cells"))
    compute = memory.compute_bytes(one.shape, cells, options.get("n_ubatch", 512)) if one.shape else 0
    return per_token * cells, compute

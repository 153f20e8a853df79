"""What a model takes, from its dimensions alone: for plans of models that are not here. Bytes; pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xin.catalog.safetensors import Tensor
from xin.catalog.spec import Shape

# Bits of a weight in a whole file of 7 to 8 billion parameters, mixes and scales counted (llama.cpp's quantize).
_MIXES = (
    "F32 32, F16 16, BF16 16, Q8_0 8.5, Q6_K 6.56, Q5_K_M 5.69, Q5_K_S 5.54, Q5_1 6, Q5_0 5.54, Q4_K_M 4.85, "
    "Q4_K_S 4.58, Q4_1 5, Q4_0 4.55, IQ4_NL 4.5, IQ4_XS 4.3, MXFP4 4.25, Q3_K_L 4.27, Q3_K_M 3.91, Q3_K_S 3.5, Q2_K 3"
)
GGUF_BITS = {name: float(bits) for name, bits in (mix.split() for mix in _MIXES.split(", "))}
_INT8_ROW = 4  # a float32 scale for each row of an int8 matrix
_NF4_BLOCK = 64  # weights that share a scale
_NF4_NESTED = 256  # scales that share a scale of theirs, when they are quantized too
_NF4_TABLE = 16 * 4  # the sixteen values, for each matrix
_NF4_NESTED_TABLE = 256 * 4 + 4  # those of its scales, and their mean
_IN_A_LAYER = re.compile(r"\.\d+\..*\.weight")


def head_dim(shape: Shape) -> int:
    return shape.head_dim or shape.hidden // shape.heads


def linear_parameters(shape: Shape) -> int:
    """Of the matrices in all layers."""
    return shape.layers * sum(rows * columns for rows, columns in _matrices(shape))


def embedding_parameters(shape: Shape) -> int:
    """Of the input embedding, the output head where it is another, and learned positions."""
    return (shape.vocabulary * (1 if shape.tied else 2) + shape.positions) * shape.hidden


def expert_parameters(shape: Shape) -> int:
    """Of all experts of all layers; 0 where there are none."""
    return shape.layers * shape.experts * shape.ffn * shape.hidden * (3 if shape.gated else 2)


def parameters(shape: Shape) -> int:
    """Without biases and norms, which are less than a thousandth."""
    return linear_parameters(shape) + embedding_parameters(shape)


def pytorch_bytes(shape: Shape, quantization: str = "none", *, item_bytes: int = 2, nested: bool = True) -> int:
    """As transformers and bitsandbytes hold them: fp16, `8-bit` with a scale a row, `4-bit` (NF4) with a scale a block.

    Embedding and head stay as they are. `item_bytes`: of a weight that is not quantized, 4 where the device computes
    in float32. `nested`: the scales of NF4 are quantized too (double quantization).
    """
    linear, rest = linear_parameters(shape), item_bytes * embedding_parameters(shape)
    if quantization == "8-bit":
        rows = shape.layers * sum(rows for rows, _ in _matrices(shape))
        return linear + _INT8_ROW * rows + rest
    if quantization == "4-bit":
        blocks = linear // _NF4_BLOCK
        state = blocks + 4 * (blocks // _NF4_NESTED) if nested else 4 * blocks
        return linear // 2 + state + rest
    return item_bytes * linear + rest


def checkpoint_bytes(
    tensors: Iterable[Tensor], quantization: str = "none", *, item_bytes: int = 2, nested: bool = True
) -> int:
    """The same from the headers of a checkpoint. What is quantized are the matrices of its layers."""
    quantized = {"8-bit": _int8_bytes, "4-bit": _nf4_nested_bytes if nested else _nf4_bytes}.get(quantization)
    total = 0
    for tensor in tensors:
        if quantized is not None and len(tensor.shape) == 2 and _IN_A_LAYER.search(tensor.name):
            total += quantized(tensor)
        else:
            total += tensor.items * (item_bytes if tensor.is_float else tensor.item_bytes)
    return total


def _int8_bytes(matrix: Tensor) -> int:
    return matrix.items + _INT8_ROW * matrix.shape[0]


def _nf4_bytes(matrix: Tensor) -> int:
    return -(-matrix.items // 2) + 4 * -(-matrix.items // _NF4_BLOCK) + _NF4_TABLE


def _nf4_nested_bytes(matrix: Tensor) -> int:
    blocks = -(-matrix.items // _NF4_BLOCK)
    scales = blocks + 4 * -(-blocks // _NF4_NESTED) + _NF4_NESTED_TABLE
    return -(-matrix.items // 2) + scales + _NF4_TABLE


def pytorch_bytes_2023(shape: Shape, quantization: str, rotary_positions: int = 0, rotary_item_bytes: int = 2) -> int:
    """As README tables of 2023 counted: no quantization state, but sines and cosines kept by each layer."""
    bits = {"8-bit": 8, "4-bit": 4}.get(quantization, 16)
    head = 2 * 2 * shape.vocabulary * shape.hidden
    rotary = shape.layers * 2 * rotary_positions * head_dim(shape) * rotary_item_bytes
    return linear_parameters(shape) * bits // 8 + head + rotary


def gguf_bytes(shape: Shape, quantization: str) -> int:
    """0 for a quantization that is not known."""
    return gguf_bytes_of(parameters(shape), quantization)


def gguf_bytes_of(parameter_count: float, quantization: str) -> int:
    name = quantization.upper().removeprefix("UD-").replace("_XL", "_M")
    return int(parameter_count * GGUF_BITS.get(name, 0) / 8)


def kv_bytes_per_token(shape: Shape, bits: float = 16) -> int:
    """Keys and values over all layers; sliding windows count as full ones, since their caches are kept whole."""
    return int(2 * shape.layers * shape.kv_heads * head_dim(shape) * bits / 8)


def compute_bytes(shape: Shape, cells: int, n_ubatch: int = 512) -> int:
    """Of a graph's activations and mask, roughly."""
    wide = 4 * shape.hidden + 2 * shape.ffn * max(shape.experts_used, 1) + 2 * shape.heads * head_dim(shape)
    return n_ubatch * (4 * wide + 4 * cells)


def _matrices(shape: Shape) -> list[tuple[int, int]]:
    """(rows, columns) of the matrices of one layer."""
    hidden, width = shape.hidden, head_dim(shape)
    queries, keys = shape.heads * width, shape.kv_heads * width
    attention = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
    up = [(shape.ffn, hidden)] * (2 if shape.gated else 1)
    experts = max(shape.experts, 1)
    router = [(shape.experts, hidden)] if shape.experts else []
    return [*attention, *router, *([*up, (hidden, shape.ffn)] * experts)]

"""Tiny ChatGLM 2, 3 and 4 models in chatglm.cpp's own format, and the forward pass that they must agree with.

chain    attention and MLP give zero, so that the logits depend on the last token alone: any chat is answered with REPLY
cycle    the same, but after its last token REPLY begins again and never ends
random   random weights; `Tiny.next` tells the token that must follow, which is a character and never the end
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
REPLY = "你好，我是一个小模型。🚀"  # no token twice; the rocket is four bytes, and a token each
FAMILIES = {"chatglm2": 2, "chatglm3": 3, "chatglm4": 4}
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}
HIDDEN, HEADS, KV_HEADS, LAYERS, FFN, WINDOW, EPSILON = 128, 4, 2, 2, 256, 2048, 1e-5
WIDTH = HIDDEN // HEADS
EOS = 2
_SPECIAL = {"chatglm2": 5, "chatglm3": 9, "chatglm4": 14}
_CHARACTERS = ["▁", "\n", *map(chr, range(33, 127)), *"问答：", *REPLY[:-1], "▁t", "th", "the", "▁the"]


@dataclass
class Tiny:
    """`tensors`: name → (values, type), in the order of the file."""

    family: str
    vocabulary: int
    eos: int
    tensors: dict[str, tuple[Array, str]] = field(default_factory=dict)

    def next(self, tokens: list[int]) -> tuple[int, float]:
        """The likeliest token after these, and how far the second lies behind, by the published formula."""
        hidden = self._weight("transformer.embedding.word_embeddings.weight")[tokens]
        for layer in range(LAYERS):
            prefix = f"transformer.encoder.layers.{layer}."
            hidden = hidden + self._attention(prefix, self._norm(hidden, prefix + "input_layernorm.weight"))
            hidden = hidden + self._mlp(prefix, self._norm(hidden, prefix + "post_attention_layernorm.weight"))
        last = self._norm(hidden[-1:], "transformer.encoder.final_layernorm.weight")
        logits = (last @ self._weight("transformer.output_layer.weight").T)[0]
        second, first = np.sort(logits)[-2:]
        return int(logits.argmax()), float(first - second)

    def _weight(self, name: str) -> Array:
        return self.tensors[name][0]

    def _norm(self, hidden: Array, name: str) -> Array:
        return hidden / np.sqrt((hidden**2).mean(-1, keepdims=True) + EPSILON) * self._weight(name)

    def _attention(self, prefix: str, hidden: Array) -> Array:
        name = prefix + "self_attention.query_key_value."
        mixed = hidden @ self._weight(name + "weight").T + self._weight(name + "bias")
        count = len(hidden)
        query, key, value = np.split(mixed, [HIDDEN, HIDDEN + KV_HEADS * WIDTH], axis=1)
        query, key = (rotated(part.reshape(count, -1, WIDTH)) for part in (query, key))
        key, value = (part.reshape(count, KV_HEADS, WIDTH).repeat(HEADS // KV_HEADS, axis=1) for part in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(WIDTH)
        scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
        chances = np.exp(scores - scores.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", chances, value).reshape(count, HIDDEN)
        return mixed @ self._weight(prefix + "self_attention.dense.weight").T

    def _mlp(self, prefix: str, hidden: Array) -> Array:
        gate, up = np.split(hidden @ self._weight(prefix + "mlp.dense_h_to_4h.weight").T, 2, axis=1)
        return (gate / (1 + np.exp(-gate)) * up) @ self._weight(prefix + "mlp.dense_4h_to_h.weight").T


def rotated(heads: Array) -> Array:
    """Rotary positions on the first half of each head, on neighbours in pairs; the other half has none."""
    size = WIDTH // 2
    angles = np.arange(len(heads))[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = heads[..., 0:size:2], heads[..., 1:size:2]
    turned = heads.copy()
    turned[..., 0:size:2], turned[..., 1:size:2] = even * cosine - odd * sine, odd * cosine + even * sine
    return turned


def write_tiny(path: Path, family: str = "chatglm2", dtype: str = "f16", mode: str = "chain", seed: int = 0) -> Tiny:
    """Writes `path`."""
    pieces = tiktoken_pieces() if family == "chatglm4" else sentencepieces()
    tokenizer = tiktoken(pieces) if family == "chatglm4" else model_proto(pieces)
    eos = len(pieces) if family == "chatglm4" else EOS
    tiny = Tiny(family, len(pieces) + _SPECIAL[family], eos)
    _fill(tiny, np.random.default_rng(seed), pieces, dtype, mode)
    with path.open("wb") as file:
        file.write(b"ggml" + struct.pack("<2i", FAMILIES[family], 2))
        sizes = (tiny.vocabulary, HIDDEN, HEADS, KV_HEADS, LAYERS, FFN)
        file.write(struct.pack("<7ififiii", TYPES[dtype], *sizes, EPSILON, 0, 10000.0, WINDOW, eos, 0))
        file.write(struct.pack("<i", len(tokenizer)) + tokenizer)
        for name, (values, kind) in tiny.tensors.items():
            write_tensor(file, name, values, kind)
    return tiny


def _fill(tiny: Tiny, rng: np.random.Generator, pieces: list[bytes], dtype: str, mode: str) -> None:
    def random(*shape: int, scale: float = 0.08) -> Array:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    chained = mode != "random"
    embedding, output = random(tiny.vocabulary, HIDDEN, scale=1.0), random(tiny.vocabulary, HIDDEN, scale=0.02)
    if chained:
        for before, after in _links(tiny, pieces, mode):
            output[after] += embedding[before] * 0.25
    else:
        first = len(pieces) - len(REPLY[:-1]) if tiny.family == "chatglm4" else EOS + 257
        output[:first], output[len(pieces) :] = 0, 0
    ones, width = np.ones(HIDDEN, np.float32), HIDDEN + 2 * KV_HEADS * WIDTH
    tiny.tensors["transformer.embedding.word_embeddings.weight"] = (embedding, dtype)
    for layer in range(LAYERS):
        prefix = f"transformer.encoder.layers.{layer}."
        for name, values, kind in (
            ("input_layernorm.weight", ones, "f32"),
            ("self_attention.query_key_value.weight", random(width, HIDDEN), dtype),
            ("self_attention.query_key_value.bias", random(width), "f32"),
            ("self_attention.dense.weight", random(HIDDEN, HIDDEN) * (not chained), dtype),
            ("post_attention_layernorm.weight", ones, "f32"),
            ("mlp.dense_h_to_4h.weight", random(2 * FFN, HIDDEN), dtype),
            ("mlp.dense_4h_to_h.weight", random(HIDDEN, FFN) * (not chained), dtype),
        ):
            tiny.tensors[prefix + name] = (values, kind)
    tiny.tensors["transformer.encoder.final_layernorm.weight"] = (ones, "f32")
    tiny.tensors["transformer.output_layer.weight"] = (output, dtype)


def _links(tiny: Tiny, pieces: list[bytes], mode: str) -> list[tuple[int, int]]:
    """(token, the one that follows it): from the last token of any chat through REPLY to the end."""
    reply = [pieces.index(character.encode()) for character in REPLY[:-1]]
    if tiny.family == "chatglm4":
        starts, reply = [len(pieces) + 8], [*reply, *REPLY[-1].encode()]
    else:
        starts = [pieces.index("：".encode())] if tiny.family == "chatglm2" else [len(pieces) + 7]
        reply += [3 + byte for byte in REPLY[-1].encode()]
    end = tiny.eos if mode == "chain" else reply[0]
    return [*((start, reply[0]) for start in starts), *zip(reply, [*reply[1:], end], strict=True)]


# ---- tokenizers


def sentencepieces() -> list[bytes]:
    """<unk>, <s>, </s>, a piece a byte, then characters and a few longer ones."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    return [piece.encode() for piece in ["<unk>", "<s>", "</s>", *bytes_, *_CHARACTERS]]


def tiktoken_pieces() -> list[bytes]:
    return [*(bytes([byte]) for byte in range(256)), *(character.encode() for character in REPLY[:-1])]


def tiktoken(pieces: list[bytes]) -> bytes:
    return b"".join(base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(pieces))


def model_proto(pieces: list[bytes], whole: int = 0) -> bytes:
    """A sentencepiece BPE model with byte fallback, no normalization, and a space before each text.

    The last `whole` pieces are found in a text before all others.
    """
    plain = len(pieces) - 259 - whole
    kinds = [2, 3, 3, *[6] * 256, *[1] * plain, *[4] * whole]  # unknown, control, byte, normal, user-defined
    spec = b"".join(
        _field(1, _field(1, piece) + _tag(2, 5) + struct.pack("<f", -float(rank)) + _number(3, kind))
        for rank, (piece, kind) in enumerate(zip(pieces, kinds, strict=True))
    )
    trainer = _number(3, 2) + _number(4, len(pieces)) + _number(35, 1)
    normalizer = _field(1, b"identity") + _number(3, 1) + _number(4, 0) + _number(5, 1)
    return spec + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, value: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _tag(number, 0) + _varint(value)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


# ---- tensors


def write_tensor(file: BinaryIO, name: str, values: Array, kind: str) -> None:
    encoded = name.encode()
    head = struct.pack(f"<{values.ndim + 2}i", values.ndim, *values.shape, TYPES[kind])
    file.write(struct.pack("<i", len(encoded)) + encoded + head)
    file.write(b"\0" * (-file.tell() % 16))
    file.write(_packed(values, kind))


def _packed(values: Array, kind: str) -> bytes:
    if kind in ("f32", "f16"):
        return values.astype("<f4" if kind == "f32" else "<f2").tobytes()
    blocks = values.reshape(-1, 32)
    if kind == "q8_0":
        scale = np.abs(blocks).max(1, keepdims=True) / 127
        numbers = np.round(blocks / np.where(scale == 0, 1, scale)).astype(np.int8)
        return np.concatenate([scale.astype("<f2").view(np.int8), numbers], 1).tobytes()
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    scale = largest / -8
    nibbles = np.round(blocks / np.where(scale == 0, 1, scale) + 8).clip(0, 15).astype(np.uint8)
    pairs = nibbles[:, :16] | (nibbles[:, 16:] << 4)
    return np.concatenate([scale.astype("<f2").view(np.uint8), pairs], 1).tobytes()

"""A tiny model of ChatGLM's first family in chatglm.cpp's own format, and the forward pass that it must agree with."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tiny_chatglm import (
    EPSILON,
    FFN,
    HEADS,
    HIDDEN,
    LAYERS,
    TYPES,
    WIDTH,
    WINDOW,
    Array,
    model_proto,
    sentencepieces,
    write_tensor,
)

_SPECIAL = ["[MASK]", "[gMASK]", "<sop>", "<eop>", "<pad>", "<n>", "<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 9))]
_ALPHA = np.sqrt(2 * 28)  # of 28 layers, whatever a model has


@dataclass
class TinyFirst:
    vocabulary: int
    eos: int
    tensors: dict[str, tuple[Array, str]] = field(default_factory=dict)

    def next(self, tokens: list[int], asked: int) -> tuple[int, float]:
        """The likeliest token after these, of which `asked` are the prompt, and how far the second lies behind."""
        hidden = self._weight("transformer.word_embeddings.weight")[tokens]
        for layer in range(LAYERS):
            prefix = f"transformer.layers.{layer}."
            normed = self._norm(hidden, prefix + "input_layernorm")
            hidden = normed * _ALPHA + self._attention(prefix, normed, asked)
            normed = self._norm(hidden, prefix + "post_attention_layernorm")
            hidden = normed * _ALPHA + self._mlp(prefix, normed)
        last = self._norm(hidden[-1:], "transformer.final_layernorm")
        logits = (last @ self._weight("transformer.word_embeddings.weight").T)[0]
        second, first = np.sort(logits)[-2:]
        return int(logits.argmax()), float(first - second)

    def _weight(self, name: str) -> Array:
        return self.tensors[name][0]

    def _linear(self, name: str, hidden: Array) -> Array:
        return hidden @ self._weight(f"{name}.weight").T + self._weight(f"{name}.bias")

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return scaled * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")

    def _attention(self, prefix: str, hidden: Array, asked: int) -> Array:
        """All of the prompt but its last token is seen by all; from there on each token sees what is before it."""
        count = len(hidden)
        mixed = self._linear(prefix + "attention.query_key_value", hidden).reshape(count, HEADS, 3 * WIDTH)
        query, key, value = np.split(mixed, 3, axis=2)
        place = np.arange(count)
        in_prompt, behind = np.minimum(place, asked - 2), np.maximum(place - (asked - 2), 0)
        query, key = (
            np.concatenate([_turned(part[..., : WIDTH // 2], in_prompt), _turned(part[..., WIDTH // 2 :], behind)], 2)
            for part in (query, key)
        )
        scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(WIDTH)
        seen = (place[None, :] <= place[:, None]) | (place[None, :] < asked - 1)
        scores = np.where(seen, scores, -np.inf)
        chances = np.exp(scores - scores.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", chances, value).reshape(count, HIDDEN)
        return self._linear(prefix + "attention.dense", mixed)

    def _mlp(self, prefix: str, hidden: Array) -> Array:
        wide = self._linear(prefix + "mlp.dense_h_to_4h", hidden)
        wide = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        return self._linear(prefix + "mlp.dense_4h_to_h", wide)


def _turned(part: Array, places: np.ndarray) -> Array:
    """Rotary positions on pairs of the two halves."""
    size = part.shape[-1]
    angles = places[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = np.split(part, 2, axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def write_first(path: Path, dtype: str = "f32", version: int = 2, seed: int = 0) -> TinyFirst:
    pieces = [*sentencepieces(), *(piece.encode() for piece in _SPECIAL)]
    tiny = TinyFirst(len(pieces) + 8, pieces.index(b"<eop>"))  # padded, as the real ones are
    _fill(tiny, np.random.default_rng(seed), dtype)
    tokenizer = model_proto(pieces, whole=len(_SPECIAL))
    with path.open("wb") as file:
        file.write(b"ggml" + struct.pack("<2i", 1, version))
        sizes = (tiny.vocabulary, HIDDEN, HEADS)
        if version == 1:
            bos, pad = pieces.index(b"<sop>"), pieces.index(b"<pad>")
            file.write(struct.pack("<11i", TYPES[dtype], *sizes, LAYERS, FFN, WINDOW, bos, tiny.eos, pad, -1))
        else:
            more = (HEADS, LAYERS, FFN, EPSILON, 0, 10000.0, WINDOW, tiny.eos, 0)
            file.write(struct.pack("<7ififiii", TYPES[dtype], *sizes, *more))
        file.write(struct.pack("<i", len(tokenizer)) + tokenizer)
        for name, (values, kind) in tiny.tensors.items():
            write_tensor(file, name, values, kind)
    return tiny


def _fill(tiny: TinyFirst, rng: np.random.Generator, dtype: str) -> None:
    """The final norm is random: both ends share weights, so that one of ones would repeat each token."""

    def random(*shape: int, scale: float = 0.08) -> Array:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    tiny.tensors["transformer.word_embeddings.weight"] = (random(tiny.vocabulary, HIDDEN, scale=1.0), dtype)
    for layer in range(LAYERS):
        prefix = f"transformer.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tiny.tensors[f"{prefix}{norm}.weight"] = (1 + random(HIDDEN), "f32")
            tiny.tensors[f"{prefix}{norm}.bias"] = (random(HIDDEN), "f32")
        for name, rows, columns in (
            ("attention.query_key_value", 3 * HIDDEN, HIDDEN),
            ("attention.dense", HIDDEN, HIDDEN),
            ("mlp.dense_h_to_4h", FFN, HIDDEN),
            ("mlp.dense_4h_to_h", HIDDEN, FFN),
        ):
            tiny.tensors[f"{prefix}{name}.weight"] = (random(rows, columns, scale=0.3), dtype)
            tiny.tensors[f"{prefix}{name}.bias"] = (random(rows), "f32")
    tiny.tensors["transformer.final_layernorm.weight"] = (random(HIDDEN, scale=1.0), "f32")
    tiny.tensors["transformer.final_layernorm.bias"] = (random(HIDDEN), "f32")

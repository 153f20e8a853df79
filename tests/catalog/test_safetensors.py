"""Headers of .safetensors files: what they tell, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xin.catalog.safetensors import LENGTH_BYTES, MOST_HEADER_BYTES, Tensor, header_bytes, tensors


def header(**entries: Any) -> bytes:
    return json.dumps(entries).encode()


def entry(dtype: str = "F16", shape: tuple[int, ...] = (4, 8), bytes_: int = 64) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, bytes_]}


def test_names_types_and_shapes():
    found = tensors(header(__metadata__={"format": "pt"}, weight=entry(), steps=entry("I64", (), 8)))
    assert found == [Tensor("weight", "F16", (4, 8)), Tensor("steps", "I64", ())]
    assert [(one.items, one.item_bytes, one.is_float) for one in found] == [(32, 2, True), (1, 8, False)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"[" * 100_000, "damaged"),
        (b'{"a": 1}', "damaged"),
        (b"\xff\xfe{}", "damaged"),
        (header(__metadata__={"format": "pt"}), "no tensors"),
        (header(a=entry("F13")), "unknown type"),
        (header(a=entry(shape=(2**60, 2**60))), "does not agree"),
        (header(a=entry(shape=(-4, -8))), "does not agree"),
        (header(a=entry(bytes_=65)), "does not agree"),
    ],
)
def test_hostile_headers_are_refused_with_their_reason(bad: bytes, words: str):
    with pytest.raises(ValueError, match=words):
        tensors(bad)


def test_the_length_before_the_header():
    assert header_bytes((1000).to_bytes(LENGTH_BYTES, "little") + b"{") == 1000
    with pytest.raises(ValueError, match="not a safetensors"):
        header_bytes(b"GGUF\x03\x00\x00\x00\x00")
    with pytest.raises(ValueError, match="are the most"):
        header_bytes((MOST_HEADER_BYTES + 1).to_bytes(LENGTH_BYTES, "little") + b"{")
    with pytest.raises(ValueError, match="not a safetensors"):
        header_bytes(b"")

"""What the headers of .safetensors files tell: names, types and shapes of tensors, without reading a weight.

The format: eight bytes of length, then JSON of {name: {dtype, shape, data_offsets}} (huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 64 << 20
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_ITEM_BYTES = {**_FLOATS, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_METADATA = "__metadata__"


class Tensor(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def items(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in _FLOATS

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES[self.dtype]


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def header_bytes(head: bytes) -> int:
    """Length of the JSON after the first eight bytes. ValueError for what is no such file."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if len(head) <= LENGTH_BYTES or head[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or not length >= 2:
        raise ValueError("this is not a safetensors file")
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes; {MOST_HEADER_BYTES} are the most")
    return length


def tensors(header: bytes) -> list[Tensor]:
    """Of the JSON. ValueError when it is not as the format has it, or its sizes do not agree."""
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        found = [
            _checked(name, msgspec.json.decode(raw, type=_Entry)) for name, raw in entries.items() if name != _METADATA
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(f"its header is damaged: {exc}") from exc
    if not found:
        raise ValueError("it holds no tensors")
    return found


def _checked(name: str, entry: _Entry) -> Tensor:
    tensor = Tensor(name, entry.dtype, tuple(entry.shape))
    if entry.dtype not in _ITEM_BYTES:
        raise ValueError(f"{name[:100]} is of the unknown type {entry.dtype[:20]}")
    first, last = entry.data_offsets
    if any(side < 0 for side in tensor.shape) or first < 0 or last - first != tensor.items * tensor.item_bytes:
        raise ValueError(f"the size of {name[:100]} does not agree with its place in the file")
    return tensor

"""A file in chatglm.cpp's own ggml format, looked at before the library does: what is wrong in it aborts the process.

    "ggml" | family | version | configuration | size of the tokenizer | tokenizer | tensors to the end of the file
    tensor: size of its name | name | dimensions | each, outermost first | type | padding to 16 bytes | data

All numbers are little-endian int32, but for two floats of the configuration.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from xin.errors import LoadFailed

MAGIC = b"ggml"
CHATGLM, CHATGLM2, CHATGLM3, CHATGLM4, GLM4V = 1, 2, 3, 4, 1004
FAMILIES = {CHATGLM: "ChatGLM", CHATGLM2: "ChatGLM2", CHATGLM3: "ChatGLM3", CHATGLM4: "ChatGLM4"}
_ALIGNMENT = 16
_MOST_LAYERS = 128  # the library's tables of tensors and of nodes have no room for more
_MOST_TOKENIZER_BYTES = 64 << 20
_LONGEST_NAME = 256
_F32, _F16 = 0, 1
# Number of a type: its name, values in a block, bytes of a block.
_TYPES = {
    _F32: ("f32", 1, 4),
    _F16: ("f16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
}
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """Of any version; `kv_heads` = `heads` where the file has none."""

    family: int
    dtype: int
    vocabulary: int
    hidden: int
    heads: int
    kv_heads: int
    layers: int
    ffn: int
    max_length: int
    eos: int
    virtual_tokens: int = 0

    @property
    def family_name(self) -> str:
        return FAMILIES[self.family]

    @property
    def type_name(self) -> str:
        return _TYPES[self.dtype][0]

    def kv_bytes(self, window: int) -> int:
        """Keys and values of a window, in f16."""
        return 2 * 2 * self.layers * self.kv_heads * (self.hidden // self.heads) * (window + self.virtual_tokens)


@dataclass(frozen=True, slots=True)
class ModelFile:
    config: Config
    tokenizer: bytes
    size_bytes: int


def read(path: Path) -> ModelFile:
    """Its configuration and tokenizer; every tensor is where the library will look for it. Raises LoadFailed."""
    try:
        with path.open("rb") as file:
            return _Reader(path, file).read()
    except OSError as exc:
        raise LoadFailed(f"cannot read {path}: {exc.strerror}", "check the path and its permissions") from exc


class _Reader:
    """One pass over a file, in which nothing of the tensors' data is read."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = path.stat().st_size

    def read(self) -> ModelFile:
        if self._bytes(len(MAGIC), "its first bytes") != MAGIC:
            self._fail("is not a file of chatglm.cpp", "give a .bin that chatglm.cpp's convert.py wrote, or a GGUF")
        config = self._config()
        (size,) = self._ints(1, "the size of its tokenizer")
        if not 0 < size <= _MOST_TOKENIZER_BYTES:
            self._fail(f"has a tokenizer of {size} bytes")
        tokenizer = self._bytes(size, "its tokenizer")
        self._check_tensors(config)
        return ModelFile(config, tokenizer, self._size)

    def _config(self) -> Config:
        family, version = self._ints(2, "its version")
        if family == GLM4V:
            self._fail("is GLM-4V, which takes images: this engine does not serve it", "take its GGUF")
        if family not in FAMILIES:
            self._fail(f"is of model type {family}", f"known: {', '.join(FAMILIES.values())}")
        if version == 1 and family != CHATGLM4:
            config = self._first_version(family)
        elif version == 2:
            *ints, epsilon, virtual, theta, longest, eos, _pad = self._unpack("<7ififiii", "its configuration")
            if not (0 < epsilon < 1 and 0 < theta < math.inf):  # not a number is neither
                self._fail("has a norm or positions that no such model has")
            dtype, vocabulary, hidden, heads, kv_heads, layers, ffn = map(int, ints)
            sizes = (vocabulary, hidden, heads, kv_heads, layers, ffn)
            config = Config(family, dtype, *sizes, int(longest), int(eos), int(virtual))
        else:
            self._fail(f"is of format version {version}", "convert the model anew with chatglm.cpp's convert.py")
        self._check_sizes(config)
        return config

    def _first_version(self, family: int) -> Config:
        """ChatGLM's of 2023; ChatGLM2's have the number of key-value heads at the end."""
        values = self._ints(11 if family == CHATGLM else 12, "its configuration")
        dtype, vocabulary, hidden, heads, layers, ffn, longest, _bos, eos, _pad, _sep, *more = values
        kv_heads = more[0] if more else heads
        return Config(family, dtype, vocabulary, hidden, heads, kv_heads, layers, ffn, longest, eos)

    def _check_sizes(self, config: Config) -> None:
        if config.dtype not in _TYPES:
            self._fail(f"has weights of ggml type {config.dtype}", f"known: {', '.join(t[0] for t in _TYPES.values())}")
        sizes = (config.vocabulary, config.hidden, config.heads, config.kv_heads, config.layers, config.ffn)
        most = 1 << 24
        sane = all(0 < size < most for size in (*sizes, config.max_length)) and 0 <= config.virtual_tokens < most
        sane = sane and config.layers <= _MOST_LAYERS and not config.hidden % (4 * config.heads)
        if not sane or config.heads % config.kv_heads:
            self._fail("has dimensions that no such model has")
        if config.family == CHATGLM and (config.virtual_tokens or config.kv_heads != config.heads):
            self._fail("is a ChatGLM with a learned prefix or shared key-value heads, which the library cannot run")

    def _check_tensors(self, config: Config) -> None:
        wanted = _tensors(config)
        count = len(wanted)
        while wanted:
            if self._file.tell() >= self._size:
                some = ", ".join(list(wanted)[:3])
                self._fail(f"ends after {count - len(wanted)} of {count} tensors; {some} are missing")
            name, shape, kind = self._tensor()
            if wanted.pop(name, None) != (shape, kind):
                self._fail(f"has a tensor {name!r} of {list(shape)} that a {config.family_name} of its size has not")
        if self._file.tell() != self._size:
            self._fail(f"goes on after its last tensor, at byte {self._file.tell()}")

    def _tensor(self) -> tuple[str, Shape, int]:
        (length,) = self._ints(1, "a tensor's name")
        if not 0 < length <= _LONGEST_NAME:
            self._fail(f"has no tensor at byte {self._file.tell() - 4}")
        name = self._bytes(length, "a tensor's name").decode("utf-8", "replace")
        (dimensions,) = self._ints(1, f"the shape of {name}")
        if not 0 < dimensions <= 4:
            self._fail(f"has a tensor {name!r} of {dimensions} dimensions")
        *shape, kind = self._ints(dimensions + 1, f"the shape of {name}")
        if kind not in _TYPES or min(shape) <= 0:
            self._fail(f"has a tensor {name!r} of ggml type {kind} and shape {shape}")
        _, block, block_bytes = _TYPES[kind]
        end = -(-self._file.tell() // _ALIGNMENT) * _ALIGNMENT + math.prod(shape) // block * block_bytes
        if shape[-1] % block or end > self._size:
            self._fail(f"ends in the middle of {name}: it has {self._size} bytes, and that goes to byte {end}")
        self._file.seek(end)
        return name, tuple(shape), kind

    def _ints(self, count: int, what: str) -> tuple[int, ...]:
        return tuple(map(int, self._unpack(f"<{count}i", what)))

    def _unpack(self, format: str, what: str) -> tuple[int | float, ...]:
        return struct.unpack(format, self._bytes(struct.calcsize(format), what))

    def _bytes(self, count: int, what: str) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            self._fail(f"ends in the middle of {what}, after {self._size} bytes")
        return data

    def _fail(self, words: str, hint: str = "download or convert it again: it is damaged or cut short") -> NoReturn:
        raise LoadFailed(f"{self._path.name} {words}", hint)


def _tensors(config: Config) -> dict[str, tuple[Shape, int]]:
    """Name: shape and type of all that a model of this configuration has, and needs."""
    matrices, vectors = _first_family(config) if config.family == CHATGLM else _later_families(config)
    prefix = {}
    if config.virtual_tokens:
        width = config.hidden // config.heads
        prefix["past_key_values"] = ((2 * config.layers, config.kv_heads, config.virtual_tokens, width), _F16)
    return (
        prefix
        | {name: (shape, config.dtype) for name, shape in matrices.items()}
        | {name: ((size,), _F32) for name, size in vectors.items()}
    )


def _first_family(config: Config) -> tuple[dict[str, Shape], dict[str, int]]:
    hidden = config.hidden
    matrices: dict[str, Shape] = {"transformer.word_embeddings.weight": (config.vocabulary, hidden)}
    vectors: dict[str, int] = {}
    for layer in range(config.layers):
        prefix = f"transformer.layers.{layer}."
        for name, rows, columns in (
            ("attention.query_key_value", 3 * hidden, hidden),
            ("attention.dense", hidden, hidden),
            ("mlp.dense_h_to_4h", config.ffn, hidden),
            ("mlp.dense_4h_to_h", hidden, config.ffn),
        ):
            matrices[f"{prefix}{name}.weight"] = (rows, columns)
            vectors[f"{prefix}{name}.bias"] = rows
        for norm in ("input_layernorm", "post_attention_layernorm"):
            vectors |= {f"{prefix}{norm}.{part}": hidden for part in ("weight", "bias")}
    return matrices, vectors | {f"transformer.final_layernorm.{part}": hidden for part in ("weight", "bias")}


def _later_families(config: Config) -> tuple[dict[str, Shape], dict[str, int]]:
    hidden = config.hidden
    width = hidden + 2 * (hidden // config.heads) * config.kv_heads
    matrices: dict[str, Shape] = {"transformer.embedding.word_embeddings.weight": (config.vocabulary, hidden)}
    vectors: dict[str, int] = {}
    for layer in range(config.layers):
        prefix = f"transformer.encoder.layers.{layer}."
        matrices[prefix + "self_attention.query_key_value.weight"] = (width, hidden)
        matrices[prefix + "self_attention.dense.weight"] = (hidden, hidden)
        matrices[prefix + "mlp.dense_h_to_4h.weight"] = (2 * config.ffn, hidden)
        matrices[prefix + "mlp.dense_4h_to_h.weight"] = (hidden, config.ffn)
        vectors[prefix + "self_attention.query_key_value.bias"] = width
        vectors |= {f"{prefix}{norm}.weight": hidden for norm in ("input_layernorm", "post_attention_layernorm")}
    matrices["transformer.output_layer.weight"] = (config.vocabulary, hidden)
    return matrices, vectors | {"transformer.encoder.final_layernorm.weight": hidden}

"""The bytes of each token id, read from the tokenizer in the file: the library itself only decodes whole texts."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping

from xin.backends.chatglm_cpp.model_file import CHATGLM, CHATGLM2, CHATGLM3, CHATGLM4, ModelFile
from xin.errors import LoadFailed

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how sentencepiece writes a space
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6
_BLANKS = re.compile(r"<\|blank_(\d{1,2})\|>")
# What ChatGLM's first tokenizer has for white space, and what stands for no text there.
_FIRST_FAMILY = {"<n>": "\n", "<|tab|>": "\t", "[MASK]": "", "[gMASK]": "", "<sop>": "", "<eop>": "", "<pad>": ""}
# Ids behind those of the tokenizer that stand for no text: [MASK], [gMASK], [sMASK], sop, eop; then the roles.
_SPECIAL = {CHATGLM: 0, CHATGLM2: 5, CHATGLM3: 9, CHATGLM4: 14}
_ASSISTANT = {CHATGLM3: 7, CHATGLM4: 8}


class Pieces:
    """`assistant`: the id that opens an answer, where there is one. `count`: of all ids that the tokenizer gives."""

    def __init__(self, model: ModelFile, file_name: str) -> None:
        family = model.config.family
        self._has_dummy_prefix = family != CHATGLM4
        try:
            named = _FIRST_FAMILY if family == CHATGLM else {}
            self._pieces = _tiktoken(model.tokenizer) if family == CHATGLM4 else _sentencepiece(model.tokenizer, named)
        except (ValueError, IndexError, UnicodeDecodeError) as exc:
            raise LoadFailed(f"{file_name} has a damaged tokenizer", "download or convert it again") from exc
        self.count = len(self._pieces) + _SPECIAL[family]
        if self.count > model.config.vocabulary:
            words = f"{file_name} has {self.count} tokens, but weights for {model.config.vocabulary}"
            raise LoadFailed(words, "convert it again with the tokenizer that belongs to it")
        self.assistant = len(self._pieces) + _ASSISTANT[family] if family in _ASSISTANT else None

    def piece(self, token: int) -> bytes:
        """b"" for what stands for no text."""
        return self._pieces[token] if token < len(self._pieces) else b""

    def first(self, text: bytes) -> bytes:
        """Without the space that sentencepiece puts before every text."""
        return text.removeprefix(b" ") if self._has_dummy_prefix else text


def _tiktoken(data: bytes) -> list[bytes]:
    """Lines of a token in base64 and its rank, which is its id."""
    ranked = {int(rank): binascii.a2b_base64(token) for token, rank in (line.split() for line in data.splitlines())}
    if sorted(ranked) != list(range(len(ranked))) or not ranked:
        raise ValueError("ranks are not 0 to n - 1")
    if not {bytes([byte]) for byte in range(256)} <= set(ranked.values()):
        raise ValueError("a byte has no token, so that not every text could be read")
    return [ranked[rank] for rank in range(len(ranked))]


def _sentencepiece(data: bytes, named: Mapping[str, str]) -> list[bytes]:
    """Of a ModelProto: its field 1 is a piece, in whose fields 1 is the text and 3 the kind."""
    pieces = [_bytes_of(value, named) for number, value in _fields(data) if number == 1 and isinstance(value, bytes)]
    if not pieces:
        raise ValueError("no pieces")
    return pieces


def _bytes_of(piece: bytes, named: Mapping[str, str]) -> bytes:
    fields = dict(_fields(piece))
    raw, kind = fields.get(1, b""), fields.get(3, 1)
    text = raw.decode() if isinstance(raw, bytes) else ""
    if text in named:
        return named[text].encode()
    if named and (found := _BLANKS.fullmatch(text)):
        return b" " * int(found[1])
    if kind == _BYTE:
        return bytes([int(text[3:-1], 16)])  # <0xE4>
    if kind == _CONTROL:
        return b""
    return " \N{DOUBLE QUESTION MARK} ".encode() if kind == _UNKNOWN else text.replace(_SPACE, " ").encode()


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a protobuf message; b"" for a fixed-size one."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            yield number, b""
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field ends behind its message")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7

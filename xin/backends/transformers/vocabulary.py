"""Token ids and bytes of a Hugging Face tokenizer: tokenise, detokenise, and the piece of every id."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from xin.errors import LoadFailed

# Tokens that end a turn, by the names that models give them; llama.cpp keeps such a list too.
_END_NAMES = frozenset(
    (
        "</s>",
        "<eos>",
        "<EOT>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<end_of_turn>",
        "<turn|>",
        "<|return|>",
        "<|call|>",
        "<|endofturn|>",
        "<|end_of_turn|>",
    )
)
_FILL_IN_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """Read only, and so safe on every thread. `size` counts the model's logits, which may be more than the tokens."""

    def __init__(self, tokenizer: Any, size: int, end_ids: Iterable[int]) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise LoadFailed(
                f"{type(tokenizer).__name__} is a tokenizer in Python, which this engine does not run",
                "use a repository that has a tokenizer.json",
            )
        source = backend.to_str()
        self._raw, self._parsing = (_tokenizer(source, raw) for raw in (True, False))
        decoder = json.dumps(json.loads(source).get("decoder"))
        self._byte_level, self._word_parts = '"ByteLevel"' in decoder, '"WordPiece"' in decoder
        self._added = self._parsing.get_added_tokens_decoder()
        self.size = size
        self.bos = _id(tokenizer.bos_token_id)
        self.eos = _id(tokenizer.eos_token_id)
        named = (i for i, token in self._added.items() if token.content in _END_NAMES)
        self.end_ids = frozenset(i for i in [*end_ids, self.eos, *named] if 0 <= i < size)
        self.end_array: npt.NDArray[np.int64] = np.array(sorted(self.end_ids), dtype=np.int64)
        self.control_ids = [i for i, token in self._added.items() if token.special and i < size]
        self._control = frozenset(self.control_ids)

    def tokenize(self, text: str | bytes, add_special: bool, parse_special: bool) -> list[int]:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        tokenizer = self._parsing if parse_special else self._raw
        ids: list[int] = tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """Two texts as the model reads them together: (ids, which text each id is of)."""
        found = self._raw.encode(first, second)
        return found.ids, found.type_ids

    def piece(self, token: int, special: bool = False) -> bytes:
        """The token's bytes; b"" for a control token unless `special`. Of an image's place, bytes that no text has."""
        if token < 0:
            return b"\xff%d" % token if special else b""
        return b"" if token in self._control and not special else self.pieces[token]

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.piece(token, special=True) for token in tokens)

    @cached_property
    def pieces(self) -> list[bytes]:
        """Every id's bytes, control tokens by name; b"" for ids that stand for nothing."""
        return [self._bytes(i) for i in range(self.size)]

    def fill_in_the_middle(self) -> tuple[int, int, int] | None:
        """Prefix, suffix and middle ids, when the model has them."""
        for names in _FILL_IN_NAMES:
            before, after, middle = (self._parsing.token_to_id(name) for name in names)
            if before is not None and after is not None and middle is not None:
                return before, after, middle
        return None

    def _bytes(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token].content).encode()
        text: str | None = self._parsing.id_to_token(token)
        if text is None:
            return b""
        if self._byte_level:
            return b"".join(_BYTES.get(char) or char.encode() for char in text)
        if self._word_parts:
            return (text[2:] if text.startswith("##") else f" {text}").encode()
        if found := _BYTE.fullmatch(text):
            return bytes([int(found[1], 16)])
        return text.replace("▁", " ").encode()


def _tokenizer(source: str, raw: bool) -> Any:
    """A copy of its own; a raw one reads the names of special tokens as text."""
    tokenizer = Tokenizer.from_str(source)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = raw
    return tokenizer


def _id(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _byte_alphabet() -> dict[str, bytes]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    chars = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return {char: bytes([byte]) for byte, char in chars.items()}


_BYTES = _byte_alphabet()

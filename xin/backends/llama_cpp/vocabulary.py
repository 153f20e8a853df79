"""Token ids and bytes: tokenise, detokenise, and the piece of every id."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt


class Vocabulary:
    """Read only, and so safe on every thread."""

    def __init__(self, model: Any) -> None:
        self._vocab = lib.llama_model_get_vocab(model)
        self.size = int(lib.llama_vocab_n_tokens(self._vocab))
        self.bos = int(lib.llama_vocab_bos(self._vocab))
        self.eos = int(lib.llama_vocab_eos(self._vocab))
        self.eot = int(lib.llama_vocab_eot(self._vocab))
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(self._vocab))
        self.end_ids = frozenset(i for i in range(self.size) if lib.llama_vocab_is_eog(self._vocab, i))
        self.end_array: npt.NDArray[np.int64] = np.array(sorted(self.end_ids), dtype=np.int64)
        self._pieces: dict[int, bytes] = {}

    @property
    def pointer(self) -> Any:
        return self._vocab

    def tokenize(self, text: str | bytes, add_special: bool, parse_special: bool) -> list[int]:
        data = text if isinstance(text, bytes) else text.encode()
        room = len(data) + 16
        buffer = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocab, data, len(data), buffer, room, add_special, parse_special)
        if count < 0:
            room = -count
            buffer = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), buffer, room, add_special, parse_special)
        return list(buffer[:count])

    def piece(self, token: int, special: bool = False) -> bytes:
        """The token's bytes; b"" for a control token unless `special`. Of an image's place, bytes that no text has."""
        if token < 0:
            return b"\xff%d" % token if special else b""
        if special:
            return self._render(token, True)
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._render(token, False)
        return piece

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.piece(token, special=True) for token in tokens)

    @cached_property
    def pieces(self) -> list[bytes]:
        """Every id's bytes, control tokens by name."""
        return [self._render(i, True) for i in range(self.size)]

    @cached_property
    def control_ids(self) -> list[int]:
        return [i for i in range(self.size) if lib.llama_vocab_is_control(self._vocab, i)]

    def fill_in_the_middle(self) -> tuple[int, int, int] | None:
        """Prefix, suffix and middle ids, when the model has them."""
        ids = (
            int(lib.llama_vocab_fim_pre(self._vocab)),
            int(lib.llama_vocab_fim_suf(self._vocab)),
            int(lib.llama_vocab_fim_mid(self._vocab)),
        )
        return ids if min(ids) >= 0 else None

    def _render(self, token: int, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        count = lib.llama_token_to_piece(self._vocab, token, buffer, 64, 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = lib.llama_token_to_piece(self._vocab, token, buffer, -count, 0, special)
        return buffer.raw[:count]

"""What shared parts of the engines ask of a vocabulary."""

from __future__ import annotations

from typing import Protocol


class Pieces(Protocol):
    """The bytes of token ids; b"" for a control token unless `special`."""

    def piece(self, token: int, special: bool = False) -> bytes: ...


class Vocabulary(Pieces, Protocol):
    """`bos` and `eos` are -1 where there is none."""

    bos: int
    eos: int

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]: ...

"""The real model's vocabulary, without its weights."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as ll
import pytest

from xin.chat.constraint import ConstraintFactory


@dataclass
class Vocabulary:
    template: str
    pieces: list[bytes]
    special_ids: list[int]
    bos: int
    eos: int
    handle: object

    def tokenize(self, text: bytes) -> list[int]:
        room = (ll.llama_token * (len(text) + 8))()
        count = ll.llama_tokenize(self.handle, text, len(text), room, len(room), False, False)
        return list(room[:count])


@pytest.fixture(scope="session")
def vocabulary(smollm2: Path) -> Iterator[Vocabulary]:
    params = ll.llama_model_default_params()
    params.vocab_only = True
    model = ll.llama_model_load_from_file(str(smollm2).encode(), params)
    handle = ll.llama_model_get_vocab(model)
    pieces, special = [], []
    room = ctypes.create_string_buffer(1024)
    for token in range(ll.llama_vocab_n_tokens(handle)):
        size = ll.llama_token_to_piece(handle, token, room, len(room), 0, True)
        pieces.append(room.raw[:size])
        if ll.llama_vocab_get_attr(handle, token) & ll.LLAMA_TOKEN_ATTR_CONTROL:
            special.append(token)
    template = ll.llama_model_chat_template(model, None).decode()
    bos, eos = ll.llama_vocab_bos(handle), ll.llama_vocab_eos(handle)
    yield Vocabulary(template, pieces, special, bos, eos, handle)
    ll.llama_model_free(model)


@pytest.fixture(scope="session")
def factory(vocabulary: Vocabulary) -> ConstraintFactory:
    return ConstraintFactory(
        vocabulary.pieces,
        eos_ids=[vocabulary.eos, 0],
        tokenize=vocabulary.tokenize,
        special_ids=vocabulary.special_ids,
        bos_id=vocabulary.bos,
    )

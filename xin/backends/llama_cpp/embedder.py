"""Embeddings: a second context, made on first use. Pooling from the model's metadata, else the mean over tokens."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from xin.backends.llama_cpp.batch import Batch
from xin.backends.llama_cpp.context import Context, float_array
from xin.backends.llama_cpp.model import Model
from xin.errors import BadRequest, InternalError

MAX_TOKENS = 8192  # of one input, and of one pass
SEQUENCES = 64  # of one pass
_NONE, _MEAN, _UNSPECIFIED = 0, 1, -1


def embedding_params(model: Model, window: int, threads: int) -> Any:
    """llama_context_params of the context that embeds."""
    params = lib.llama_context_default_params()
    # llama.cpp reserves a pass of whole rows of sequences, and aborts when its outputs are fewer
    tokens = -(-min(window, MAX_TOKENS) // SEQUENCES) * SEQUENCES
    params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = tokens
    params.n_seq_max = SEQUENCES
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = threads
    params.embeddings = True
    declared = model.number("pooling_type")
    params.pooling_type = _MEAN if declared in (None, _NONE) else declared
    return params


class Embedder:
    """A pass takes as many inputs as fit in its tokens and sequences. `size`: of a vector, where a head makes it."""

    def __init__(self, model: Model, window: int, threads: int, *, size: int | None = None) -> None:
        self._model = model
        self.size = size or int(lib.llama_model_n_embd_out(model.pointer))
        self.limit = min(window, MAX_TOKENS)
        params = embedding_params(model, self.limit, threads)
        self._sequences = int(params.n_seq_max)
        self._context = Context(model.pointer, params, model.vocabulary.size, can_rewind=True)
        self._batch = Batch(self.limit)

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        """Vectors of unit length."""
        for i, tokens in enumerate(inputs):
            if len(tokens) > self.limit:
                raise BadRequest(
                    f"input[{i}] has {len(tokens)} tokens; this model embeds at most {self.limit}",
                    "split the text",
                    param=f"input[{i}]",
                )
        return [_unit(vector) for vector in self.vectors(inputs)]

    def vectors(self, inputs: list[list[int]]) -> list[npt.NDArray[np.float32]]:
        """As the model gives them. No input may have more than `limit` tokens."""
        vectors: list[npt.NDArray[np.float32]] = []
        group: list[list[int]] = []
        for tokens in inputs:
            if len(group) == self._sequences or sum(map(len, group)) + len(tokens) > self.limit:
                vectors += self._pass(group)
                group = []
            group.append(tokens)
        return vectors + self._pass(group) if group else vectors

    def set_threads(self, n: int) -> None:
        self._context.set_threads(n)

    def close(self) -> None:
        self._context.close()

    def _pass(self, group: list[list[int]]) -> list[npt.NDArray[np.float32]]:
        self._batch.clear()
        self._context.clear()
        for sequence, tokens in enumerate(group):
            self._batch.extend(tokens, 0, sequence, last=True, all_rows=True)
        pointer = self._context.pointer
        encoder_only = lib.llama_model_has_encoder(self._model.pointer) and not lib.llama_model_has_decoder(
            self._model.pointer
        )
        run = lib.llama_encode if encoder_only else lib.llama_decode
        result = run(pointer, self._batch.struct())
        if result != 0:
            raise InternalError(f"the embedding pass failed with code {result}")
        return [self._vector(pointer, i) for i in range(len(group))]

    def _vector(self, pointer: Any, sequence: int) -> npt.NDArray[np.float32]:
        found = lib.llama_get_embeddings_seq(pointer, sequence)
        if not found:
            raise InternalError("llama.cpp gave no embedding for a sequence")
        address = ctypes.cast(found, ctypes.c_void_p).value
        return float_array(address or 0, self.size).copy()


def _unit(vector: npt.NDArray[np.float32]) -> bytes:
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype("<f4").tobytes()

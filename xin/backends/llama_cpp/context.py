"""A llama_context: decode, logits as numpy rows, and the sequences in its memory."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from xin.errors import OutOfMemory


def float_array(address: int, size: int) -> npt.NDArray[np.float32]:
    """The C floats at `address`, not copied."""
    buffer: Any = (ctypes.c_float * size).from_address(address)
    array: npt.NDArray[np.float32] = np.frombuffer(buffer, np.float32)
    return array


class Context:
    """Owns the context; `cells` is how many tokens it holds for all sequences together."""

    def __init__(self, model: Any, params: Any, vocabulary_size: int, *, can_rewind: bool) -> None:
        self.unified = bool(params.kv_unified)
        pointer = lib.llama_init_from_model(model, params)
        if not pointer:
            raise OutOfMemory(
                f"no memory for a context of {params.n_ctx} tokens",
                "launch with a smaller --context-length, or a smaller cache type",
                param="context_length",
            )
        self.pointer = pointer
        self.cells = int(lib.llama_n_ctx(pointer))
        self.can_rewind = can_rewind
        self.max_outputs = int(params.n_outputs_max)
        self._memory = lib.llama_get_memory(pointer)
        self._vocabulary_size = vocabulary_size
        # llama.cpp asks after each operation whether to stop: here libc's strlen of two bytes, 0 as they are and 1 once
        # the first is set. So no thread of the computation ever waits for Python.
        self._stop = ctypes.create_string_buffer(2)
        asks = ctypes.cast(ctypes.CDLL(None).strlen, lib.ggml_abort_callback)
        lib.llama_set_abort_callback(pointer, asks, self._stop)
        self._seen = (0, 0)  # address and rows of `_rows`: making that view anew takes longer than choosing a token
        self._rows: npt.NDArray[np.float32]

    def interrupt(self) -> None:
        """From any thread: the decode under way ends with 2, where the backend asks (CPUs do)."""
        self._stop[0] = b"\1"

    def go_on(self) -> None:
        """The next decode is not the one that was interrupted."""
        self._stop[0] = b"\0"

    def decode(self, batch: Any) -> int:
        """0 done; 1 no room for the batch (nothing changed); 2 interrupted; negative: broken."""
        return int(lib.llama_decode(self.pointer, batch))

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """(rows, vocabulary) in the order in which the batch asked for them; valid until the next decode."""
        address = ctypes.cast(lib.llama_get_logits(self.pointer), ctypes.c_void_p).value or 0
        if (address, rows) != self._seen:
            array = float_array(address, rows * self._vocabulary_size)
            self._seen, self._rows = (address, rows), array.reshape(rows, self._vocabulary_size)
        return self._rows

    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` tokens of `source` also belong to `target`; no bytes move in a unified cache."""
        lib.llama_memory_seq_rm(self._memory, target, -1, -1)
        if self.unified and self.can_rewind:
            lib.llama_memory_seq_cp(self._memory, source, target, 0, length)
        else:  # only whole sequences can be copied
            lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)
            self.cut(target, length)

    def cut(self, sequence: int, length: int) -> None:
        """Forget what comes after the first `length` tokens."""
        if self.can_rewind:
            lib.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def state_bytes(self, sequence: int) -> int:
        return int(lib.llama_state_seq_get_size(self.pointer, sequence))

    def save(self, sequence: int) -> npt.NDArray[np.uint8]:
        """The sequence's keys and values, as bytes that restore() takes."""
        state = np.empty(self.state_bytes(sequence), np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = int(lib.llama_state_seq_get_data(self.pointer, pointer, len(state), sequence))
        return state[:written]

    def restore(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        """False when there is no room; the sequence is empty then."""
        self.remove(sequence)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return bool(lib.llama_state_seq_set_data(self.pointer, pointer, len(state), sequence))

    def remove(self, sequence: int) -> None:
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        lib.llama_memory_clear(self._memory, False)

    def set_threads(self, n: int) -> None:
        lib.llama_set_n_threads(self.pointer, n, n)

    def close(self) -> None:
        if self.pointer:
            lib.llama_free(self.pointer)
            self.pointer = None

"""A llama_batch whose arrays are ours: filled through numpy, no call per token."""

from __future__ import annotations

import ctypes

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from xin.backends.llama_cpp.context import Context


def warm_up(context: Context, bos: int) -> None:
    """One token through all layers: the weights are in memory before the first request pays for it."""
    batch = Batch(1)
    batch.add(max(bos, 0), 0, 0)
    context.decode(batch.struct())
    context.clear()


class Batch:
    """Up to `capacity` tokens, each of one sequence."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.outputs = 0
        self._token = np.zeros(capacity, np.int32)
        self._pos = np.zeros(capacity, np.int32)
        self._seq = np.zeros(capacity, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        self._n_seq = np.ones(capacity, np.int32)
        base = self._seq.ctypes.data
        self._seq_pointers = (ctypes.c_void_p * (capacity + 1))(*(base + 4 * i for i in range(capacity)))
        self._struct = lib.llama_batch()
        self._struct.token = self._token.ctypes.data_as(ctypes.POINTER(lib.llama_token))
        self._struct.embd = None
        self._struct.pos = self._pos.ctypes.data_as(ctypes.POINTER(lib.llama_pos))
        self._struct.n_seq_id = self._n_seq.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        self._struct.seq_id = ctypes.cast(self._seq_pointers, type(self._struct.seq_id))
        self._struct.logits = self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def clear(self) -> None:
        self.size = self.outputs = 0

    def add(self, token: int, position: int, sequence: int) -> int:
        """One token whose logits are wanted; returns the row of its logits."""
        i = self.size
        self._token[i], self._pos[i], self._seq[i], self._logits[i] = token, position, sequence, 1
        self.size = i + 1
        self.outputs += 1
        return self.outputs - 1

    def extend(
        self,
        tokens: list[int] | npt.NDArray[np.int32],
        position: int,
        sequence: int,
        *,
        last: bool,
        all_rows: bool = False,
    ) -> int:
        """Consecutive tokens; logits of all, of the last, or of none. Returns the first row of logits."""
        i, n = self.size, len(tokens)
        self._token[i : i + n] = tokens
        self._pos[i : i + n] = np.arange(position, position + n, dtype=np.int32)
        self._seq[i : i + n] = sequence
        self._logits[i : i + n] = 1 if all_rows else 0
        if last and not all_rows:
            self._logits[i + n - 1] = 1
        self.size = i + n
        row = self.outputs
        self.outputs += n if all_rows else int(last)
        return row

    def struct(self) -> lib.llama_batch:
        self._struct.n_tokens = self.size
        return self._struct

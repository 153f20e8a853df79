"""Keys and values of several sequences, one a row, all of which end in the same column.

Rows of different lengths are padded on the left, as `generate` pads them, so that every model that it can batch can be
batched here; buffers grow by steps, so that a token costs one slice written, not a copy of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

SPARE_COLUMNS = 256
MOVE_FROM = 64  # so many columns must be free on the left before all is moved there
LayerState = tuple[torch.Tensor, torch.Tensor]


@dataclass(slots=True, eq=False)
class RowState:
    """Keys and values of one sequence: per layer [heads, tokens, head size]."""

    layers: list[LayerState]

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def first(self, length: int) -> RowState:
        """Its first `length` tokens: a view."""
        return RowState([(keys[:, :length], values[:, :length]) for keys, values in self.layers])


@dataclass(slots=True, eq=False)
class _Frame:
    """The part of the buffers that is in use: `rows` from the top, columns `start` to `end`."""

    rows: int = 0
    start: int = 0
    end: int = 0


class RowCache(Cache):  # type: ignore[misc]
    """transformers writes each pass's keys and values through update(); advance() makes them count."""

    def __init__(self, devices: Sequence[torch.device] = ()) -> None:
        """`devices`: where each layer computes; needed before rows are added from elsewhere."""
        self._frame = _Frame()
        self._devices = devices
        super().__init__(layer_class_to_replicate=lambda: _RowLayer(self._frame))
        self.lengths: list[int] = []

    @property
    def width(self) -> int:
        """Columns in use: the length of the longest row."""
        return self._frame.end - self._frame.start

    @property
    def devices(self) -> list[torch.device]:
        return [layer.keys.device for layer in self.layers]

    @property
    def cell_bytes(self) -> int:
        """Of one token, in all layers; 0 before the first pass."""
        return sum(layer.cell_bytes for layer in self.layers)

    def open(self, rows: int) -> None:
        """Begin with empty rows."""
        assert not self.lengths
        self.lengths = [0] * rows
        self._frame.rows = rows

    def make_room(self, columns: int) -> None:
        """Before a pass of so many columns: what is in use moves to the left where that saves growing."""
        have = min((layer.columns for layer in self.layers), default=0)
        if self._frame.end + columns > have and self._frame.start >= max(MOVE_FROM, self.width // 4):
            self._move(0)

    def prepare(self, rows: int, columns: int, share: float) -> None:
        """Make room for what is going to join, in this share of the layers that have none: all at once takes long."""
        short = [layer for layer in self.layers if not layer.holds(rows, columns)]
        for layer in short[: math.ceil(len(short) * share)]:
            layer.reserve(rows, columns)

    def advance(self, tokens: list[int]) -> None:
        """A pass has gone through: so many of its columns, counted from the right, were real in each row."""
        self._frame.end += max(tokens)
        self.lengths = [length + more for length, more in zip(self.lengths, tokens, strict=True)]

    def add(self, state: RowState) -> None:
        """A further row."""
        length = state.layers[0][0].shape[-2]
        frame = self._frame
        if not self.lengths:
            frame.start = frame.end = 0
        if length > frame.end:  # no room on the left
            self._move(frame.start + length - frame.end, frame.rows + 1)
        frame.rows += 1
        for i, (keys, values) in enumerate(state.layers):
            if i == len(self.layers):
                self.layers.append(_RowLayer(frame))
            device = self._devices[i] if self._devices else keys.device
            self.layers[i].put(frame.rows - 1, keys.to(device), values.to(device))
        self.lengths.append(length)
        self._trim()

    def state(self, row: int, length: int | None = None, *, on_host: bool = False) -> RowState:
        """A copy of its first `length` tokens, where they are or in the host's memory."""
        have = self.lengths[row]
        first = self._frame.end - have
        last = first + (have if length is None else length)
        return RowState([layer.part(row, first, last, on_host) for layer in self.layers])

    def view(self, row: int) -> RowState:
        """Not a copy: for who copies it at once."""
        first, last = self._frame.end - self.lengths[row], self._frame.end
        return RowState([(one.keys[row, :, first:last], one.values[row, :, first:last]) for one in self.layers])

    def remove(self, row: int) -> None:
        """The last row takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            first = self._frame.end - self.lengths[last]
            for layer in self.layers:
                layer.copy(last, row, first)
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        self._frame.rows -= 1
        self._trim()

    def _trim(self) -> None:
        """Columns that no row reaches are left behind, and used again when the end of the buffers is reached."""
        frame = self._frame
        frame.start = frame.end - max(self.lengths, default=0)
        if not self.lengths:
            frame.start = frame.end = 0

    def _move(self, start: int, rows: int = 0) -> None:
        """`rows`: that there shall be room for."""
        frame = self._frame
        for layer in self.layers:
            layer.move(start, max(rows, frame.rows))
        frame.start, frame.end = start, start + frame.end - frame.start


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's buffers: [rows, heads, columns, head size]."""

    is_sliding = False

    def __init__(self, frame: _Frame) -> None:
        super().__init__()
        self._frame = frame

    @property
    def columns(self) -> int:
        return self.keys.shape[2] if self.is_initialized else 0

    @property
    def cell_bytes(self) -> int:
        if not self.is_initialized:
            return 0
        return sum(t.shape[1] * t.shape[3] * t.element_size() for t in (self.keys, self.values))

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = (t.new_zeros((0, t.shape[1], 0, t.shape[3])) for t in (key_states, value_states))
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> LayerState:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        frame = self._frame
        end = frame.end + key_states.shape[-2]
        self.reserve(frame.rows, end)
        self.keys[: frame.rows, :, frame.end : end] = key_states
        self.values[: frame.rows, :, frame.end : end] = value_states
        return self.keys[: frame.rows, :, frame.start : end], self.values[: frame.rows, :, frame.start : end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self._frame.end - self._frame.start

    def get_max_length(self) -> int:
        return -1

    def put(self, row: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
        end, length = max(self._frame.end, keys.shape[-2]), keys.shape[-2]
        self.reserve(row + 1, end)
        self.keys[row, :, end - length : end] = keys
        self.values[row, :, end - length : end] = values

    def part(self, row: int, first: int, last: int, on_host: bool) -> LayerState:
        keys, values = self.keys[row, :, first:last], self.values[row, :, first:last]
        if on_host and keys.device.type != "cpu":
            return keys.cpu(), values.cpu()
        return keys.clone(), values.clone()

    def copy(self, source: int, target: int, first: int) -> None:
        self.keys[target, :, first : self._frame.end] = self.keys[source, :, first : self._frame.end]
        self.values[target, :, first : self._frame.end] = self.values[source, :, first : self._frame.end]

    def move(self, start: int, rows: int) -> None:
        """The columns in use begin at `start` from now on, and so many rows have room."""
        shape = self._shape_for(rows, start + self._frame.end - self._frame.start)
        self.keys, self.values = (self._placed(t, shape, start) for t in (self.keys, self.values))

    def holds(self, rows: int, columns: int) -> bool:
        return bool(rows <= self.keys.shape[0] and columns <= self.keys.shape[2])

    def reserve(self, rows: int, columns: int) -> None:
        """Room for so many; what is in use is kept where it is."""
        shape = self._shape_for(rows, columns)
        if shape != (self.keys.shape[0], self.keys.shape[2]):
            self.keys, self.values = (self._placed(t, shape, self._frame.start) for t in (self.keys, self.values))

    def _shape_for(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of buffers that hold so many: those there are, or larger ones with some to spare."""
        have_rows, have_columns = self.keys.shape[0], self.keys.shape[2]
        if columns > have_columns:
            columns += max(SPARE_COLUMNS, columns // 4)
        if rows > have_rows:
            rows = max(rows, 2 * have_rows)
        return max(rows, have_rows), max(columns, have_columns)

    def _placed(self, old: torch.Tensor, shape: tuple[int, int], start: int) -> torch.Tensor:
        """Buffers of this shape, with the columns in use at `start`. One copy where they are new ones."""
        frame = self._frame
        used = old[: min(frame.rows, old.shape[0]), :, frame.start : min(frame.end, old.shape[2])]
        if shape == (old.shape[0], old.shape[2]):
            new, used = old, used.clone()
        else:
            new = old.new_zeros((shape[0], old.shape[1], shape[1], old.shape[3]))
        new[: used.shape[0], :, start : start + used.shape[2]] = used
        return new

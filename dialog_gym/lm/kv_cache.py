"""A key-value cache for chats of different lengths that grow, are rewound and are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

_STEP = 64  # columns are added by multiples of this


class KeyValueCache(Cache):
    """Keys and values of many rows. Token i of a row lies in column i, so that to rewind is to count less.

    What a forward pass writes and sees is settled beforehand:

    - ``fill(rows, columns, width)``: the pass runs for ``rows``; token j of row i goes to ``columns[i, j]``, and
      the first ``width`` columns are seen.
    - ``append(column)``: the pass runs for all rows; its tokens go to ``column`` and after, in every row.

    The attention mask says what of the seen is valid; the model is given it, and the positions, by the caller.

    Attributes:
        rows: Number of rows.
        keys: Per layer (rows, heads, capacity, head size), once a pass has run; ``values`` likewise.
    """

    def __init__(self, rows: int) -> None:
        """Make an empty cache; memory is taken when the first pass runs."""
        super().__init__(layers=[])
        self.rows = rows
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._capacity = 0
        self._rows: Tensor | None = None
        self._columns: Tensor | None = None
        self._is_every = True
        self._start = self._width = 0

    def fill(self, rows: Sequence[int], columns: Tensor, width: int, reserve: int) -> None:
        """Settle a pass over ``rows`` that writes ``columns`` (n, tokens), all below ``reserve``."""
        self.reserve(reserve)
        self._rows = torch.tensor(rows, device=columns.device)
        self._is_every = self.is_every(rows)
        self._columns, self._width = columns, width

    def is_every(self, rows: Sequence[int]) -> bool:
        """Say whether ``rows`` are all rows in their order."""
        return list(rows) == list(range(self.rows))

    def append(self, column: int, reserve: int) -> None:
        """Settle a pass over all rows that writes from ``column`` on, staying below ``reserve``."""
        self.reserve(reserve)
        self._rows = self._columns = None
        self._start = column

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store what a layer computed, (n, heads, tokens, head size); return all that it may attend to."""
        while len(self.values) <= layer_idx:
            del self.keys[len(self.values) :]  # a pass that ran out of memory may have left one alone
            self.keys.append(self._empty(key_states))
            self.values.append(self._empty(value_states))
        return self._put(self.keys[layer_idx], key_states), self._put(self.values[layer_idx], value_states)

    def select(self, rows: Tensor, width: int, capacity: int) -> KeyValueCache:
        """Return a copy of the first ``width`` columns of ``rows``, with room for ``capacity``."""
        copy = KeyValueCache(len(rows))
        copy.reserve(capacity)
        for mine, theirs in ((self.keys, copy.keys), (self.values, copy.values)):
            for tensor in mine:
                room = copy._empty(tensor)
                torch.index_select(tensor[:, :, :width], 0, rows, out=room[:, :, :width])
                theirs.append(room)
        return copy

    def take(self, row: int, columns: int) -> list[Tensor]:
        """Return views of the first ``columns`` of ``row``: keys of every layer, then values."""
        return [tensor[row, :, :columns] for tensor in (*self.keys, *self.values)]

    def put(self, row: int, layers: Sequence[Tensor], columns: int, reserve: int) -> None:
        """Set the first ``columns`` of ``row`` to those of ``layers`` (of ``take``); there is room for ``reserve``."""
        self.reserve(reserve)
        if not self.keys:
            half = len(layers) // 2
            self.keys = [self._empty(layer) for layer in layers[:half]]
            self.values = [self._empty(layer) for layer in layers[half:]]
        for tensor, layer in zip((*self.keys, *self.values), layers, strict=True):
            tensor[row, :, :columns] = layer[:, :columns]

    def move(self, source: KeyValueCache, start: int, rows: Tensor, columns: Tensor) -> None:
        """Copy the columns from ``start`` on of every row of ``source`` to ``columns`` (n, count) of ``rows`` here.

        The source may be this cache.
        """
        end = start + columns.shape[1]
        for mine, theirs in ((self.keys, source.keys), (self.values, source.values)):
            for tensor, other in zip(mine, theirs, strict=True):
                tensor[rows[:, None], :, columns] = other[:, :, start:end].transpose(1, 2).clone()

    def _put(self, store: Tensor, new: Tensor) -> Tensor:
        if self._columns is None or self._rows is None:
            end = self._start + new.shape[2]
            store[:, :, self._start : end] = new
            return store[:, :, :end]
        store[self._rows[:, None], :, self._columns] = new.transpose(1, 2)
        seen = store[:, :, : self._width]
        return seen if self._is_every else seen.index_select(0, self._rows)

    def _empty(self, like: Tensor) -> Tensor:
        """Return room for a layer whose heads are those of ``like`` (..., heads, tokens, head size)."""
        # Zeros: what a mask hides is multiplied by 0, and uninitialised memory may hold NaN.
        return like.new_zeros(self.rows, like.shape[-3], self._capacity, like.shape[-1])

    def reserve(self, columns: int) -> None:
        """Make room for ``columns`` in every row."""
        if columns <= self._capacity:
            return
        columns = max(columns, self._capacity + self._capacity // 4)  # to grow is to copy everything
        capacity = -(-columns // _STEP) * _STEP
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):  # one by one: memory may end in between, and this be done again
                store[layer] = torch.nn.functional.pad(tensor, (0, 0, 0, capacity - tensor.shape[2]))
        self._capacity = capacity

    @property
    def is_compileable(self) -> bool:
        """Say that a pass through this cache is not to be compiled whole."""
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of columns seen before the present pass."""
        return self._start if self._columns is None else self._width - self._columns.shape[1]

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return how many columns a pass sees, and the first of them."""
        return (self._start + query_length if self._columns is None else self._width), 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """Return -1: there is no maximum."""
        return -1

"""What a model has computed of chats, found again by their tokens."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

Tokens: TypeAlias = tuple[int, ...]


class Held(NamedTuple):
    """A chat that is remembered.

    Attributes:
        tokens: Its token ids.
        layers: Keys of every layer, then values of every layer, each (heads, tokens, head size).
    """

    tokens: Tokens
    layers: list[Tensor]

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return sum(layer.nbytes for layer in self.layers)


class ChatMemory:
    """Keys and values of chats, of at most ``limit`` bytes; those used longest ago are forgotten first.

    A chat is found by its content: the one that begins with the most tokens of a prompt. It stays when it has
    been found, so that two dialogues that share their past both go on from it. A chat that another one begins
    with is not held twice.

    Attributes:
        limit: Most bytes held; 0 remembers nothing.
        bytes: Bytes held.
    """

    def __init__(self, limit: int) -> None:
        """Begin empty.

        Raises:
            ValueError: ``limit`` is negative.
        """
        if limit < 0:
            raise ValueError(f"the memory for chats must be of at least 0 bytes (which is none), got {limit}")
        self.limit = limit
        self.bytes = 0
        self._chats: OrderedDict[Tokens, Held] = OrderedDict()  # used longest ago first
        self._sorted: list[Tokens] = []  # neighbours have the longest beginnings in common

    def __len__(self) -> int:
        """Return the number of chats held."""
        return len(self._chats)

    def find(self, tokens: Sequence[int]) -> tuple[Held | None, int]:
        """Return the chat that has most in common with the beginning of ``tokens``, and how many tokens."""
        wanted = tuple(tokens)
        at = bisect_left(self._sorted, wanted)
        near = self._sorted[max(at - 1, 0) : at + 1]
        shared, best = max(((common(chat, wanted), chat) for chat in near), default=(0, ()))
        if not shared:
            return None, 0
        self._chats.move_to_end(best)
        return self._chats[best], shared

    def keep(self, tokens: Sequence[int], layers: Sequence[Tensor]) -> None:
        """Remember a copy of a chat, and forget what was used longest ago where there is no room for it."""
        new = tuple(tokens)
        size = sum(layer.nbytes for layer in layers)
        if size > self.limit or not new:
            return
        at = bisect_left(self._sorted, new)
        if at < len(self._sorted) and common(self._sorted[at], new) == len(new):
            self._chats.move_to_end(self._sorted[at])
            return
        while at and common(self._sorted[at - 1], new) == len(self._sorted[at - 1]):
            at -= 1
            self._drop(self._sorted[at])
        while self.bytes + size > self.limit:
            self._drop(next(iter(self._chats)))
        self._chats[new] = Held(new, [layer.clone() for layer in layers])
        insort(self._sorted, new)
        self.bytes += size

    def clear(self) -> None:
        """Forget all chats."""
        self._chats.clear()
        self._sorted.clear()
        self.bytes = 0

    def _drop(self, tokens: Tokens) -> None:
        self.bytes -= self._chats.pop(tokens).bytes
        del self._sorted[bisect_left(self._sorted, tokens)]


def common(held: Sequence[int], new: Sequence[int]) -> int:
    """Return how many tokens ``held`` and ``new``, of one type, begin with in common.

    >>> common([1, 2, 3], [1, 2, 4, 5]), common([1, 2], [1, 2, 3]), common([], [1])
    (2, 2, 0)
    """
    shorter = min(len(held), len(new))
    same, other = 0, shorter  # that many are the same; at most that many may be
    while same < other:
        half = (same + other + 1) // 2
        if held[same:half] == new[same:half]:
            same = half
        else:
            other = half - 1
    return same

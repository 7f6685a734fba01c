"""Training and held-out parts of a pool of scenarios, by a hash of each one's key: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar
from zlib import crc32

T = TypeVar("T")

SPLITS = ("all", "train", "heldout")


def in_split(key: str, split: str) -> bool:
    """Return whether ``split`` has what ``key`` names: 70% are "train", 30% "heldout".

    Raises:
        ValueError: There is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
    return split == "all" or (crc32(key.encode()) % 10 < 7) == (split == "train")


def part(items: Iterable[T], split: str, key: Callable[[T], str], what: str) -> tuple[T, ...]:
    """Return the items of ``split``, in their order.

    Args:
        items: The pool.
        split: One of ``SPLITS``.
        key: Names an item.
        what: The items are called this where there is an error.

    Raises:
        ValueError: There is no such split, or nothing is left.
    """
    kept = tuple(item for item in items if in_split(key(item), split))
    if not kept:
        raise ValueError(f"expected {what} in split {split!r}, got none; give a larger file or split 'all'")
    return kept

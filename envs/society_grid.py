"""The grid of a society: who lives where, who is good or bad, who is whose neighbour, who is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from dialog_gym.dialogue import Draws

SETTINGS = ("all_good", "all_bad", "half_half", "mixed_half_half")
"""How good and bad members are placed at the beginning."""
GOOD, BAD = "good", "bad"


def side(agents: int) -> int:
    """Return the side of the square grid of ``agents`` members.

    Raises:
        ValueError: They fill no square.
    """
    size = math.isqrt(max(agents, 0))
    if agents < 1 or size * size != agents:
        near = ", ".join(str(k * k) for k in (max(size, 1), max(size, 1) + 1))
        raise ValueError(f"agents must fill a square grid (1, 4, 9, ..., 100, ...), got {agents}; the nearest: {near}")
    return size


def labels(setting: str, size: int, draws: Draws) -> list[str]:
    """Return who is good and who is bad, by number; member ``row * size + column`` lives at (row, column).

    ``half_half``: cells with row <= column are good, in the order of the numbers, until size ** 2 // 2 are; the rest
    is bad. ``mixed_half_half``: size ** 2 // 2 good ones anywhere.

    Raises:
        ValueError: Unknown setting.
    """
    count = size * size
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    if setting.startswith("all_"):
        return [setting.removeprefix("all_")] * count
    if setting == "half_half":
        good = [number for number in range(count) if number // size <= number % size][: count // 2]
    else:
        good = shuffled(range(count), draws)[: count // 2]
    return [GOOD if number in set(good) else BAD for number in range(count)]


@lru_cache(maxsize=1 << 14)
def neighbours(number: int, size: int, radius: float) -> tuple[int, ...]:
    """Return who lives within Euclidean distance ``radius`` of a member, without the member.

    >>> neighbours(4, 3, 1), neighbours(0, 1, 5), neighbours(0, 3, 0.5)
    ((1, 3, 5, 7), (), ())
    """
    row, column = divmod(number, size)
    return tuple(
        other
        for other in range(size * size)
        if other != number and math.hypot(other // size - row, other % size - column) <= radius
    )


def sample_peers(
    number: int,
    size: int,
    radius: float,
    draws: Draws,
    *,
    local: bool,
    everywhere: bool,
    dropout: float,
    count: int,
) -> list[int]:
    """Return who is asked about a draft of member ``number``, in ascending order.

    Local only: ``min(count, neighbours)`` neighbours at random. With both, ``int((1 - dropout) * neighbours)`` of
    them, at least 1 and at most ``count`` (0 where there are none), the rest of ``count`` from all others.
    Everywhere only: ``count`` of all others. Neither: nobody.
    """
    near = neighbours(number, size, radius) if local else ()
    if not everywhere:
        return sorted(shuffled(near, draws)[:count])
    quota = min(max(int((1 - dropout) * len(near)), 1), count) if near else 0
    chosen = shuffled(near, draws)[:quota]
    others = [other for other in range(size * size) if other != number and other not in chosen and other not in near]
    return sorted(chosen + shuffled(others, draws)[: count - len(chosen)])


def shuffled(items: Sequence[int], draws: Draws) -> list[int]:
    """Return ``items`` in a random order."""
    mixed = list(items)
    for place in range(len(mixed) - 1, 0, -1):
        other = draws.integer(0, place + 1)
        mixed[place], mixed[other] = mixed[other], mixed[place]
    return mixed

"""A replay buffer in one block of memory, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dialog_gym import checkpoint

GOES_ON, TERMINATED, TRUNCATED = 0.0, 1.0, 2.0
COLUMNS = ("observations", "actions", "rewards", "next_observations", "terminals")
"""The arrays of a buffer file, (N, ...) float32, named as in D4RL; ``truncations`` and ``said`` are optional."""


class Batch(NamedTuple):
    """Transitions to learn from; ``discounts`` is 0 where the dialogue ended (see ``ReplayBuffer.sample``)."""

    observations: Tensor  # (B, d)
    next_observations: Tensor  # (B, d), the true successor also of the last step
    actions: Tensor  # (B, A), as taken
    rewards: Tensor  # (B,), discounted sum over the steps in between
    discounts: Tensor  # (B,), gamma to the number of those steps, or 0
    said: Tensor  # (B, k), what was understood of what the actions made the model say; k may be 0


class Whole(NamedTuple):
    """Dialogues from their first step to their last, in any order; shorter ones are filled up with steps unused."""

    observations: Tensor  # (D, L, d)
    actions: Tensor  # (D, L, A)
    said: Tensor  # (D, L, k)
    used: Tensor  # (D, L), 1 where there is a step
    returns: Tensor  # (D,), sum of the rewards


class ReplayBuffer:
    """The last ``capacity`` transitions, as float32 in one array: ``4 * capacity * (2 d + A + k + 2)`` bytes.

    One row of the array is ``[observation, next observation, action, said, reward, end]``, so that a sample is
    one gather. ``end`` is 0 (goes on), 1 (terminated) or 2 (truncated).

    Transitions come from ``rows`` dialogues stepped together, always all of them and in one order: the
    next step of the dialogue at place i is at i + rows, which is what n-step returns follow.
    """

    def __init__(
        self, capacity: int, observation_size: int, action_size: int, *, rows: int = 1, said_size: int = 0
    ) -> None:
        """Reserve the memory (the system hands it out as it is filled)."""
        if capacity < rows:
            raise ValueError(f"capacity must hold at least one step of the {rows} rows, got {capacity}")
        self.observation_size, self.action_size, self.rows = observation_size, action_size, rows
        self.said_size = said_size
        self.data = torch.empty(capacity, 2 * observation_size + action_size + said_size + 2)
        self.size = self.position = 0

    def __len__(self) -> int:
        """Return how many transitions can be sampled."""
        return self.size

    @property
    def capacity(self) -> int:
        """How many transitions fit."""
        return len(self.data)

    @property
    def nbytes(self) -> int:
        """Memory when full."""
        return self.data.nbytes

    def add(
        self,
        observations: npt.ArrayLike,
        actions: npt.ArrayLike,
        rewards: npt.ArrayLike,
        next_observations: npt.ArrayLike,
        terminated: npt.ArrayLike,
        truncated: npt.ArrayLike,
        said: npt.ArrayLike | None = None,
    ) -> None:
        """Store one transition per row, over the oldest if the buffer is full. Both ends at once are terminated."""
        ends = np.where(terminated, TERMINATED, np.where(truncated, TRUNCATED, GOES_ON))
        told = np.zeros((len(ends), 0)) if said is None else said
        parts = (observations, next_observations, actions, told, np.asarray(rewards)[:, None], ends[:, None])
        new = torch.from_numpy(np.concatenate([np.asarray(part, dtype=np.float32) for part in parts], axis=1))
        if len(new) > self.capacity:
            raise ValueError(f"{len(new)} transitions do not fit into a buffer of {self.capacity}")
        first = min(len(new), self.capacity - self.position)
        self.data[self.position : self.position + first] = new[:first]
        self.data[: len(new) - first] = new[first:]
        self.position = (self.position + len(new)) % self.capacity
        self.size = min(self.size + len(new), self.capacity)

    def sample(
        self, count: int, generator: torch.Generator, *, gamma: float, n_step: int = 1, cut_ends: bool = False
    ) -> Batch:
        """Draw ``count`` transitions, each with equal chance, with returns over up to ``n_step`` steps.

        Args:
            count: How many.
            generator: Source of chance.
            gamma: Discount per step.
            n_step: Steps of true reward; fewer up to an end and to the newest step.
            cut_ends: Whether a dialogue cut short is over, discount 0, as one that terminated always is.
        """
        index = torch.randint(self.size, (count,), generator=generator)
        found = self.data[index]
        d = self.observation_size
        rewards, ends, following = found[:, -2], found[:, -1], found[:, d : 2 * d]
        discounts = torch.full((count,), gamma)
        if n_step > 1:
            rewards, discounts, last = self._follow(index, gamma, n_step)
            following, ends = self.data[last, d : 2 * d], self.data[last, -1]
        on = ends == GOES_ON if cut_ends else ends != TERMINATED
        actions, said = found[:, 2 * d : -2].split([self.action_size, self.said_size], dim=1)
        return Batch(found[:, :d], following, actions, rewards, discounts * on, said)

    def whole(self, count: int, generator: torch.Generator) -> Whole | None:
        """Draw ``count`` dialogues that have ended, each with equal chance; None while there is none.

        Of a dialogue that the buffer no longer holds whole, no step is used and the return is 0.
        """
        ends = torch.nonzero(self.data[: self.size, -1] != GOES_ON).squeeze(1)
        if not len(ends):
            return None
        start = self.position if self.size == self.capacity else 0
        index = ends[torch.randint(len(ends), (count,), generator=generator)]
        on, places, used = torch.ones(count, dtype=torch.bool), [], []
        while on.any():
            places.append(index)
            used.append(on)
            oldest = (index - start) % self.capacity < self.rows
            earlier = torch.where(oldest, index, (index - self.rows) % self.capacity)
            on = on & ~oldest & (self.data[earlier, -1] == GOES_ON)
            index = torch.where(on, earlier, index)
        steps, there = torch.stack(places, 1), torch.stack(used, 1)
        if self.size == self.capacity:  # what came before the oldest steps is gone, if anything did
            there &= ((index - start) % self.capacity >= self.rows)[:, None]
        found = self.data[steps]
        d = self.observation_size
        actions, said = found[..., 2 * d : -2].split([self.action_size, self.said_size], dim=-1)
        return Whole(found[..., :d], actions, said, there.float(), (found[..., -2] * there).sum(1))

    def _follow(self, index: Tensor, gamma: float, n_step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return reward sum, discount and last place of the steps from ``index`` on, up to an end or the newest."""
        start = self.position if self.size == self.capacity else 0
        rewards = self.data[index, -2]
        discounts = torch.full(index.shape, gamma)
        for _ in range(n_step - 1):
            age = (index - start) % self.capacity  # 0 is the oldest
            on = (self.data[index, -1] == GOES_ON) & (age + self.rows < self.size)
            index = torch.where(on, (index + self.rows) % self.capacity, index)
            rewards = rewards + torch.where(on, discounts * self.data[index, -2], 0.0)
            discounts = torch.where(on, discounts * gamma, discounts)
        return rewards, discounts, index

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, int]]:
        """Return what ``restore`` needs: the part that is filled, and the position."""
        return {"data": self.data[: self.size].numpy()}, {"position": self.position}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], data: Mapping[str, int]) -> None:
        """Go on from what ``state`` returned."""
        self.size, self.position = len(arrays["data"]), data["position"]
        self.data[: self.size] = torch.from_numpy(arrays["data"])

    def save(self, path: str | Path) -> None:
        """Write all transitions, oldest first, as safetensors: ``COLUMNS``, ``truncations`` and ``said``."""
        from safetensors.numpy import save_file

        start = self.position if self.size == self.capacity else 0
        rows = np.roll(self.data[: self.size].numpy(), -start, axis=0)
        d = self.observation_size
        parts = {
            "observations": rows[:, :d],
            "next_observations": rows[:, d : 2 * d],
            "actions": rows[:, 2 * d : 2 * d + self.action_size],
            "said": rows[:, 2 * d + self.action_size : -2],
            "rewards": rows[:, -2],
            "terminals": (rows[:, -1] == TERMINATED).astype(np.float32),
            "truncations": (rows[:, -1] == TRUNCATED).astype(np.float32),
        }
        with checkpoint.replacing(Path(path)) as partial:
            save_file(
                {name: np.ascontiguousarray(part) for name, part in parts.items()}, partial, {"rows": str(self.rows)}
            )

    @classmethod
    def load(cls, path: str | Path, *, capacity: int | None = None) -> ReplayBuffer:
        """Read what ``save`` wrote, or the same arrays from elsewhere (then each dialogue's steps in a row).

        Args:
            path: The file.
            capacity: Room for this many transitions; by default for those in the file.

        Raises:
            ValueError: The file is not readable, arrays are missing, of wrong shapes or not finite, or there
                are more than ``capacity``.
        """
        arrays, rows = _read_columns(Path(path))
        observations, actions = arrays["observations"], arrays["actions"]
        room = len(observations) if capacity is None else capacity
        if len(observations) > room:
            raise ValueError(
                f"{path} holds {len(observations)} transitions, the buffer only {room}; raise its capacity"
            )
        said = arrays.get("said", np.zeros((len(actions), 0), np.float32))
        buffer = cls(room, observations.shape[1], actions.shape[1], rows=rows, said_size=said.shape[1])
        ends = (arrays["terminals"], arrays.get("truncations", np.zeros_like(arrays["terminals"])))
        buffer.add(observations, actions, arrays["rewards"], arrays["next_observations"], *ends, said)
        return buffer


def _read_columns(path: Path) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Return the checked arrays of a buffer file and the number of rows its steps are interleaved over."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
            rows = int((file.metadata() or {}).get("rows", 1))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the buffer {path}: {error}; it must be a safetensors file") from error
    if missing := [name for name in COLUMNS if name not in arrays]:
        raise ValueError(f"{path} has no array {missing[0]!r}; a buffer has {', '.join(COLUMNS)}")
    count, width = len(arrays["rewards"]), arrays["observations"].shape[1:2] or (1,)
    widths = {"observations": width, "next_observations": width, "actions": arrays["actions"].shape[1:2] or (1,)}
    if "said" in arrays:
        widths["said"] = arrays["said"].shape[1:2] or (1,)
    for name, array in arrays.items():
        expected = (count, *widths.get(name, ()))
        if array.shape != expected or count == 0:
            raise ValueError(f"{path}: expected {name!r} of shape {expected} with at least one row, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {name!r} has a NaN or an infinity in row {_first_bad(array)}; remove such rows")
    return arrays, rows


def _first_bad(array: npt.NDArray[Any]) -> int:
    return int(np.argwhere(~np.isfinite(array))[0][0])

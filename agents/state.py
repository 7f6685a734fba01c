"""Networks and optimisers as NumPy arrays by name, which is how checkpoints hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

Arrays = Mapping[str, npt.NDArray[Any]]


def to_numpy(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Return a state dict as arrays (which share its memory); of shards the whole, then all processes must call."""
    return {name: whole(tensor.detach()).cpu().numpy() for name, tensor in tensors.items()}


def to_torch(arrays: Arrays) -> dict[str, Tensor]:
    """Return arrays as a state dict."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def whole(tensor: Tensor) -> Tensor:
    """Return ``tensor``, brought together if it is in shards; then all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return ``tensor``, which all processes have, in shards as ``other`` is."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


def join(**parts: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Put several sets of arrays into one, as ``"part/name"``."""
    return {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


def split(arrays: Arrays) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Undo ``join``."""
    parts: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for path, array in arrays.items():
        part, _, name = path.partition("/")
        parts.setdefault(part, {})[name] = array
    return parts


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, npt.NDArray[Any]]:
    """Return what the optimiser remembers of each parameter, as ``"number/name"``."""
    state = optimizer.state_dict()["state"]
    return join(**{str(number): to_numpy(memory) for number, memory in state.items()})


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Arrays) -> None:
    """Give back what ``optimizer_state`` returned; rates and the like stay as they are."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {
        int(number): {
            name: shared_like(value, weights[int(number)]) if value.dim() else value
            for name, value in to_torch(memory).items()
        }
        for number, memory in split(arrays).items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

"""Small networks whose every random number comes from a generator that is passed in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "silu": F.silu}


class MLP(nn.Module):
    """``members`` networks of one shape side by side, computed as one: (B, in) -> (members, B, out).

    LayerNorm stands before each activation and has no gain and bias of its own: the linear layers around
    it can express them, and at these sizes they cost a fifth of the time.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        members: int = 1,
        activation: str = "relu",
        layer_norm: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build linear layers of ``sizes``, drawn like ``torch.nn.Linear``: uniform in +-1/sqrt(inputs)."""
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.activation, self.layer_norm = ACTIVATIONS[activation], layer_norm
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, wide, out) for wide, out in pairs)
        self.biases = nn.ParameterList(torch.empty(members, 1, out) for _, out in pairs)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound, generator=generator)
            nn.init.uniform_(bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """Return the outputs of all members, (members, B, out), or those of one, (B, out)."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if member is not None:
                x = torch.addmm(bias[member], x, weight[member])
            else:
                x = torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight)
            if layer < last:
                x = self.activation(F.layer_norm(x, x.shape[-1:]) if self.layer_norm else x)
        return x


class RunningNorm(nn.Module):
    """Standardise vectors by the mean and variance of all that ``update`` has seen, and clip."""

    def __init__(self, size: int, clip: float) -> None:
        """Begin with mean 0 and variance 1."""
        super().__init__()
        self.clip = clip
        for name, value in (("mean", torch.zeros), ("variance", torch.ones)):
            self.register_buffer(name, value(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.mean: Tensor
        self.variance: Tensor
        self.count: Tensor

    def update(self, rows: Tensor) -> None:
        """Take in a batch, shape (B, size): Chan et al.'s formula for merging two samples."""
        new, mean = rows.double(), self.mean
        count = self.count + len(new)
        shift = new.mean(0) - mean
        squares = self.variance * self.count + new.var(0, correction=0) * len(new)
        squares += shift.square() * self.count * len(new) / count
        self.mean, self.variance, self.count = mean + shift * len(new) / count, squares / count, count

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` standardised, shape (..., size)."""
        scale = (self.variance + 1e-8).rsqrt()
        return ((x - self.mean.float()) * scale.float()).clamp_(-self.clip, self.clip)


@torch.no_grad()
def polyak(online: Iterable[Tensor], target: Iterable[Tensor], tau: float) -> None:
    """Move each target parameter by the fraction ``tau`` towards its online one, in place."""
    torch._foreach_lerp_(list(target), list(online), tau)

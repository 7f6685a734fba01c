"""Drawing tokens: which one is drawn depends on (seed, token index, logits), never on the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dialog_gym.dialogue import Draws
from dialog_gym.lm.base import Sampling


def uniforms(seeds: Sequence[int], count: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1) for the first ``count`` tokens of each seed, (len(seeds), count).

    The stream of SplitMix64 that ``Draws(seed, "token")`` keys, computed for all rows at once. 32 bits each,
    so that a number times the total probability stays below the total.

    >>> bool((uniforms([5, 6], 4)[1] == uniforms([6], 9)[0, :4]).all())
    True
    """
    keys = np.array([Draws(seed, "token").bits() for seed in seeds], dtype=np.uint64)
    step = np.uint64(0x9E3779B97F4A7C15)
    z = keys[:, None] + np.arange(1, count + 1, dtype=np.uint64)[None, :] * step
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits: NDArray[np.uint64] = (z ^ (z >> np.uint64(31))) >> np.uint64(32)
    return np.ldexp(bits.astype(np.float64), -32)


def random_numbers(sampling: Sampling, seeds: Sequence[int] | None, count: int, device: torch.device) -> Tensor | None:
    """Return what ``count`` replies are drawn by, (count, longest reply), or None if they are greedy.

    Raises:
        ValueError: There is not one seed per reply, or none at a temperature above 0.
    """
    if seeds is not None and len(seeds) != count:
        raise ValueError(f"expected one seed per row, got {len(seeds)} seeds for {count} rows")
    if sampling.temperature == 0.0:
        return None
    if seeds is None:
        raise ValueError(f"sampling at temperature {sampling.temperature} needs seeds, one integer per row")
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.as_tensor(uniforms(seeds, sampling.max_tokens), dtype=dtype, device=device)


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor | None) -> Tensor:
    """Return one token id per row of ``logits`` (n, vocabulary).

    Greedy at temperature 0. Otherwise the inverse of the cumulative distribution, in the order of the
    vocabulary, at ``uniform`` (n,).
    """
    if uniform is None:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.to(uniform.dtype) / sampling.temperature, dim=-1)
    if sampling.top_p < 1.0:
        probabilities = nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(dim=-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the fewest most probable entries of each row that together reach ``top_p``.

    Entries as probable as the least of them are kept too, so that no order among equals matters.

    >>> nucleus(torch.tensor([[0.5, 0.1, 0.4]]), 0.8)
    tensor([[0.5000, 0.0000, 0.4000]])
    """
    few = min(64, probabilities.shape[-1])  # mostly enough, and much faster than to sort a vocabulary
    best = probabilities.topk(few, dim=-1).values
    if few < probabilities.shape[-1] and bool((best.sum(dim=-1) < top_p).any()):
        best = probabilities.sort(dim=-1, descending=True).values
    before = best.cumsum(dim=-1) - best
    least = best.masked_fill(before >= top_p, torch.inf).amin(dim=-1, keepdim=True)
    return probabilities.where(probabilities >= least, 0.0)


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log softmax(``logits``)[``tokens``] in float32; the last dimension of ``logits`` is the vocabulary."""
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32).gather(-1, tokens[..., None])[..., 0]

"""Global randomness, for what draws by it: initial weights, and the trainers of other libraries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def global_random_state_kept() -> Iterator[None]:
    """Give the generators of Python, NumPy and torch (every GPU's too) back as they were, also after an error."""
    import torch

    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002, what others seed
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002

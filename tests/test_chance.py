"""What seeds the generators of Python, NumPy and torch gives them back."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from dialog_gym.chance import global_random_state_kept


def random_state() -> tuple[Any, ...]:
    """Return the state of all global generators, to be compared."""
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def seed_all() -> None:
    """Seed as no other test does, whose state may be there."""
    random.seed(271_828)
    np.random.seed(271_828)  # noqa: NPY002
    torch.manual_seed(271_828)


@global_random_state_kept()
def fails() -> None:
    seed_all()
    raise RuntimeError("too bad")


def test_the_global_generators_are_given_back():
    before = random_state()
    with global_random_state_kept():
        seed_all()
        assert all(now != then for now, then in zip(random_state(), before, strict=True))
    assert random_state() == before


def test_they_are_given_back_after_an_error():
    before = random_state()
    with pytest.raises(RuntimeError, match="too bad"):
        fails()
    assert random_state() == before

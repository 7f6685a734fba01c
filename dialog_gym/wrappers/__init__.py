"""Wrappers: other actions, observations and rewards for the same dialogues.

Their vector twins are in ``.vector``, that of ``RewardWrapper`` in ``.rewards``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dialog_gym.wrappers.rewards import RewardWrapper as RewardWrapper
    from dialog_gym.wrappers.steering import EmbeddingObservation as EmbeddingObservation
    from dialog_gym.wrappers.steering import PrefixAction as PrefixAction

_HOMES = {"EmbeddingObservation": "steering", "PrefixAction": "steering", "RewardWrapper": "rewards"}

__all__ = ["EmbeddingObservation", "PrefixAction", "RewardWrapper"]


def __getattr__(name: str) -> Any:
    """Import a wrapper when it is first asked for: some need a language model, hence torch."""
    if name in _HOMES:
        return getattr(import_module(f"dialog_gym.wrappers.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")

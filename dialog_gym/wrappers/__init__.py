"""Wrappers: other actions, observations and rewards for the same dialogues.

The vector twins of ``EmbeddingObservation`` and ``PrefixAction`` have the same names in ``.vector``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dialog_gym.wrappers.lagrangian import PID as PID
    from dialog_gym.wrappers.lagrangian import LagrangianWrapper as LagrangianWrapper
    from dialog_gym.wrappers.lagrangian import VectorLagrangianWrapper as VectorLagrangianWrapper
    from dialog_gym.wrappers.misaligned import MisalignedContext as MisalignedContext
    from dialog_gym.wrappers.misaligned import VectorMisalignedContext as VectorMisalignedContext
    from dialog_gym.wrappers.redistribute import RedistributeReward as RedistributeReward
    from dialog_gym.wrappers.redistribute import VectorRedistributeReward as VectorRedistributeReward
    from dialog_gym.wrappers.rewards import RewardWrapper as RewardWrapper
    from dialog_gym.wrappers.rewards import VectorRewardWrapper as VectorRewardWrapper
    from dialog_gym.wrappers.steering import EmbeddingObservation as EmbeddingObservation
    from dialog_gym.wrappers.steering import PrefixAction as PrefixAction

_HOMES = {
    "PID": "lagrangian",
    "EmbeddingObservation": "steering",
    "LagrangianWrapper": "lagrangian",
    "MisalignedContext": "misaligned",
    "PrefixAction": "steering",
    "RedistributeReward": "redistribute",
    "RewardWrapper": "rewards",
    "VectorLagrangianWrapper": "lagrangian",
    "VectorMisalignedContext": "misaligned",
    "VectorRedistributeReward": "redistribute",
    "VectorRewardWrapper": "rewards",
}

__all__ = [
    "PID",
    "EmbeddingObservation",
    "LagrangianWrapper",
    "MisalignedContext",
    "PrefixAction",
    "RedistributeReward",
    "RewardWrapper",
    "VectorLagrangianWrapper",
    "VectorMisalignedContext",
    "VectorRedistributeReward",
    "VectorRewardWrapper",
]


def __getattr__(name: str) -> Any:
    """Import a wrapper when it is first asked for: some need a language model, hence torch."""
    if name in _HOMES:
        return getattr(import_module(f"dialog_gym.wrappers.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")

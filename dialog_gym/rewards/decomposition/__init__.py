"""Reward decomposition: from one score per conversation, and a noisy local signal, to a reward per utterance.

``losses`` (GELI, RRD, IRCR, RUDDER as pure functions), ``turns`` and ``encoders`` (what a model reads of a turn,
encoded once), ``model`` (the network), ``training`` (``dialog-gym fit reward``), ``decomposed`` (the learned reward,
which plugs in like any other) and ``signals`` (local signals from words, faces or columns). Names are imported when
they are asked for: most need torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dialog_gym.rewards.decomposition.decomposed import Decomposed as Decomposed
    from dialog_gym.rewards.decomposition.decomposed import load_reward as load_reward
    from dialog_gym.rewards.decomposition.training import Args as Args
    from dialog_gym.rewards.decomposition.training import fit_reward as fit_reward

_HOMES = {"Args": "training", "Decomposed": "decomposed", "fit_reward": "training", "load_reward": "decomposed"}

__all__ = ["Args", "Decomposed", "fit_reward", "load_reward"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dialog_gym.rewards.decomposition.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}", name=name)

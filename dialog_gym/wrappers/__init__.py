"""Wrappers: other actions and observations for the same dialogues. Their vector twins are in ``.vector``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dialog_gym.wrappers.steering import EmbeddingObservation as EmbeddingObservation
    from dialog_gym.wrappers.steering import PrefixAction as PrefixAction

__all__ = ["EmbeddingObservation", "PrefixAction"]


def __getattr__(name: str) -> Any:
    """Import a wrapper when it is first asked for: they need a language model, hence torch."""
    if name in __all__:
        from dialog_gym.wrappers import steering

        return getattr(steering, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")

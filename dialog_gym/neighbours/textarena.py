"""TextArena's agents, and any other ``str -> str``, as policies in our text environments.

An agent of TextArena is called with an observation and returns what it says, one dialogue at a time. So do many loops
around a model's API. ``play``, ``evaluate`` and the command line's policies want one call for all rows; this is it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class EachAlone:
    """A policy (``dialog_gym.rollout.Policy``) that asks ``speak`` for each dialogue in turn.

    Rows that are over are not asked. Nothing is caught: an agent that fails stops the roll-out. Beware of agents that
    catch themselves and return an error message; it is said then.

    >>> EachAlone(str.upper)(("hello", "bye"), {"stop_reason": ["", "left"]})
    ['HELLO', '']
    """

    def __init__(self, speak: Callable[[str], str]) -> None:
        """Let ``speak`` answer observations."""
        self.speak = speak

    def __call__(self, observations: Sequence[str], infos: Mapping[str, Any]) -> list[str]:
        """Return what is said in each row, ``""`` where the dialogue is over.

        Raises:
            TypeError: What ``speak`` returned is no text.
        """
        return [
            "" if stop else self._said(text) for text, stop in zip(observations, infos["stop_reason"], strict=True)
        ]

    def _said(self, text: str) -> str:
        said = self.speak(text)
        if not isinstance(said, str):
            raise TypeError(f"expected a text from {self.speak!r}, got {type(said).__name__}")
        return said

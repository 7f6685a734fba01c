"""The exceptions a caller may want to catch; everything else is a ValueError or TypeError."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import gymnasium as gym

if TYPE_CHECKING:
    from dialog_gym.dialogue import Dialogue


class DialogueOverError(gym.error.ResetNeeded):
    """``step`` was called on a dialogue that has ended or never began."""


class LanguageModelError(RuntimeError):
    """A language model failed to answer; the message names the model and the dialogue.

    Attributes:
        prompt: Which prompt of the call it was, counted from 0; None if it was not one of them.
    """

    def __init__(self, message: str, prompt: int | None = None) -> None:
        """Say what happened, to which ``prompt``."""
        super().__init__(message)
        self.prompt = prompt


class ClusterError(RuntimeError):
    """A cluster of workers cannot be reached or used, or has lost its workers."""


class SettingError(TypeError):
    """An environment was given a setting that it does not have; the message names the nearest."""


class RenderModeError(ValueError, TypeError):
    """There is no such way to render. Stable-Baselines3 asks for pictures first, and goes on after a ``TypeError``."""


class UnsupportedError(ValueError):
    """A language model was asked for what its backend cannot do; the message says which backend can."""


@contextmanager
def naming(what: str, dialogues: Sequence[Dialogue]) -> Iterator[None]:
    """Let a ``LanguageModelError`` of the block tell which dialogue it is about.

    Args:
        what: What the model was asked for.
        dialogues: One per prompt of the call.
    """
    try:
        yield
    except LanguageModelError as error:
        if error.prompt is None:
            raise
        dialogue = dialogues[error.prompt]
        raise LanguageModelError(
            f"{what} is missing at turn {len(dialogue.turns) + 1} of the dialogue with seed {dialogue.seed}: {error}",
            error.prompt,
        ) from error


def unknown(kind: str, name: str, known: Iterable[str]) -> KeyError:
    """Return the error for a name nobody registered, with the nearest one that is.

    >>> unknown("agent", "td4", ["ppo", "td3"]).args[0]
    "no agent named 'td4'; did you mean 'td3'? Known agents: 'ppo', 'td3'"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return KeyError(f"no {kind} named {name!r}{hint} Known {kind}s: {', '.join(map(repr, names)) or 'none'}")

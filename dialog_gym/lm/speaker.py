"""A frozen language model that speaks for the agent, steered by vectors, in many dialogues at once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue
from dialog_gym.lm import load, load_prefix
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.lm.prefix import Fingerprinted, PrefixMap
from dialog_gym.task import Task

Floats = npt.NDArray[np.float32]


class Speaker:
    """Read the dialogues of ``rows`` rows and say the agent's next utterance in them.

    One pass over what is new in a transcript gives both the state vector and the cache the reply goes
    on from; the cache is kept from turn to turn. What a row says depends on its dialogue, the action and
    the sampling settings, not on the other rows.

    Attributes:
        task: What is played.
        lm: The language model.
        rows: How many dialogues there are.
        prefix: Maps a vector action to prefix embeddings; None speaks unsteered.
        sampling: How replies are sampled; the random numbers come from (dialogue seed, turn).
        state_size: Length of a state vector.
    """

    def __init__(
        self,
        task: Task,
        lm: LanguageModel | str,
        rows: int = 1,
        *,
        prefix: PrefixMap | str | None = None,
        sampling: Sampling | None = None,
        state: str = "last+mean",
    ) -> None:
        """Speak for the agent of ``task``.

        Args:
            task: Says how a dialogue is put to a language model, and its answer to a partner.
            lm: A language model or its spec (``dialog_gym.lm.load``).
            rows: How many dialogues there are.
            prefix: A prefix map, or its name or folder (``dialog_gym.lm.load_prefix``).
            sampling: Default: greedy, at most 32 tokens.
            state: ``"last"``: what ``states`` tells is the last hidden state of the last token; ``"last+mean"``:
                that, and the mean over all tokens, which knows more of what was said long ago.

        Raises:
            ValueError: The model cannot do what is asked, or the map belongs to another model.
        """
        self.task = task
        self.lm = load(lm) if isinstance(lm, str) else lm
        self.prefix = _map_for(self.lm, prefix)
        self.rows = rows
        self.sampling = sampling or Sampling()
        if state not in ("last", "last+mean"):
            raise ValueError(f"state must be 'last' or 'last+mean', got {state!r}")
        self.session = self.lm.session(rows, mean=state == "last+mean")
        self.state_size = self.lm.hidden_size * (1 + (state == "last+mean"))
        self._states = np.zeros((rows, self.state_size), np.float32)
        self._read: list[Dialogue | None] = [None] * rows

    def steered(self, prefix: PrefixMap | str | None = None, sampling: Sampling | None = None) -> Speaker:
        """Return a speaker with another map or other sampling that shares this one's session and caches.

        Raises:
            ValueError: The model cannot be steered, or the map belongs to another model.
        """
        other = copy(self)
        other.prefix = self.prefix if prefix is None else _map_for(self.lm, prefix)
        other.sampling = sampling or self.sampling
        return other

    def states(self, rows: Sequence[int], dialogues: Sequence[Dialogue]) -> Floats:
        """Return the model's state before each reply, shape ``(len(rows), state_size)``.

        A function of the text alone: the last hidden state of the last token of the prompt, and with
        ``"last+mean"`` the mean of the last hidden states of all its tokens behind it.
        """
        new = [
            i for i, (row, dialogue) in enumerate(zip(rows, dialogues, strict=True)) if self._read[row] is not dialogue
        ]
        if new:
            agent = self.task.roles[0]
            fresh = [rows[i] for i in new]
            prompts = [self.task.messages(dialogues[i], agent) for i in new]
            # A new episode shares nothing with the last one, not even rounding.
            self.session.forget([rows[i] for i in new if _begins(self._read[rows[i]], dialogues[i])])
            self._states[fresh] = self.session.read(fresh, prompts)
            for i in new:
                self._read[rows[i]] = dialogues[i]
        return self._states[list(rows)]

    def speak(self, rows: Sequence[int], dialogues: Sequence[Dialogue], actions: Floats | None = None) -> list[str]:
        """Return the agent's next utterance in each dialogue.

        Args:
            rows: The rows the dialogues are in.
            dialogues: One per row, none of them over.
            actions: Vectors in [-1, 1], shape ``(len(rows), action_size)``; None speaks unsteered.
        """
        states = self.states(rows, dialogues)
        prefixes = None
        if actions is not None:
            if self.prefix is None:
                raise ValueError("this speaker has no prefix map to turn actions into prefixes; give it prefix=...")
            prefixes = self.prefix(actions, states[:, : self.lm.hidden_size])
        seeds = [dialogue.draws("speech").bits() >> 1 for dialogue in dialogues]
        position = "end" if self.prefix is None else self.prefix.position
        said = self.session.write(rows, self.sampling, prefixes=prefixes, seeds=seeds, position=position)
        limit = self.task.max_chars
        return [self.task.utterance(d, one.text)[:limit] for d, one in zip(dialogues, said, strict=True)]

    def forget(self) -> None:
        """Drop all caches; what follows is computed from the text again."""
        self.session.forget()
        self._read[:] = [None] * self.rows


def _map_for(lm: LanguageModel, prefix: PrefixMap | str | None) -> PrefixMap | None:
    needed = {"state"} if prefix is None else {"state", "prefix"}
    if missing := needed - lm.supports:
        raise ValueError(
            f"language model {lm.name!r} gives no {' and no '.join(sorted(missing))}, which steering by vectors "
            "needs; use a transformers model ('tiny-steerable', 'hf:NAME_OR_PATH')"
        )
    if isinstance(prefix, str):
        return load_prefix(prefix, lm)
    if prefix is not None and prefix.fingerprint is not None and isinstance(lm, Fingerprinted):
        prefix.check(lm)
    return prefix


def _begins(before: Dialogue | None, dialogue: Dialogue) -> bool:
    """Return whether ``dialogue`` is not of the episode last read in its row."""
    return before is None or before.seed != dialogue.seed or not dialogue.turn

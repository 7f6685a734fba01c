"""A frozen language model that speaks for the agent, steered by vectors, in many dialogues at once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue
from dialog_gym.errors import UnsupportedError, naming
from dialog_gym.lm import load, load_prefix
from dialog_gym.lm.base import CAPABILITIES, LanguageModel, Sampling, Session, require
from dialog_gym.lm.prefix import Fingerprinted, PrefixMap
from dialog_gym.lm.state_map import StateMap, load_state_map, own_state_maps
from dialog_gym.lm.wording import Wording
from dialog_gym.task import Task

Floats = npt.NDArray[np.float32]


class Speaker:
    """Read the dialogues of ``rows`` rows and say the agent's next utterance in them.

    Where the model that speaks also observes, one pass over what is new in a transcript gives both the state vector
    and the cache the reply goes on from; the cache is kept from turn to turn. What a row says depends on its
    dialogue, the action and the sampling settings, not on the other rows.

    A model behind a server tells no state: give an ``observer``, a second model that reads the same dialogues.

    Attributes:
        task: What is played.
        lm: The language model that speaks.
        observer: The language model whose states are observed, None if neither has states.
        rows: How many dialogues there are.
        prefix: Maps a vector action to prefix embeddings; None speaks unsteered.
        sampling: How replies are sampled; the random numbers come from (dialogue seed, turn).
        session: What the model that speaks remembers of each row.
    """

    def __init__(
        self,
        task: Task,
        lm: LanguageModel | str,
        rows: int = 1,
        *,
        prefix: PrefixMap | str | None = None,
        sampling: Sampling | None = None,
        state: str | None = None,
        observer: LanguageModel | str | None = None,
    ) -> None:
        """Speak for the agent of ``task``.

        Args:
            task: Says how a dialogue is put to a language model, and its answer to a partner.
            lm: A language model or its spec (``dialog_gym.lm.load``).
            rows: How many dialogues there are.
            prefix: A prefix map, or its name or folder (``dialog_gym.lm.load_prefix``).
            sampling: Default: greedy, at most 32 tokens.
            state: ``"last"``: what ``states`` tells is the last hidden state of the last token; ``"last+mean"``:
                that, and the mean over all tokens, which knows more of what was said long ago; or the folder or
                name of a state map, which reads a few numbers off ``"last+mean"`` (``dialog_gym.lm.state_map``).
                ``"facts"`` is the map of the task's own world, ``facts-<world>``. None: that map if the model that
                observes has it, else ``"last+mean"``.
            observer: The model whose states are observed, or its spec; default ``lm``.

        Raises:
            ValueError: A model cannot do what is asked, or the map belongs to another model.
        """
        self.task = task
        self.lm = load(lm) if isinstance(lm, str) else lm
        self.observer = _observer(self.lm, observer)
        self.prefix = _map_for(self.lm, self.observer, prefix)
        self.rows = rows
        self.sampling = sampling or Sampling()
        self._map = _state_map(self.observer, state, getattr(task, "world", ""))
        self._mean = state != "last"
        self._speaks = Wording(task, self.lm)
        self.session = self.lm.session(rows, mean=self._mean)
        self._prompted: list[Dialogue | None] = [None] * rows  # what the session has read
        self._reads, self._eyes, self._states = self._speaks, self.session, np.zeros((rows, 0), np.float32)
        if self.observer is not None:
            self._states = np.zeros((rows, self.observer.hidden_size * (1 + self._mean)), np.float32)
            if self.observer is not self.lm:
                self._reads = Wording(task, self.observer)
                self._eyes = self.observer.session(rows, mean=self._mean)
        self._seen: list[Dialogue | None] = self._prompted if self._eyes is self.session else [None] * rows

    @property
    def state_size(self) -> int:
        """Length of a state vector.

        Raises:
            UnsupportedError: Neither the model that speaks nor another one observes.
        """
        size = self._observing().hidden_size * (1 + self._mean)
        return size if self._map is None else len(self._map.bias)

    def steered(self, prefix: PrefixMap | str | None = None, sampling: Sampling | None = None) -> Speaker:
        """Return a speaker with another map or other sampling that shares this one's session and caches.

        Raises:
            ValueError: The model cannot be steered, or the map belongs to another model.
        """
        other = copy(self)
        other.prefix = self.prefix if prefix is None else _map_for(self.lm, self.observer, prefix)
        other.sampling = sampling or self.sampling
        return other

    def states(self, rows: Sequence[int], dialogues: Sequence[Dialogue]) -> Floats:
        """Return the observer's state before each reply, shape ``(len(rows), state_size)``.

        A function of the text alone: the last hidden state of the last token of the prompt, and with
        ``"last+mean"`` the mean of the last hidden states of all its tokens behind it; or what a state map tells
        from both.

        Raises:
            UnsupportedError: Nobody observes.
        """
        seen = self._hidden(rows, dialogues)
        return seen if self._map is None else self._map(seen)

    def speak(self, rows: Sequence[int], dialogues: Sequence[Dialogue], actions: Floats | None = None) -> list[str]:
        """Return the agent's next utterance in each dialogue.

        Args:
            rows: The rows the dialogues are in.
            dialogues: One per row, none of them over.
            actions: Vectors in [-1, 1], shape ``(len(rows), action_size)``; None speaks unsteered.

        Raises:
            LanguageModelError: The model gave no answer; the message names the dialogue.
        """
        prefixes = None
        if actions is not None:
            if self.prefix is None:
                raise ValueError("this speaker has no prefix map to turn actions into prefixes; give it prefix=...")
            prefixes = self.prefix(actions, self._states_for(self.prefix, rows, dialogues))
        self._read(self.session, self._speaks, self._prompted, rows, dialogues)
        seeds = [dialogue.draws("speech").bits() >> 1 for dialogue in dialogues]
        position = "end" if self.prefix is None else self.prefix.position
        with naming("the agent's words", dialogues):
            said = self.session.write(rows, self.sampling, prefixes=prefixes, seeds=seeds, position=position)
        return [self._speaks.utterance(d, one.text) for d, one in zip(dialogues, said, strict=True)]

    def forget(self) -> None:
        """Drop all caches; what follows is computed from the text again."""
        self.session.forget()
        self._eyes.forget()
        self._prompted[:] = self._seen[:] = [None] * self.rows

    def _observing(self) -> LanguageModel:
        if self.observer is None:
            raise UnsupportedError(
                f"language model {self.lm.name!r} gives no state vector, which observing dialogues needs: name a "
                f"model that observes for it (observer=...), one of {CAPABILITIES['state']}"
            )
        return self.observer

    def _states_for(self, prefix: PrefixMap, rows: Sequence[int], dialogues: Sequence[Dialogue]) -> Floats:
        """Return the states that ``prefix`` is made with, (n, hidden_size); of no length if it needs none."""
        if not prefix.needs_state or self.observer is None:
            return np.zeros((len(rows), 0), np.float32)
        return self._hidden(rows, dialogues)[:, : self.observer.hidden_size]

    def _hidden(self, rows: Sequence[int], dialogues: Sequence[Dialogue]) -> Floats:
        """Return the hidden states of the model that observes, without a state map."""
        self._observing()
        self._read(self._eyes, self._reads, self._seen, rows, dialogues)
        return self._states[list(rows)]

    def _read(
        self,
        session: Session,
        wording: Wording,
        known: list[Dialogue | None],
        rows: Sequence[int],
        dialogues: Sequence[Dialogue],
    ) -> None:
        """Let ``session`` read those dialogues that are not ``known`` to it, in one batch."""
        new = [i for i, (row, dialogue) in enumerate(zip(rows, dialogues, strict=True)) if known[row] is not dialogue]
        if not new:
            return
        agent = self.task.roles[0]
        fresh = [rows[i] for i in new]
        # A new episode shares nothing with the last one, not even rounding.
        session.forget([rows[i] for i in new if begins(known[rows[i]], dialogues[i])])
        states = session.read(fresh, [wording.messages(dialogues[i], agent) for i in new])
        if session is self._eyes and self.observer is not None:
            self._states[fresh] = states
        for i in new:
            known[rows[i]] = dialogues[i]


def _observer(lm: LanguageModel, observer: LanguageModel | str | None) -> LanguageModel | None:
    if observer is None:
        return lm if "state" in lm.supports else None
    found = load(observer) if isinstance(observer, str) else observer
    require(found, {"state"}, "observing dialogues")
    return found


def _state_map(observer: LanguageModel | None, state: str | None, world: str) -> StateMap | None:
    if state in ("last", "last+mean") or observer is None:
        return None
    own = f"facts-{world}"
    if state is None:
        return load_state_map(own, observer) if own in own_state_maps(observer) else None
    return load_state_map(own if state == "facts" else state, observer)


def _map_for(lm: LanguageModel, observer: LanguageModel | None, prefix: PrefixMap | str | None) -> PrefixMap | None:
    if prefix is None:
        return None
    require(lm, {"prefix"}, "steering by vectors")
    found = load_prefix(prefix, lm) if isinstance(prefix, str) else prefix
    if found.fingerprint is not None and isinstance(lm, Fingerprinted):
        found.check(lm)
    if found.needs_state and not _same_model(lm, observer):
        raise ValueError(
            f"a {found.kind!r} prefix map is made with the states of the model that it steers, {lm.name!r}; observe "
            "with the same model (observer=...), or take a map that needs none ('steer', 'pca')"
        )
    return found


def _same_model(lm: LanguageModel, observer: LanguageModel | None) -> bool:
    if observer is lm:
        return True
    told = [dict(one.fingerprint()) if isinstance(one, Fingerprinted) else None for one in (lm, observer)]
    return told[0] is not None and told[0] == told[1]


def begins(before: Dialogue | None, dialogue: Dialogue) -> bool:
    """Return whether ``dialogue`` is not of the episode last read in its row."""
    return before is None or before.seed != dialogue.seed or not dialogue.turn

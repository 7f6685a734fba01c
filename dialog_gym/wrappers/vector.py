"""The wrappers of ``dialog_gym.wrappers`` for vector environments: one model call for all rows."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Text
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from dialog_gym.dialogue import Dialogue
from dialog_gym.env import DialogueVectorEnv, Info
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.lm.prefix import PrefixMap
from dialog_gym.lm.speaker import Speaker
from dialog_gym.task import Task

Floats = npt.NDArray[np.float32]


class EmbeddingObservation(VectorWrapper[Floats, Any, Any, Any, Any]):
    """Observe the language model's state vectors, shape ``(num_envs, speaker.state_size)``.

    Only what is new is read: rows that went on, in one batch. The observation of a terminated dialogue is
    zero (nothing is learned from it, so no model is asked); that of a truncated one is its true state.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], speaker: Speaker | LanguageModel | str) -> None:
        """Observe through ``speaker``, or through a new one made of a language model or its spec."""
        super().__init__(env)
        self.speaker = speaker_for(speaker, text_env(env).task, env.num_envs)
        self.single_observation_space = state_space(self.speaker)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._states = np.zeros((env.num_envs, self.speaker.state_size), np.float32)

    def reset(self, *, seed: Any = None, options: Info | None = None) -> tuple[Floats, Info]:
        """Begin dialogues anew and observe them."""
        _, infos = self.env.reset(seed=seed, options=options)
        return self._observe(np.array([_terminated(d) for d in infos["dialogue"]])), infos

    def step(self, actions: Any) -> tuple[Floats, Any, Any, Any, Info]:
        """Step the dialogues and observe those that did not terminate."""
        _, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:  # autoreset in the same step: what is observed now has just begun
            infos["final_obs"] = self._final_states(infos["final_info"]["dialogue"], infos["_final_obs"])
            return self._observe(np.zeros(self.num_envs, np.bool_)), rewards, terminated, truncated, infos
        return self._observe(terminated), rewards, terminated, truncated, infos

    def get_state(self) -> Info:
        """Return the state of the rows, and drop the model's caches: they are rebuilt from the text."""
        self.speaker.forget()
        return {"env": self.env.get_state(), "states": self._states.tolist()}  # type: ignore[attr-defined]

    def set_state(self, state: Info) -> tuple[Floats, Info]:
        """Continue from what ``get_state`` returned."""
        self.speaker.forget()
        _, infos = self.env.set_state(state["env"])  # type: ignore[attr-defined]
        self._states = np.array(state["states"], np.float32)
        return self._states.copy(), infos

    def _observe(self, terminated: npt.NDArray[np.bool_]) -> Floats:
        dialogues = text_env(self.env).dialogues
        rows = np.flatnonzero(~terminated).tolist()
        self._states[terminated] = 0.0
        if rows:
            self._states[rows] = self.speaker.states(rows, [dialogues[row] for row in rows])
        return self._states.copy()

    def _final_states(self, dialogues: npt.NDArray[Any], ended: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        final = np.full(self.num_envs, None, dtype=object)
        rows = [row for row in np.flatnonzero(ended).tolist() if not _terminated(dialogues[row])]
        states = self.speaker.states(rows, [dialogues[row] for row in rows])
        for row in np.flatnonzero(ended).tolist():
            final[row] = np.zeros(self.speaker.state_size, np.float32)
        for row, state in zip(rows, states, strict=True):
            final[row] = state
        return final


class PrefixAction(VectorWrapper[Any, Floats, Any, Any, Any]):
    """Act by vectors in [-1, 1], shape ``(num_envs, action_size)``; see ``dialog_gym.wrappers.PrefixAction``.

    Rows that have ended say nothing, whatever their vector.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        speaker: Speaker | LanguageModel | str | None = None,
        *,
        prefix: PrefixMap | str | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        """Speak through ``speaker``; arguments as in ``dialog_gym.wrappers.PrefixAction``."""
        super().__init__(env)
        self.speaker = shared_speaker(env, speaker, text_env(env).task, env.num_envs, prefix, sampling)
        self.single_action_space = Box(-1.0, 1.0, (action_size(self.speaker),), np.float32)
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def step(self, actions: Floats) -> tuple[Any, Any, Any, Any, Info]:
        """Say in each row what its vector makes the model say.

        Raises:
            ValueError: The actions have the wrong shape, or are not finite.
        """
        vectors = checked_actions(actions, (self.num_envs, action_size(self.speaker)))
        dialogues = text_env(self.env).dialogues
        rows = [row for row, dialogue in enumerate(dialogues) if not dialogue.stop_reason]
        texts = [""] * self.num_envs
        if rows:
            said = self.speaker.speak(rows, [dialogues[row] for row in rows], vectors[rows])
            for row, text in zip(rows, said, strict=True):
                texts[row] = text
        return self.env.step(texts)

    def get_state(self) -> Info:
        """Return the state of the rows, and drop the model's caches: they are rebuilt from the text."""
        self.speaker.forget()
        state: Info = self.env.get_state()  # type: ignore[attr-defined]
        return state

    def set_state(self, state: Info) -> tuple[Any, Info]:
        """Continue from what ``get_state`` returned."""
        self.speaker.forget()
        restored: tuple[Any, Info] = self.env.set_state(state)  # type: ignore[attr-defined]
        return restored


def checked_actions(actions: Any, shape: tuple[int, ...]) -> Floats:
    """Return ``actions`` as float32 of ``shape``, ``(rows, size)`` or ``(size,)``, clipped to [-1, 1].

    Raises:
        ValueError: Wrong shape, not numbers, or not finite.
    """
    try:
        given = np.asarray(actions)
    except (TypeError, ValueError) as error:
        raise ValueError(f"prefix actions must be numbers, shape {shape}, got {actions!r:.80}") from error
    if given.dtype.kind not in "fiu":
        raise ValueError(f"prefix actions must be numbers, shape {shape}, got {actions!r:.80}")
    if given.shape != shape:
        raise ValueError(f"prefix actions must have shape {shape}, got {given.shape}")
    if not np.isfinite(given).all():
        bad = np.flatnonzero(~np.isfinite(given.reshape(-1, shape[-1])).all(axis=1)).tolist()
        where = f" in rows {bad[:8]}" if len(shape) > 1 else ""
        raise ValueError(f"prefix actions must be finite, got NaN or infinity{where}; check the policy")
    return given.clip(-1.0, 1.0).astype(np.float32)


def shared_speaker(
    env: Any,
    speaker: Speaker | LanguageModel | str | None,
    task: Task,
    rows: int,
    prefix: PrefixMap | str | None,
    sampling: Sampling | None,
) -> Speaker:
    """Return the speaker a ``PrefixAction`` over ``env`` speaks through.

    Raises:
        TypeError: ``env`` is steered already.
        ValueError: There is none, or it is for fewer rows.
    """
    space = env.action_space if isinstance(env, gym.Env) else env.single_action_space
    if not isinstance(space, Text):
        raise TypeError(f"PrefixAction steers what is said in words; the actions of this environment are {space}")
    if speaker is None:
        speaker = _speaker_below(env)
    elif not isinstance(speaker, Speaker):
        return Speaker(task, speaker, rows, prefix=prefix, sampling=sampling)
    return speaker_for(speaker, task, rows).steered(prefix, sampling)


def speaker_for(speaker: Speaker | LanguageModel | str, task: Task, rows: int) -> Speaker:
    """Return ``speaker`` if it is one, else a new one made of a language model or its spec.

    Raises:
        ValueError: It is for fewer rows.
    """
    if not isinstance(speaker, Speaker):
        return Speaker(task, speaker, rows)
    if speaker.rows < rows:
        raise ValueError(
            f"this speaker is for {speaker.rows} rows, the environment has {rows}: Speaker(..., rows={rows})"
        )
    return speaker


def _speaker_below(env: Any) -> Speaker:
    while isinstance(env, (gym.Wrapper, VectorWrapper)):
        if isinstance(found := getattr(env, "speaker", None), Speaker):
            return found
        env = env.env
    raise ValueError(
        "PrefixAction needs a model to speak through, e.g. PrefixAction(env, 'tiny-bargain', prefix='steer')"
    )


def state_space(speaker: Speaker) -> Box:
    """Return the space of state vectors: all of finite numbers, whatever the model is."""
    limit = float(np.finfo(np.float32).max)
    return Box(-limit, limit, (speaker.state_size,), np.float32)


def action_size(speaker: Speaker) -> int:
    """Return the number of coordinates of an action."""
    if speaker.prefix is None:
        raise ValueError("PrefixAction needs a prefix map, e.g. prefix='steer', 'pca', 'clone' or a folder")
    return speaker.prefix.action_size


def text_env(env: Any) -> DialogueVectorEnv:
    """Return the vector environment of dialogues under the wrappers."""
    below = env.unwrapped
    if not isinstance(below, DialogueVectorEnv):
        raise TypeError(f"steering wraps a DialogueVectorEnv, got {type(below).__name__}; make it with gym.make_vec")
    return below


def _terminated(dialogue: Dialogue) -> bool:
    return dialogue.stop_reason not in ("", "max_turns")

"""Continuous actions and observations for a text environment: steer a frozen LM by prefix vectors.

After Dialogue Action Tokens (Li et al. 2024, arXiv:2406.11978): the observation is the LM's last hidden
state, the action a small vector that a prefix map turns into input embeddings, and the LM says the words.
Deviations: actions live in the box [-1, 1]; prefixes stand right before the reply by default, so that the
transcript's key-value cache serves both the state and the reply.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from dialog_gym.env import DialogueEnv, DialogueVectorEnv, Info, load_task
from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.lm.prefix import PrefixMap
from dialog_gym.lm.speaker import Speaker
from dialog_gym.lm.spec import own_model
from dialog_gym.task import Task
from dialog_gym.wrappers import vector
from dialog_gym.wrappers.vector import checked_actions

Floats = npt.NDArray[np.float32]


class EmbeddingObservation(gym.Wrapper[Any, Any, Any, Any]):
    """Observe the language model's state vector instead of the transcript.

    The observation of a terminated dialogue is zero: nothing is learned from it, so no model is asked.
    """

    def __init__(self, env: gym.Env[str, Any], speaker: Speaker | LanguageModel | str) -> None:
        """Observe through ``speaker``, or through a new one made of a language model or its spec."""
        super().__init__(env)
        self.speaker = vector.speaker_for(speaker, _text_env(env).task, 1)
        self.observation_space = vector.state_space(self.speaker)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Floats, Info]:
        """Begin a new dialogue and observe it."""
        _, info = self.env.reset(seed=seed, options=options)
        return self.observe(), info

    def step(self, action: Any) -> tuple[Floats, Any, bool, bool, Info]:
        """Step the dialogue and observe it."""
        _, reward, terminated, truncated, info = self.env.step(action)
        seen = np.zeros(self.speaker.state_size, np.float32) if terminated else self.observe()
        return seen, reward, terminated, truncated, info

    def observe(self) -> Floats:
        """Return the state vector of the present dialogue."""
        dialogue = _text_env(self.env).dialogue
        assert dialogue is not None, "observed only after reset"
        state: Floats = self.speaker.states([0], [dialogue])[0]
        return state


class PrefixAction(gym.Wrapper[Any, Any, Any, Any]):
    """Act by a vector in [-1, 1]; a frozen language model steered by it says the words.

    Vectors outside the box are clipped to it; NaN, infinity and wrong shapes are refused.
    """

    def __init__(
        self,
        env: gym.Env[Any, str],
        speaker: Speaker | LanguageModel | str | None = None,
        *,
        prefix: PrefixMap | str | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        """Speak through ``speaker``.

        Args:
            env: A dialogue environment, observed as text or by ``EmbeddingObservation``.
            speaker: A speaker, a language model or its spec. None: the speaker of the
                ``EmbeddingObservation`` below, so that both share one cache.
            prefix: The map from vectors to prefixes, where ``speaker`` does not have it.
            sampling: How replies are sampled, where ``speaker`` is a model.
        """
        super().__init__(env)
        self.speaker = vector.shared_speaker(env, speaker, _text_env(env).task, 1, prefix, sampling)
        self.action_space = Box(-1.0, 1.0, (vector.action_size(self.speaker),), np.float32)

    def step(self, action: Floats) -> tuple[Any, Any, bool, bool, Info]:
        """Say what ``action`` makes the model say.

        Raises:
            ValueError: The action has the wrong shape, or is not finite.
        """
        vectors = checked_actions(action, (vector.action_size(self.speaker),))[None]
        dialogue = _text_env(self.env).dialogue
        if dialogue is None or dialogue.stop_reason:
            return self.env.step("")  # raises, saying what to do
        (text,) = self.speaker.speak([0], [dialogue], vectors)
        return self.env.step(text)


class PrefixEnv(gym.Env[Floats, Floats]):
    """One dialogue steered by vectors: ``PrefixAction(EmbeddingObservation(DialogueEnv))`` as one environment.

    The stack is made by the entry point of ``NamePrefix-v0``, so the environment is one to Gymnasium, and
    its spec rebuilds it whole.
    """

    metadata = DialogueEnv.metadata

    def __init__(self, env: PrefixAction) -> None:
        """Present ``env``."""
        self.env = env
        self.action_space = env.action_space
        self.observation_space = env.observation_space
        self.render_mode = env.render_mode
        self._seen: Floats = np.zeros(env.speaker.state_size, np.float32)

    @property
    def task(self) -> Any:
        """The task being played."""
        return self.env.unwrapped.task  # type: ignore[attr-defined]

    @property  # the generator that seeds the dialogues is that of the environment below, as is its seed
    def _np_random(self) -> np.random.Generator | None:
        return self.env.unwrapped._np_random

    @_np_random.setter
    def _np_random(self, value: np.random.Generator | None) -> None:
        self.env.unwrapped._np_random = value

    @property
    def _np_random_seed(self) -> int | None:
        return self.env.unwrapped._np_random_seed

    @_np_random_seed.setter
    def _np_random_seed(self, value: int | None) -> None:
        self.env.unwrapped._np_random_seed = value

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Floats, Info]:
        """Begin a new dialogue; ``options`` as in ``DialogueEnv``."""
        self._seen, info = self.env.reset(seed=seed, options=options)
        return self._seen.copy(), info

    def step(self, action: Floats) -> tuple[Floats, Any, bool, bool, Info]:
        """Say what ``action`` makes the model say, and hear the answer."""
        self._seen, *rest = self.env.step(action)
        return self._seen.copy(), *rest

    def get_state(self) -> Info:
        """Return all that determines how this environment goes on; drops the model's caches, as for many rows."""
        self.env.speaker.forget()
        return {"env": _text_env(self.env).get_state(), "seen": self._seen.tolist()}

    def set_state(self, state: Info) -> tuple[Floats, Info]:
        """Continue from what ``get_state`` returned."""
        self.env.speaker.forget()
        _, info = _text_env(self.env).set_state(state["env"])
        self._seen = np.array(state["seen"], np.float32)
        return self._seen.copy(), info

    def render(self) -> Any:
        """Render the dialogue."""
        return self.env.render()

    def close(self) -> None:
        """Close the dialogue environment."""
        self.env.close()


def make_prefix_env(
    task: str,
    *,
    lm: LanguageModel | str | None = None,
    prefix: PrefixMap | str | None = None,
    observer: LanguageModel | str | None = None,
    state: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 32,
    render_mode: str | None = None,
    **settings: Any,
) -> PrefixEnv:
    """Entry point of ``gym.make("dialog_gym/NamePrefix-v0")``.

    Args:
        task: ``"module:Class"`` of the task; ``settings`` are its arguments.
        lm: The frozen language model that speaks, or its spec. None: that of the task's world (``tiny-bargain``,
            ...), or ``tiny`` where there is none.
        prefix: The prefix map: ``"steer"``, ``"pca"``, ``"clone"``, a folder, or a map. None: ``"steer"`` if the
            model comes with it, else ``"pca"``.
        observer: The model whose states are observed, where it is another one: a model behind a server has none.
        state: What is observed: ``"last"`` (as in the paper), ``"last+mean"``, or a state map, see ``Speaker``.
        temperature: 0 speaks greedily.
        max_tokens: Longest reply, in tokens.
        render_mode: As in ``DialogueEnv``.
        settings: Arguments of the task, and those of ``dialog_gym.env.load_task`` (``partner``, ``judge``, ...).
    """
    env = DialogueEnv(load_task(task, settings), render_mode=render_mode)
    model, prefix = _speaking(env.task, lm, prefix)
    speaker = Speaker(
        env.task, model, prefix=prefix, sampling=Sampling(max_tokens, temperature), state=state, observer=observer
    )
    return PrefixEnv(PrefixAction(EmbeddingObservation(env, speaker), speaker))


def make_prefix_vector_env(
    task: str,
    num_envs: int = 1,
    *,
    lm: LanguageModel | str | None = None,
    prefix: PrefixMap | str | None = None,
    observer: LanguageModel | str | None = None,
    state: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 32,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **settings: Any,
) -> vector.PrefixAction:
    """Entry point of ``gym.make_vec``; arguments as in ``make_prefix_env``."""
    env = DialogueVectorEnv(
        load_task(task, settings), num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode
    )
    model, prefix = _speaking(env.task, lm, prefix)
    sampling = Sampling(max_tokens, temperature)
    speaker = Speaker(env.task, model, num_envs, prefix=prefix, sampling=sampling, state=state, observer=observer)
    return vector.PrefixAction(vector.EmbeddingObservation(env, speaker), speaker)


def _speaking(
    task: Task, lm: LanguageModel | str | None, prefix: PrefixMap | str | None
) -> tuple[LanguageModel, PrefixMap | str]:
    """Return the model that speaks in ``task`` and what steers it, the usual ones where None is said."""
    lm = own_model(task) if lm is None else lm
    model = load(lm) if isinstance(lm, str) else lm
    if prefix is None:
        home = getattr(model, "folder", None)
        prefix = "steer" if home is not None and (home / "steer" / "prefix.json").is_file() else "pca"
    return model, prefix


def _text_env(env: gym.Env[Any, Any]) -> DialogueEnv:
    below = env.unwrapped
    if not isinstance(below, DialogueEnv):
        raise TypeError(
            f"steering wraps a text dialogue environment (dialog_gym/Name-v0), got {type(below).__name__}; "
            "NamePrefix-v0 ids are steered already"
        )
    return below

"""The policies that every agent is compared with, by name, and the two that fix the normalised score.

``oracle`` sees the partner's hidden state; ``lm`` is the frozen language model left alone. ``random`` and
``constant`` act without looking, and show how much of a planner's score is due to listening at all. An embedded
world adds scripted policies of its own (``World.policies``), by the names it gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Text
from gymnasium.vector import VectorEnv, VectorWrapper

from dialog_gym import rollout
from dialog_gym.dialogue import Dialogue
from dialog_gym.env import DialogueVectorEnv
from dialog_gym.errors import unknown
from dialog_gym.lm.spec import own_model
from dialog_gym.rollout import Evaluation, Policy

Floats = npt.NDArray[np.float32]
Rows = VectorEnv[Any, Any, Any]

HELD_OUT = 1_000_000  # first seed of evaluations; training and searches stay below
POLICIES = {
    "oracle": "sees the hidden state: the 1 of the normalised score",
    "lm": "the frozen language model left alone, greedy: the 0 of the normalised score",
    "lm-sampled": "the same at temperature 1",
    "random": "an action drawn uniformly every turn",
    "constant": "the best single action, found on training seeds",
}


@dataclass(frozen=True)
class Trial:
    """Where policies are compared: one environment and the seeds of its episodes.

    Attributes:
        env: Id of a text or a prefix environment.
        env_kwargs: Its arguments.
        episodes: How many.
        seed: Of the first; the others follow.
        rows: Dialogues in parallel; no influence on the result, but for ``constant``, which is searched for with them.
        lm: Who ``lm`` is where the environment has no language model in it; "": the one of the package that was made
            in this world, else ``"tiny"``.
        progress: Whether to show progress bars.
    """

    env: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 512
    seed: int = HELD_OUT
    rows: int = 32
    lm: str = ""
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        for name, least in (("episodes", 1), ("rows", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @cached_property
    def venv(self) -> Rows:
        """The environment, made once; it never resets itself.

        Raises:
            ValueError: It does not take the arguments.
        """
        try:
            return rollout.make_rows(self.env, min(self.rows, self.episodes), self.env_kwargs)
        except TypeError as error:
            raise ValueError(f"{self.env} cannot be made with {dict(self.env_kwargs)}: {reason(error)}") from error

    def score(self, policy: Policy, name: str, *, in_words: bool = False) -> Evaluation:
        """Return what ``policy`` earns; ``in_words``: it speaks itself, also where actions are vectors."""
        result = rollout.evaluate(
            policy,
            text_rows(self.venv) if in_words else self.venv,
            episodes=self.episodes,
            seed=self.seed,
            name=name,
            progress=self.progress,
        )
        return replace(result, env=self.env)


def evaluate(name: str, trial: Trial) -> Evaluation:
    """Return what the baseline ``name`` earns in ``trial``.

    Raises:
        KeyError: Nobody is called ``name``; the message names the nearest.
        ValueError: The baseline cannot act in this environment.
        NotImplementedError: There is no oracle; known before anything is played.
    """
    policy, in_words = acting(name, trial)
    return trial.score(policy, name, in_words=in_words)


def on_scale(results: Iterable[Evaluation]) -> list[Evaluation]:
    """Return ``results`` with a normalised score, whose 0 and 1 are those of them that are of ``lm`` and ``oracle``.

    Where one of the two is missing there is none.
    """
    found = list(results)
    scale = {one.policy: one.mean for one in found if one.policy in ("lm", "oracle")}
    return [replace(one, references=scale) for one in found]


def acting(name: str, trial: Trial) -> tuple[Policy, bool]:
    """Return the baseline ``name`` for the environment of ``trial``, and whether it speaks itself (see ``score``).

    Raises:
        KeyError, ValueError: See ``evaluate``.
    """
    require(name, trial)
    scripted = scripted_policies(trial)
    if name in scripted:
        return _speaking(scripted[name]), True
    if name == "random":
        return rollout.random_policy(trial.venv, seed=trial.seed), False
    if name == "constant":
        best = best_constant(trial.venv, progress=trial.progress)
        return rollout.constant_policy(trial.venv, best), False
    text = text_rows(trial.venv)
    if name == "oracle":
        return rollout.oracle_policy(text), True
    model = _model(trial.venv) or trial.lm or own_model(text.task)
    return rollout.language_model_policy(text, model, temperature=float(name == "lm-sampled")), True


def require(name: str, trial: Trial) -> None:
    """Refuse a policy that nobody knows.

    Raises:
        KeyError: ``name`` is neither in ``POLICIES`` nor one of the world's own; the message names the nearest.
    """
    names = {*POLICIES, *scripted_policies(trial)}
    if name not in names:
        raise unknown("policy or run folder", name, names)


def scripted_policies(trial: Trial) -> dict[str, Callable[[Dialogue], str]]:
    """Return the world's own policies by name, none where the environment is no embedded world.

    The oracle is everybody's. Where actions are vectors, ``random`` and ``constant`` are those of ``POLICIES``; where
    they are words, the world's.
    """
    below = trial.venv.unwrapped
    named = getattr(getattr(below, "task", None), "policies", None)
    if named is None:
        return {}
    taken = {"oracle", "lm", "lm-sampled"} if isinstance(trial.venv.single_action_space, Text) else POLICIES.keys()
    return {name: speak for name, speak in named().items() if name not in taken}


def _speaking(speak: Callable[[Dialogue], str]) -> Policy:
    def act(observations: Any, infos: Mapping[str, Any]) -> list[str]:
        return ["" if dialogue.stop_reason else speak(dialogue) for dialogue in infos["dialogue"]]

    return act


def text_rows(rows: Rows) -> DialogueVectorEnv:
    """Return the text environment under a prefix environment (or itself).

    Raises:
        ValueError: There is none.
    """
    below = rows.unwrapped
    if not isinstance(below, DialogueVectorEnv):
        raise ValueError(f"expected an environment of dialogues, got {type(below).__name__}")
    return below


def best_constant(
    rows: Rows,
    *,
    seed: int = 0,
    rounds: int = 3,
    candidates: int = 96,
    episodes: int = 8,
    finalists: int = 4,
    progress: bool = False,
) -> Floats:
    """Return the best single action that a search finds, shape ``(action_size,)``.

    Cross-entropy search: uniform candidates, then normal ones around the best eighth of all so far;
    the finalists are compared on sixteen times the episodes.

    Args:
        rows: A vector prefix environment. Its number of rows decides which dialogues a candidate is tried on, so the
            action that is found depends on it.
        seed: Of the candidates and of the first episode; searches take seeds below ``HELD_OUT``.
        rounds: Of candidates.
        candidates: Per round.
        episodes: Per candidate.
        finalists: How many of the best are compared once more.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: Actions are not vectors.
    """
    from dialog_gym.tracking import progress_bar

    space = rows.single_action_space
    if not isinstance(space, Box):
        raise ValueError("a constant policy acts by vectors; evaluate it on a prefix environment (NamePrefix-v0)")
    rng = np.random.default_rng(seed)
    actions = rng.uniform(space.low, space.high, (candidates, *space.shape)).astype(np.float32)
    tried, scores = actions[:0], np.zeros(0)
    steps = rounds + 1
    with progress_bar("search constant", steps, show=progress) as update:
        for step in range(rounds):
            first = seed + step * candidates * episodes
            tried = np.concatenate([tried, actions])
            scores = np.concatenate([scores, mean_returns(rows, actions, episodes, first)])
            elite = tried[np.argsort(-scores)[: candidates // 8]]
            drawn = rng.normal(elite.mean(axis=0), elite.std(axis=0) + 0.05, actions.shape)
            actions = drawn.clip(space.low, space.high).astype(np.float32)
            update(step + 1, {"eval/return": float(scores.max())})
        last = np.concatenate([tried[np.argsort(-scores)[:finalists]], elite.mean(axis=0)[None]])
        final = mean_returns(rows, last, 16 * episodes, seed + rounds * candidates * episodes)
        update(steps, {"eval/return": float(final.max())})
    best: Floats = last[final.argmax()]
    return best


def mean_returns(rows: Rows, actions: Floats, episodes: int, seed: int) -> npt.NDArray[np.float64]:
    """Return what each constant action earns, shape ``(len(actions),)``, over about ``episodes`` dialogues each.

    Every row keeps to one action, so all of them are tried in parallel.
    """
    size = rows.num_envs
    owners = np.resize(np.arange(len(actions)), -(-len(actions) // size) * size)
    times = max(1, round(episodes * len(actions) / len(owners)))
    totals, counts = np.zeros(len(actions)), np.zeros(len(actions))
    for start in range(0, len(owners), size):
        owner = owners[start : start + size]
        for k, episode in rollout.play(_always(actions[owner]), rows, size * times, seed=seed + start * times):
            totals[owner[k % size]] += episode.total
            counts[owner[k % size]] += 1
    return totals / counts


def reason(error: TypeError) -> str:
    """Return what ``error`` says, without what Gymnasium adds to it."""
    return str(error).partition(" was raised from the environment creator")[0]


def _always(actions: Floats) -> Policy:
    return lambda observations, infos: actions


def _model(rows: Any) -> Any:
    """Return the language model that speaks in a prefix environment, None in a text environment."""
    while isinstance(rows, (gym.Wrapper, VectorWrapper)):
        if speaker := getattr(rows, "speaker", None):
            return speaker.lm
        rows = rows.env
    return None

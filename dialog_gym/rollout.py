"""Play many dialogues with a policy, and count honestly.

Every episode has its own seed (``seed + k`` for episode ``k``) and its place in a row is settled before
the first word, so the result does not depend on the number of rows and short episodes are not preferred.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv

from dialog_gym.dialogue import Dialogue
from dialog_gym.env import DialogueVectorEnv, begin

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Named = Mapping[str, tuple[float, ...]]
"""One number per agent turn, by name."""


class Policy(Protocol):
    """Acts in all rows at once. Agents are policies; so is any function of this form."""

    def __call__(self, observations: Any, infos: Mapping[str, Any]) -> Any:
        """Return one action per row; what it says for rows that have ended is ignored."""


@dataclass(frozen=True)
class Episode:
    """One played dialogue.

    Attributes:
        seed: What the environment was seeded with.
        dialogue: The dialogue as it ended.
        rewards: What the agent earned, per turn.
        costs: Cost per turn.
        terms: What the rewards are made of (``info["reward_terms"]``), per turn.
        cost_terms: What the costs are made of, per turn.
        signals: What was measured besides (``info["signals"]``), per turn.
        actions: The vectors that were taken, shape ``(turns, action_size)``; None where the agent acts by words.
        states: What was observed before each turn and at the end, shape ``(turns + 1, state_size)``; None where
            observations are texts. Vectors may differ in the last digits with the number of rows, so they are no
            part of ``==``.
    """

    seed: int
    dialogue: Dialogue
    rewards: tuple[float, ...]
    costs: tuple[float, ...]
    terms: Named = field(default_factory=dict)
    cost_terms: Named = field(default_factory=dict)
    signals: Named = field(default_factory=dict)
    actions: Vectors | None = field(default=None, compare=False, repr=False)
    states: Vectors | None = field(default=None, compare=False, repr=False)

    @property
    def total(self) -> float:
        """The return: the sum of the rewards, undiscounted."""
        return float(sum(self.rewards))

    def to_json(self) -> dict[str, Any]:
        """Return the episode as plain JSON values, the dialogue readable at its top; vectors are left out."""
        ended = self.dialogue
        return {
            "seed": self.seed,
            "return": self.total,
            "success": ended.success,
            "stop_reason": ended.stop_reason,
            "said": [f"{turn.role}: {turn.text}" for turn in ended.turns],
            "rewards": list(self.rewards),
            "costs": list(self.costs),
            **{part: {name: list(values) for name, values in getattr(self, part).items()} for part in PER_TURN},
            "dialogue": ended.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Episode:
        """Rebuild what ``to_json`` returned; older files have rewards and costs alone."""
        dialogue = Dialogue.from_json(data["dialogue"])
        terms, costs, signals = (
            {name: tuple(values) for name, values in data.get(part, {}).items()} for part in PER_TURN
        )
        return cls(int(data["seed"]), dialogue, tuple(data["rewards"]), tuple(data["costs"]), terms, costs, signals)


PER_TURN = ("terms", "cost_terms", "signals")
"""Fields of an ``Episode`` that hold numbers per turn by name, in its order."""
_IN_INFO = {"terms": "reward_terms", "cost_terms": "cost_terms", "signals": "signals"}


class _Tape:
    """What happens in one row until its dialogue ends."""

    def __init__(self) -> None:
        self.rewards: list[float] = []
        self.costs: list[float] = []
        self.named: dict[str, dict[str, list[float]]] = {part: {} for part in PER_TURN}
        self.actions: list[Vectors] = []
        self.states: list[Vectors] = []

    def turn(self, row: int, reward: float, infos: Mapping[str, Any]) -> None:
        """Note what the newest turn of ``row`` earned."""
        self.rewards.append(float(reward))
        self.costs.append(float(infos["cost"][row]))
        for part, named in self.named.items():
            for name, values in infos[_IN_INFO[part]].items():
                if name[0] != "_":  # Gymnasium's masks
                    named.setdefault(name, []).append(float(values[row]))

    def episode(self, seed: int, dialogue: Dialogue) -> Episode:
        """Return what was noted."""
        terms, costs, signals = (
            {name: tuple(values) for name, values in self.named[part].items()} for part in PER_TURN
        )
        return Episode(
            seed,
            dialogue,
            tuple(self.rewards),
            tuple(self.costs),
            terms,
            costs,
            signals,
            actions=np.array(self.actions, np.float32) if self.actions else None,
            states=np.array(self.states, np.float32) if self.states else None,
        )


@dataclass(frozen=True)
class Evaluation:
    """What a policy earned in an environment, episode by episode."""

    env: str
    policy: str
    episodes: tuple[Episode, ...]
    references: Mapping[str, float] = field(default_factory=dict)

    @property
    def returns(self) -> Floats:
        """Return of each episode, shape ``(n,)``, in the order of the seeds."""
        return np.array([episode.total for episode in self.episodes])

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of the mean return over episodes (percentile, 2,000 resamples)."""
        return bootstrap(self.returns)

    @property
    def success_rate(self) -> float:
        """Share of episodes that reached the agent's goal."""
        return float(np.mean([episode.dialogue.success for episode in self.episodes]))

    @property
    def cost(self) -> float:
        """Mean cost of an episode: the sum of its costs, undiscounted."""
        return float(np.mean([sum(episode.costs) for episode in self.episodes]))

    @property
    def turns(self) -> float:
        """Mean number of agent turns."""
        return float(np.mean([episode.dialogue.turn for episode in self.episodes]))

    @property
    def normalised(self) -> float | None:
        """Mean return where 0 is the unsteered language model and 1 the oracle; None without references."""
        return normalise(self.mean, self.references)

    def to_json(self) -> dict[str, Any]:
        """Return the summary and the per-episode results as plain JSON values."""
        return {
            "env": self.env,
            "policy": self.policy,
            "episodes": len(self.episodes),
            "mean": self.mean,
            "interval": list(self.interval),
            "normalised": self.normalised,
            "success_rate": self.success_rate,
            "turns": self.turns,
            "cost": self.cost,
            "seeds": [episode.seed for episode in self.episodes],
            "returns": self.returns.tolist(),
            "costs": [sum(episode.costs) for episode in self.episodes],
        }


def normalise(value: float, references: Mapping[str, float]) -> float | None:
    """Return ``value`` on the scale 0 = unsteered language model, 1 = oracle; None where there is no such scale."""
    if not {"lm", "oracle"} <= references.keys() or references["lm"] == references["oracle"]:
        return None
    return (value - references["lm"]) / (references["oracle"] - references["lm"])


def bootstrap(
    values: npt.ArrayLike, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values``, shape ``(n,)``, n at least 1."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"expected at least one value in one dimension, got shape {sample.shape}")
    rng = np.random.default_rng(seed)
    means = [sample[rng.integers(len(sample), size=len(sample))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(successes: int, episodes: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    >>> [round(end, 4) for end in wilson(0, 10)]
    [0.0, 0.2775]

    Raises:
        ValueError: There are no episodes, or more successes than episodes.
    """
    if not 0 <= successes <= episodes or not episodes:
        raise ValueError(f"expected 0 .. n successes of n >= 1 episodes, got {successes} of {episodes}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, scale = successes / episodes, 1 + z * z / episodes
    middle = (share + z * z / (2 * episodes)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / episodes + z * z / (4 * episodes * episodes))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def make_rows(env: str, rows: int, env_kwargs: Mapping[str, Any] | None = None) -> VectorEnv[Any, Any, Any]:
    """Make a vector environment that never resets itself, as roll-outs want it."""
    return gym.make_vec(env, num_envs=rows, autoreset_mode="disabled", **(env_kwargs or {}))


def play(
    policy: Policy, env: VectorEnv[Any, Any, Any], episodes: int, *, seed: int = 0
) -> Iterator[tuple[int, Episode]]:
    """Yield ``(k, episode)`` for ``episodes`` dialogues as they end; episode ``k`` is seeded ``seed + k``.

    Row ``r`` of ``n`` plays episodes r, r + n, r + 2n, ... one after the other. Rows that no episode is left for are
    over from the start, so that no model is asked for them.
    """
    if env.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
        raise ValueError("roll-outs need autoreset_mode='disabled', so that no reply is asked for and thrown away")
    rows, box = env.num_envs, env.single_action_space
    seen = isinstance(env.single_observation_space, Box)
    number = np.arange(rows)
    playing = number < episodes
    seeds = [int(seed + k) for k in number]
    observations, infos = env.reset(seed=seeds, options=spared(env, playing))  # type: ignore[arg-type]
    tapes = [_Tape() for _ in range(rows)]
    while playing.any():
        actions, before = policy(observations, infos), observations
        observations, given, terminated, truncated, infos = env.step(actions)
        ended = playing & (terminated | truncated)
        for row in np.flatnonzero(playing):
            tape = tapes[row]
            tape.turn(row, given[row], infos)
            if isinstance(box, Box):
                tape.actions.append(np.clip(actions[row], box.low, box.high, dtype=np.float32))
            if seen:
                tape.states += [
                    np.array(o[row], np.float32) for o in ((before, observations) if ended[row] else (before,))
                ]
            if ended[row]:
                yield int(number[row]), tape.episode(int(seed + number[row]), infos["dialogue"][row])
                tapes[row] = _Tape()
        number = np.where(ended, number + rows, number)
        again = ended & (number < episodes)
        playing &= ~ended | again
        if again.any():
            begun = [int(seed + number[row]) if again[row] else None for row in range(rows)]
            observations, infos = env.reset(seed=begun, options={"reset_mask": again})  # type: ignore[arg-type]


def spared(env: VectorEnv[Any, Any, Any], playing: npt.NDArray[np.bool_]) -> dict[str, Any] | None:
    """Return options of ``env.reset`` by which the rows that are not ``playing`` begin with a dialogue that is over.

    Neither partner nor reward nor language model does anything for such a row. None where all play, or where the
    rows are no ``DialogueVectorEnv``.
    """
    below = env.unwrapped
    if playing.all() or not isinstance(below, DialogueVectorEnv):
        return None
    over = replace(begin(below.task, 0), stop_reason="not played")  # begun as any other, so that all can read it
    return {"dialogues": [None if plays else over for plays in playing]}


def evaluate(
    policy: Policy,
    env: str | VectorEnv[Any, Any, Any],
    *,
    episodes: int = 512,
    seed: int = 0,
    rows: int = 32,
    env_kwargs: Mapping[str, Any] | None = None,
    references: Mapping[str, float] | None = None,
    name: str = "policy",
    progress: bool = False,
) -> Evaluation:
    """Play ``episodes`` dialogues and return what they earned.

    Args:
        policy: Acts in all rows at once.
        env: An environment id, or a vector environment with ``autoreset_mode="disabled"``.
        episodes: How many dialogues, at least 1.
        seed: Episode ``k`` is seeded ``seed + k``: the same seeds give the same scenarios to every policy.
        rows: Dialogues in parallel, where ``env`` is an id. Does not change the result.
        env_kwargs: Arguments of the environment, where ``env`` is an id.
        references: Mean returns of ``"lm"`` and ``"oracle"``, for the normalised score.
        name: What to call the policy.
        progress: Show a progress bar.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    venv = make_rows(env, min(rows, episodes), env_kwargs) if isinstance(env, str) else env
    played = play(policy, venv, episodes, seed=seed)
    results = dict(_with_bar(played, episodes, f"evaluate {name}") if progress else played)
    label = env if isinstance(env, str) else getattr(env.spec, "id", type(env.unwrapped).__name__)
    return Evaluation(label, name, tuple(results[k] for k in sorted(results)), dict(references or {}))


def _with_bar(played: Iterator[tuple[int, Episode]], total: int, title: str) -> Iterator[tuple[int, Episode]]:
    from dialog_gym.tracking import progress_bar

    with progress_bar(title, total) as update:
        earned = 0.0
        for done, (k, episode) in enumerate(played, 1):
            earned += episode.total
            update(done, {"eval/return": earned / done})
            yield k, episode


def oracle_policy(env: VectorEnv[Any, Any, Any]) -> Policy:
    """Return the policy that sees the partner's hidden state. Text environments of embedded worlds only."""
    task = env.unwrapped.task  # type: ignore[attr-defined]

    def act(observations: Any, infos: Mapping[str, Any]) -> list[str]:
        return [task.oracle(d) if not d.stop_reason else "" for d in infos["dialogue"]]

    return act


def language_model_policy(env: VectorEnv[Any, Any, Any], lm: Any = "tiny", *, temperature: float = 0.0) -> Policy:
    """Return the policy that lets a language model speak for the agent of a text environment, unsteered.

    Args:
        env: The vector environment it will act in.
        lm: A language model or its spec.
        temperature: 0 speaks greedily.
    """
    from dialog_gym.lm.base import Sampling
    from dialog_gym.lm.speaker import Speaker

    speaker = Speaker(env.unwrapped.task, lm, env.num_envs, sampling=Sampling(temperature=temperature))  # type: ignore[attr-defined]

    def act(observations: Any, infos: Mapping[str, Any]) -> list[str]:
        return speak(speaker, infos["dialogue"])

    return act


def speak(speaker: Any, dialogues: Sequence[Dialogue]) -> list[str]:
    """Return what ``speaker`` says in each dialogue that goes on, and ``""`` for the rest."""
    rows = [row for row, dialogue in enumerate(dialogues) if not dialogue.stop_reason]
    texts = [""] * len(dialogues)
    if rows:
        for row, text in zip(rows, speaker.speak(rows, [dialogues[row] for row in rows]), strict=True):
            texts[row] = text
    return texts


def random_policy(env: VectorEnv[Any, Any, Any], *, seed: int = 0) -> Policy:
    """Return the policy that samples the action space uniformly."""
    env.action_space.seed(seed)
    return lambda observations, infos: env.action_space.sample()


def constant_policy(env: VectorEnv[Any, Any, Any], action: npt.ArrayLike) -> Policy:
    """Return the policy that always takes ``action``, shape ``(action_size,)``."""
    actions = np.tile(np.asarray(action, np.float32), (env.num_envs, 1))
    return lambda observations, infos: actions

"""Steps a vector environment for an agent, and knows all that is needed to go on later exactly here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from dialog_gym.agents.loop import RunArgs, at_least
from dialog_gym.dialogue import Dialogue
from dialog_gym.registration import register_envs
from dialog_gym.rewards.spec import files_of
from dialog_gym.world import World
from dialog_gym.wrappers.lagrangian import MULTIPLIER, Lagrangian, VectorLagrangianWrapper

Floats = npt.NDArray[np.float32]
Budget = float | Literal["task"] | None
"""Mean cost of a dialogue that is allowed, ``"task"`` for what the task allows, None where costs do not matter."""
log = logging.getLogger("dialog_gym")


@dataclass(frozen=True)
class VectorArgs(RunArgs):
    """What every agent that acts by vectors can be told."""

    budget: float | Literal["task"] | None = None
    """Mean cost of a dialogue that is allowed: costs are then paid for in training, at a price that holds them there
    (``dialog_gym.wrappers.lagrangian``). ``task``: what the task allows; None: costs do not matter."""
    reward: str = ""
    """What is earned in training instead of the environment's reward: true, score, none, sentiment, the folder of a
    learned one (``dialog_gym.rewards.spec``), a name or module:name. Evaluations are on the environment's own."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        if isinstance(self.budget, (int, float)):
            at_least(self, 0, "budget")

    @property
    def data_used(self) -> tuple[str, ...]:
        """The files of a learned reward."""
        return files_of(self.reward)


class Transitions(NamedTuple):
    """One step of every row; the arguments of ``ReplayBuffer.add``."""

    observations: Floats  # (n, d)
    actions: Floats  # (n, A)
    rewards: Floats  # (n,)
    next_observations: Floats  # (n, d), the true successor also of the last step
    terminated: npt.NDArray[np.bool_]  # (n,)
    truncated: npt.NDArray[np.bool_]  # (n,)
    said: Floats  # (n, k), what was understood of what was said (``World.attributes``); k = 0 where nobody tells


def make_vector_env(
    env_id: str, rows: int, env_kwargs: Mapping[str, Any], budget: Budget = None
) -> VectorEnv[Any, Any, Any]:
    """Make ``rows`` environments that do not reset themselves, with vectors in and vectors out.

    With a ``budget``, rewards are less what the costs are worth (``VectorLagrangianWrapper``).

    Raises:
        ValueError: Actions are not vectors in [-1, 1], observations not vectors, or the task has no budget.
    """
    register_envs()
    mode: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}
    module, _, name = env_id.rpartition(":")  # gym.make takes "module:id", gym.spec does not
    if module:
        import_module(module)
    spec = gym.spec(name)
    if spec.vector_entry_point is None:
        env = gym.make_vec(spec, rows, vectorization_mode="sync", vector_kwargs=mode, **env_kwargs)
    else:
        env = gym.make_vec(spec, rows, **mode, **env_kwargs)
    try:
        _check_spaces(env_id, env)
        if budget is None:
            return env
        return VectorLagrangianWrapper(env, budget=None if budget == "task" else budget)
    except ValueError:
        env.close()
        raise


def _check_spaces(env_id: str, env: VectorEnv[Any, Any, Any]) -> None:
    action, observation = env.single_action_space, env.single_observation_space
    hint = "the ids with 'Prefix' have both, or wrap the environment in PrefixAction and EmbeddingObservation"
    for what, space in (("actions", action), ("observations", observation)):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"{env_id}: expected {what} that are vectors (a Box of shape (n,)), got {space}; {hint}")
    assert isinstance(action, gym.spaces.Box)
    if not (np.all(action.low == -1) and np.all(action.high == 1)):
        raise ValueError(
            f"{env_id}: expected actions in [-1, 1], got [{action.low.min()}, {action.high.max()}]; "
            "wrap it in gymnasium.wrappers.vector.RescaleAction"
        )
    if env.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
        raise ValueError(f"{env_id} must take autoreset_mode='disabled', it runs {env.metadata.get('autoreset_mode')}")


def world_of(env: Any) -> World | None:
    """Return the task of ``env`` if it tells what is understood of an utterance, else None."""
    task = getattr(env.unwrapped, "task", None)
    return task if isinstance(task, World) and task.attribute_names else None


def checked_rows(observations: Any, size: int) -> Floats:
    """Return a float32 copy of n observations of ``size`` finite numbers.

    Raises:
        ValueError: They are not that.
    """
    rows = np.array(observations, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != size:
        raise ValueError(f"expected observations of shape (n, {size}), one per row, got {rows.shape}")
    good = np.isfinite(rows).all(axis=1)
    if not good.all():
        raise ValueError(f"the observation of row {int(np.argmin(good))} has a NaN or an infinity")
    return rows


class Collector:
    """A vector environment and where it stands; rows that end begin anew before the next step.

    Attributes:
        observations: What each row sees now, (n, d).
        returns: Reward of the unfinished dialogues so far, (n,).
        costs: Their cost so far, (n,); 0 without a budget.
        ended: Return, length and cost of each dialogue that ended since ``pop_metrics``.
    """

    def __init__(
        self, env_id: str, rows: int, env_kwargs: Mapping[str, Any], seed: int, budget: Budget = None
    ) -> None:
        """Make the environment; call ``begin`` or ``restore`` next."""
        self.env_id, self.seed = env_id, seed
        self.env = make_vector_env(env_id, rows, env_kwargs, budget)
        self.below = self.env.env if isinstance(self.env, VectorLagrangianWrapper) else self.env
        self.world = world_of(self.env)
        self.said_size = 0 if self.world is None else len(self.world.attribute_names)
        self.observation_size, self.action_size = (
            int(np.prod(space.shape or 0))
            for space in (self.env.single_observation_space, self.env.single_action_space)
        )
        self.observations: Floats = np.zeros((rows, self.observation_size), dtype=np.float32)
        self.returns, self.costs, self.lengths = np.zeros(rows), np.zeros(rows), np.zeros(rows, dtype=np.int64)
        self.ended: list[tuple[float, int, float]] = []

    def begin(self) -> None:
        """Reset every row from the seed."""
        self.observations = self._checked(self.env.reset(seed=self.seed)[0])

    def step(self, actions: Floats) -> Transitions:
        """Take one step in every row, and reset those that ended."""
        before, spoken_to = self.observations, self._dialogues()
        found, rewards, terminated, truncated, infos = self.env.step(actions)
        after, rewards = self._checked(found), np.asarray(rewards, dtype=np.float32)
        if not np.isfinite(rewards).all():
            row = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise ValueError(f"{self.env_id}: the reward of row {row} is {rewards[row]}; mend the reward function")
        said = self._said(spoken_to)
        step = Transitions(before, actions, rewards, after, np.array(terminated), np.array(truncated), said)
        self.returns += rewards
        if self.lagrangian is not None:  # tell what was earned before costs were paid
            self.returns += infos[MULTIPLIER] * infos["cost"]
            self.costs += infos["cost"]
        self.lengths += 1
        self._reset(step.terminated | step.truncated, after)
        return step

    def pop_metrics(self) -> dict[str, float]:
        """Return mean return and length of the dialogues that ended since the last call, if any did.

        With a budget also their mean cost, which the return is not reduced by, and the price of a cost now.
        """
        ended, self.ended = self.ended, []
        if not ended:
            return {}
        score, length, cost = np.mean(ended, axis=0).tolist()
        told = {"train/return": score, "train/turns": length}
        if self.lagrangian is None:
            return told
        return {**told, "train/cost": cost, "train/multiplier": self.lagrangian.multiplier}

    @property
    def lagrangian(self) -> Lagrangian | None:
        """What sets the price of a cost, None without a budget."""
        return self.env.lagrangian if isinstance(self.env, VectorLagrangianWrapper) else None

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what ``restore`` needs, as arrays and JSON."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "observations": self.observations,
            "returns": self.returns,
            "lengths": self.lengths,
        }
        get_state = getattr(self.below, "get_state", None)
        data = {"env": None if get_state is None else get_state()}
        if self.lagrangian is not None:
            arrays["costs"], data["lagrangian"] = self.costs, self.lagrangian.get_state()
        return arrays, data

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], data: Mapping[str, Any], step: int) -> None:
        """Go on from what ``state`` returned at ``step``.

        An environment without ``get_state`` begins new dialogues, from a seed that step and seed determine.
        """
        if self.lagrangian is not None:
            self.lagrangian.set_state(data["lagrangian"])
        if data["env"] is None:
            log.warning("%s has no get_state: its dialogues begin anew, numbers will differ", self.env_id)
            seed = np.random.SeedSequence([self.seed, step]).generate_state(1)
            self.observations = self._checked(self.env.reset(seed=int(seed[0]))[0])
            return
        self.below.set_state(data["env"])  # type: ignore[attr-defined]  # it had get_state
        # The stored observations, since those computed anew may differ in the last digit.
        self.observations = arrays["observations"].copy()
        self.returns, self.lengths = arrays["returns"].copy(), arrays["lengths"].copy()
        if self.lagrangian is not None:
            self.costs = arrays["costs"].copy()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _dialogues(self) -> list[Dialogue]:
        return [] if self.world is None else list(self.env.unwrapped.dialogues)  # type: ignore[attr-defined]

    def _said(self, before: list[Dialogue]) -> Floats:
        """Return what was understood of the newest agent turn, the dialogue ``before`` it given."""
        said = np.zeros((self.env.num_envs, self.said_size), np.float32)
        if self.world is not None:
            role = self.world.roles[0]
            for row, (was, now) in enumerate(zip(before, self._dialogues(), strict=True)):
                said[row] = self.world.attributes(was, role, now.texts(role)[-1])
        return said

    def _reset(self, over: npt.NDArray[np.bool_], after: Floats) -> None:
        self.observations = after
        if not over.any():
            return
        columns = (self.returns, self.lengths, self.costs)
        self.ended += zip(*(column[over].tolist() for column in columns), strict=True)
        self.returns[over], self.lengths[over], self.costs[over] = 0.0, 0, 0.0
        fresh = self._checked(self.env.reset(options={"reset_mask": over})[0])
        self.observations = np.where(over[:, None], fresh, after)

    def _checked(self, observations: Any) -> Floats:
        try:
            return checked_rows(observations, self.observation_size)
        except ValueError as error:
            raise ValueError(f"{self.env_id}: {error}; mend the environment") from error

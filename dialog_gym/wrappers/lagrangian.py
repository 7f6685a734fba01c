"""A constraint on the cost of an episode, kept by a multiplier that adapts: reward' = reward - lambda * cost.

The multiplier is set by a PID controller (Stooke, Achiam, Abbeel 2020, "Responsive Safety in Reinforcement Learning
by PID Lagrangian Methods", arXiv:2007.03964, algorithm 2). The usual Lagrangian method is its integral part alone: it
reacts late and swings about the budget; the proportional and the derivative part damp that.

Deviations from the paper: 1. the controller is told the mean cost of every ``every`` finished episodes, not of an
iteration of PPO, and penalises the reward, so that it works under any agent. 2. The derivative is that of the smoothed
cost, one update apart (theirs: ten); only its rise counts, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

Info = dict[str, Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MULTIPLIER = "lagrange_multiplier"
"""Key in ``info``: the multiplier that the reward was made with."""


@dataclass(frozen=True)
class PID:
    """How the multiplier answers to the excess, mean cost less budget, once per update.

    The gains are rewards per cost; the defaults suit rewards and costs of about 1 an episode. Without a proportional
    part the multiplier swings; fifty times the integral part damped it for slow and fast learners alike (the
    derivative part made no difference there: one turn, 10 or 32 episodes per update).

    Attributes:
        proportional: Gain of the (smoothed) excess itself.
        integral: Gain of the sum of all excesses so far, which is kept at least 0.
        derivative: Gain of the rise of the (smoothed) cost since the last update; a fall counts 0.
        smoothing: Weight of the past in the two smoothed values, in [0, 1); 0 takes every cost as it comes.
        initial: Multiplier to begin with.
        highest: Largest multiplier.
    """

    proportional: float = 1.0
    integral: float = 0.02
    derivative: float = 1.0
    smoothing: float = 0.9
    initial: float = 0.0
    highest: float = 100.0

    def __post_init__(self) -> None:
        """Refuse what would not control."""
        for name in ("proportional", "integral", "derivative", "initial"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if not self.proportional + self.integral + self.derivative > 0.0:
            raise ValueError("a controller needs a gain above 0: PID(proportional=..., integral=..., derivative=...)")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError(f"smoothing must be at least 0 and below 1, got {self.smoothing}")
        if not self.initial <= self.highest:
            raise ValueError(f"highest must be at least the initial multiplier {self.initial}, got {self.highest}")


class Lagrangian:
    """The multiplier, and what it is computed from; counts the cost of the episodes of ``rows`` rows.

    Attributes:
        budget: Mean cost of an episode that is allowed.
        pid: Gains.
        every: Finished episodes per update.
        multiplier: lambda, never negative.
        updates: Updates so far.
    """

    def __init__(self, budget: float, pid: PID, every: int, rows: int) -> None:
        """Begin with the initial multiplier."""
        if not 0.0 <= budget < float("inf"):
            raise ValueError(f"the budget, a mean cost per episode, must be at least 0 and finite, got {budget}")
        if every < 1:
            raise ValueError(f"every must be at least 1 episode, got {every}")
        self.budget, self.pid, self.every = float(budget), pid, every
        self.multiplier = self._integral = pid.initial
        self.updates = 0
        self._smooth: float | None = None  # of the cost; None before the first update
        self._running = np.zeros(rows)
        self._over = np.zeros(rows, np.bool_)  # rows whose episode was counted and that have not begun anew
        self._finished: list[float] = []

    def begin(self, rows: Any = slice(None), over: Any = False) -> None:
        """Forget the running cost of ``rows``, which begin a new episode; one that is ``over`` is not counted."""
        self._running[rows] = 0.0
        self._over[rows] = over

    def step(self, costs: Floats, done: Bools, *, reset: bool) -> None:
        """Count one step of all rows, and adapt the multiplier where episodes are finished.

        Args:
            costs: Of this step, shape ``(rows,)``.
            done: Where the dialogue is over, now or before.
            reset: Whether rows that are done have begun a new episode already (autoreset in the same step).
        """
        self._running += costs  # 0 in rows that are over
        for row in np.flatnonzero(done & ~self._over):
            self._finished.append(float(self._running[row]))
            self._running[row] = 0.0
        self._over = np.zeros_like(done) if reset else done.copy()
        while len(self._finished) >= self.every:
            self.update(float(np.mean(self._finished[: self.every])))
            del self._finished[: self.every]

    def update(self, cost: float) -> float:
        """Return the multiplier after episodes of mean cost ``cost``."""
        pid, before = self.pid, self._smooth
        self._smooth = cost if before is None else pid.smoothing * before + (1.0 - pid.smoothing) * cost
        rise = 0.0 if before is None else max(0.0, self._smooth - before)
        # The bound holds for the sum too: what could not act must not wait (wind-up).
        self._integral = min(max(0.0, self._integral + pid.integral * (cost - self.budget)), pid.highest)
        raw = pid.proportional * (self._smooth - self.budget) + self._integral + pid.derivative * rise
        self.multiplier = min(max(0.0, raw), pid.highest)
        self.updates += 1
        return self.multiplier

    def get_state(self) -> Info:
        """Return all that determines how it goes on, as JSON values."""
        return {
            "multiplier": self.multiplier,
            "integral": self._integral,
            "smooth": self._smooth,
            "updates": self.updates,
            "running": self._running.tolist(),
            "over": self._over.tolist(),
            "finished": list(self._finished),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``get_state`` returned.

        Raises:
            ValueError: The state is that of another number of rows.
        """
        if len(state["running"]) != len(self._running):
            raise ValueError(f"expected the state of {len(self._running)} rows, got {len(state['running'])}")
        self.multiplier, self._integral = float(state["multiplier"]), float(state["integral"])
        self._smooth, self.updates = state["smooth"], int(state["updates"])
        self._running, self._over = np.array(state["running"]), np.array(state["over"], np.bool_)
        self._finished = [float(cost) for cost in state["finished"]]


class LagrangianWrapper(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Earn ``reward - lambda * cost``, with a lambda that holds the mean cost of an episode at the budget.

    ``env.spec`` has its arguments.

    ``info["lagrange_multiplier"]`` is the lambda of this very reward. For training alone: evaluate without it.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        budget: float | None = None,
        pid: PID | None = None,
        every: int = 10,
        rescale: bool = False,
    ) -> None:
        """Penalise the cost of ``env``.

        Args:
            env: An environment whose ``info`` has a ``cost``.
            budget: Mean cost of an episode that is allowed; None takes that of the task.
            pid: Gains of the controller; their scale is that of reward over cost.
            every: Finished episodes per update.
            rescale: Divide by 1 + lambda, so that the size of the reward stays what it was (section 4.2 there).

        Raises:
            ValueError: There is no budget, or a setting is out of range.
        """
        RecordConstructorArgs.__init__(self, budget=budget, pid=pid, every=every, rescale=rescale)
        gym.Wrapper.__init__(self, env)
        self.lagrangian = Lagrangian(_budget(env, budget), pid or PID(), every, 1)
        self.rescale = rescale

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin a new dialogue; a cost that was running is forgotten."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.lagrangian.begin()
        return observation, {**info, MULTIPLIER: self.lagrangian.multiplier}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Info]:
        """Step, and pay for the cost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        cost, multiplier = _cost(info), self.lagrangian.multiplier
        paid = _paid(float(reward), float(cost), multiplier, self.rescale)
        self.lagrangian.step(np.array([cost]), np.array([terminated or truncated]), reset=False)
        return observation, paid, terminated, truncated, {**info, MULTIPLIER: multiplier}

    def get_state(self) -> Info:
        """Return the state of the environment and of the multiplier, as JSON values."""
        return {"env": self.env.get_wrapper_attr("get_state")(), "lagrangian": self.lagrangian.get_state()}

    def set_state(self, state: Info) -> tuple[Any, Info]:
        """Continue from what ``get_state`` returned."""
        observation, info = self.env.get_wrapper_attr("set_state")(state["env"])
        self.lagrangian.set_state(state["lagrangian"])
        return observation, {**info, MULTIPLIER: self.lagrangian.multiplier}


class VectorLagrangianWrapper(VectorWrapper[Any, Any, Any, Any, Any]):
    """``LagrangianWrapper`` for vector environments: one multiplier for all rows, in every autoreset mode."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        budget: float | None = None,
        pid: PID | None = None,
        every: int = 10,
        rescale: bool = False,
    ) -> None:
        """Penalise the cost of ``env``; arguments and errors as in ``LagrangianWrapper``."""
        super().__init__(env)
        self.lagrangian = Lagrangian(_budget(env, budget), pid or PID(), every, env.num_envs)
        self.rescale = rescale

    def reset(self, *, seed: Any = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin dialogues anew; the costs that were running in them are forgotten."""
        observations, infos = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        rows = slice(None) if mask is None else np.asarray(mask)
        over = np.array([bool(reason) for reason in infos.get("stop_reason", [""] * self.num_envs)])
        self.lagrangian.begin(rows, over[rows])
        return observations, self._told(infos, self.lagrangian.multiplier)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Step all rows, and pay for the costs; the multiplier adapts afterwards."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        costs = np.asarray(_cost(infos), np.float64)
        if "final_info" in infos:  # autoreset in the same step: the cost of what is over stands there
            costs = np.where(infos["_final_info"], _cost(infos["final_info"]), costs)
        multiplier = self.lagrangian.multiplier
        paid = _paid(np.asarray(rewards, np.float64), costs, multiplier, self.rescale)
        same_step = self.env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        self.lagrangian.step(costs, np.asarray(terminated | truncated), reset=same_step)
        return observations, paid, terminated, truncated, self._told(infos, multiplier)

    def get_state(self) -> Info:
        """Return the state of the rows and of the multiplier, as JSON values."""
        return {"env": self.env.get_state(), "lagrangian": self.lagrangian.get_state()}  # type: ignore[attr-defined]

    def set_state(self, state: Info) -> tuple[Any, Info]:
        """Continue from what ``get_state`` returned."""
        observations, infos = self.env.set_state(state["env"])  # type: ignore[attr-defined]
        self.lagrangian.set_state(state["lagrangian"])
        return observations, self._told(infos, self.lagrangian.multiplier)

    def _told(self, infos: Info, multiplier: float) -> Info:
        everyone = np.ones(self.num_envs, np.bool_)
        return {**infos, MULTIPLIER: np.full(self.num_envs, multiplier), f"_{MULTIPLIER}": everyone}


def _paid(reward: Any, cost: Any, multiplier: float, rescale: bool) -> Any:
    paid = reward - multiplier * cost
    return paid / (1.0 + multiplier) if rescale else paid


def _cost(info: Mapping[str, Any]) -> Any:
    if "cost" not in info:
        raise ValueError("a Lagrangian needs info['cost'] at every step; this environment does not report it")
    return info["cost"]


def _budget(env: Any, budget: float | None) -> float:
    found = getattr(getattr(env.unwrapped, "task", None), "budget", None) if budget is None else budget
    if found is None:
        raise ValueError("the task has no budget; say what an episode may cost on average: budget=...")
    return float(found)

"""The table of the embedded worlds: who earns what, how fast they step, and whether their true values are true.

For every world, on held-out seeds (and items, where the world keeps some apart): scripted policies, the unsteered
language model, random text; utterances a second as text and as prefix; Gymnasium's ``check_env``; and how well the
world's own value of an utterance agrees with playing it out (``value_agreement``). Settings of the worlds were chosen
on lower seeds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils.env_checker import check_env
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dialog_gym import baselines, registration, rollout
from dialog_gym.baselines import HELD_OUT, Trial
from dialog_gym.benchmarks import command
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.world import World

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        worlds: Names of environments without version, for instance ``Bargain``; all by default.
        episodes: Held-out dialogues per policy.
        lm: Who speaks as the unsteered language model; "" leaves it out, and the prefix environments too.
        states: Forked states of the test of values, 0 to leave it out.
        candidates: Utterances tried in each.
        plays: Play-outs of each utterance.
        seconds: CPU time per speed.
        json: Print JSON.
    """

    worlds: tuple[str, ...] = tuple(registration.TASKS)
    episodes: int = 512
    lm: str = "tiny"
    states: int = 200
    candidates: int = 4
    plays: int = 64
    seconds: float = 3.0
    json: bool = False


@dataclass(frozen=True)
class Agreement:
    """The world's value of an utterance against the mean return of playing it out.

    Attributes:
        pairs: Number of utterances.
        correlation: Over all of them.
        centred: The same, each less the mean of its state: of the advantages.
        noise: Mean standard error of a Monte-Carlo estimate.
    """

    pairs: int
    correlation: float
    centred: float
    noise: float


def value_agreement(
    task: World, *, states: int = 200, candidates: int = 4, plays: int = 64, seed: int = 0
) -> Agreement:
    """Fork states, try several utterances in each, and play them out by the oracle.

    States are those of dialogues in which every turn is said by one of ``task.policies()``, drawn by chance. The
    world's value of an utterance is the mean, over the partner's answers in the first step of the play-outs, of the
    reward and ``task.value`` of what follows; the estimate is the mean return of the same play-outs.

    Args:
        task: An embedded world.
        states: How many, at most one per dialogue.
        candidates: Different utterances per state, at least; those of the policies are always among them.
        plays: Play-outs per utterance.
        seed: Of the dialogues.
    """
    known, played, noise, owner = [], [], [], []
    for number in range(states):
        state = _some_state(task, seed + number)
        for text in _candidates(task, state, candidates):
            value, returns = _play_out(task, state, text, plays, seed + number)
            known.append(value)
            played.append(returns.mean())
            noise.append(returns.std() / plays**0.5)
            owner.append(number)
    pair = np.array([known, played])
    centred = pair.copy()
    for number in set(owner):
        rows = np.array(owner) == number
        centred[:, rows] -= pair[:, rows].mean(1, keepdims=True)
    return Agreement(len(owner), _correlation(pair), _correlation(centred), float(np.mean(noise)))


def _correlation(pair: Floats) -> float:
    return float(np.corrcoef(pair)[0, 1]) if (pair.std(1) > 0).all() else 0.0


def _some_state(task: World, seed: int) -> Dialogue:
    """Return a state that goes on, after a number of turns said by policies in turn, as chance will have it."""
    policies = list(task.policies().values())
    draws = Draws(seed, "states")
    state = begin(task, seed)
    for _ in range(draws.integer(0, task.max_turns)):
        (after,), *_ = advance(task, [state], [draws.choice(policies)(state)])
        if after.stop_reason:
            break
        state = after
    return state


def _candidates(task: World, state: Dialogue, count: int) -> list[str]:
    """Return different utterances: of every policy, then of the one called "random" with other chance."""
    policies = task.policies()
    texts = dict.fromkeys(policy(state) for policy in policies.values())
    for k in range(8 * count):
        if len(texts) >= max(count, len(policies)):
            break
        texts[policies["random"](replace(state, seed=state.seed + 7919 * (k + 1)))] = None
    return list(texts)


def _play_out(task: World, state: Dialogue, text: str, plays: int, seed: int) -> tuple[float, Floats]:
    """Return the world's value of saying ``text``, and the returns of play-outs with fresh chance."""
    copies = [replace(state, seed=Draws(seed, "play-out", k).bits() >> 11) for k in range(plays)]
    after, rewards, *_ = advance(task, copies, [text] * plays)
    returns = np.array(rewards)
    value = float(np.mean([reward + task.value(d) for d, reward in zip(after, rewards, strict=True)]))
    going = [k for k, d in enumerate(after) if not d.stop_reason]
    dialogues = {k: after[k] for k in going}
    while going:
        said, rewards, *_ = advance(task, [dialogues[k] for k in going], [task.oracle(dialogues[k]) for k in going])
        for k, dialogue, reward in zip(going, said, rewards, strict=True):
            dialogues[k], returns[k] = dialogue, returns[k] + reward
        going = [k for k in going if not dialogues[k].stop_reason]
    return value, returns


class Earned(NamedTuple):
    """What one policy reached in one world."""

    policy: str
    mean: float
    low: float
    high: float
    normalised: float | None
    cost: float
    success_rate: float
    turns: float


def earnings(name: str, settings: Settings) -> list[Earned]:
    """Return what the policies earn in the world ``name``, the scripted ones of the world first."""
    env = f"dialog_gym/{name}-v0"
    trial = Trial(env, _held_out(env), settings.episodes, seed=HELD_OUT, lm=settings.lm)
    task = baselines.text_rows(trial.venv).task
    scripted = task.policies() if isinstance(task, World) else {}
    results = {p: trial.score(_scripted(policy), p) for p, policy in scripted.items()}
    for policy in ("lm", "lm-sampled") if settings.lm else ():
        results[policy] = baselines.evaluate(policy, trial)
    scale = {policy: result.mean for policy, result in results.items()}
    rows = []
    for policy, result in results.items():
        cost = float(np.mean([sum(episode.costs) for episode in result.episodes]))
        normalised = rollout.normalise(result.mean, scale)
        low, high = result.interval
        rows.append(Earned(policy, result.mean, low, high, normalised, cost, result.success_rate, result.turns))
    return rows


def _scripted(policy: Any) -> rollout.Policy:
    return lambda _, infos: ["" if d.stop_reason else policy(d) for d in infos["dialogue"]]


def _held_out(env: str) -> dict[str, Any]:
    try:
        gym.make_vec(env, num_envs=1, split="heldout").close()
    except TypeError:
        return {}
    return {"split": "heldout"}


def text_speed(name: str, seconds: float, rows: int = 64) -> float:
    """Return utterances per CPU second of the text environment, one stock utterance in every row."""
    env = gym.make_vec(f"dialog_gym/{name}-v0", num_envs=rows)
    env.reset(seed=0)
    task = env.unwrapped.task  # type: ignore[attr-defined]
    texts = [task.policies()["random"](begin(task, row)) for row in range(rows)]
    return _rate(lambda: env.step(texts), rows, seconds)


def prefix_speed(name: str, seconds: float, rows: int = 32) -> float:
    """Return utterances per CPU second of the prefix environment under random actions."""
    env = gym.make_vec(f"dialog_gym/{name}Prefix-v0", num_envs=rows)
    env.reset(seed=0)
    env.action_space.seed(0)
    return _rate(lambda: env.step(env.action_space.sample()), rows, seconds)


def _rate(step: Any, rows: int, seconds: float) -> float:
    step()
    count, begun = 0, time.process_time()
    while time.process_time() - begun < seconds:
        step()
        count += rows
    return count / (time.process_time() - begun)


def checked(env: str) -> str:
    """Return ``"ok"``, or what Gymnasium's ``check_env`` finds wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_env(gym.make(env).unwrapped, skip_render_check=True)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "ok"


def measure(settings: Settings) -> dict[str, Any]:
    """Measure all worlds; return it as JSON values."""
    worlds = {}
    for name in track(settings.worlds, "worlds", transient=True):
        task = baselines.text_rows(rollout.make_rows(f"dialog_gym/{name}-v0", 1)).task
        worlds[name] = {
            "earned": [row._asdict() for row in earnings(name, settings)],
            "text_steps_per_second": text_speed(name, settings.seconds),
            "check_env": checked(f"dialog_gym/{name}-v0"),
        }
        if settings.lm:
            worlds[name] |= {
                "prefix_steps_per_second": prefix_speed(name, settings.seconds),
                "check_env_prefix": checked(f"dialog_gym/{name}Prefix-v0"),
            }
        if settings.states and isinstance(task, World):
            agreement = value_agreement(
                task,
                states=settings.states,
                candidates=settings.candidates,
                plays=settings.plays,
                seed=HELD_OUT,
            )
            worlds[name]["values"] = asdict(agreement)
    return worlds


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the tables."""
    earned = Table("world", "policy", "return", "normalised", "cost", "success", "turns", box=None)
    facts = Table("world", "text steps/s", "prefix steps/s", "check_env", "value r", "centred", "pairs", box=None)
    for name, world in report.items():
        for row in world["earned"]:
            score = "" if row["normalised"] is None else f"{row['normalised']:.2f}"
            mean = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            rest = (f"{row['cost']:.3f}", f"{row['success_rate']:.0%}", f"{row['turns']:.1f}")
            earned.add_row(name, row["policy"], mean, score, *rest)
        values = world.get("values", {})
        facts.add_row(
            name,
            f"{world['text_steps_per_second']:,.0f}",
            f"{world['prefix_steps_per_second']:,.0f}" if "prefix_steps_per_second" in world else "",
            ", ".join(world[check] for check in ("check_env", "check_env_prefix") if check in world),
            *(f"{values[name]:.3f}" if values else "" for name in ("correlation", "centred")),
            f"{values['pairs']}" if values else "",
        )
    console.print(earned)
    console.print(facts)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("worlds", Settings, measure, show, argv)


if __name__ == "__main__":
    main()

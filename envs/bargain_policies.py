"""Scripted agents for ``Bargain-v0``: the oracle, what it is compared with, and self-play.

A policy is a function of the task, the dialogue and a stream of chance; apart from the oracle's kind
they use only what the agent can see: its own limit and the transcript.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs import bargain_phrases as phrases
from dialog_gym.envs.bargain import QUALITY, RIGHT_STYLE, SWITCH, TYPES, WRONG_CUE, Bargain
from dialog_gym.envs.bargain_language import REASONS, STEP, STYLES, Act, on_grid, say, understand
from dialog_gym.envs.bargain_oracle import demand, standing

Policy = Callable[[Bargain, Dialogue, Draws], Act]

SKILL = 0.35  # largest share of turns that self-play says rightly; the rest is the speaker's free choice


def _sign(task: Bargain) -> int:
    return 1 if task.roles[0] == "buyer" else -1


def _offer(task: Bargain, dialogue: Dialogue, demand: float, style: str, reason: str) -> Act:
    """Return the act that asks for ``demand`` percent of the list price below (above) the agent's limit."""
    steps = int(demand // STEP) * STEP
    return Act(on_grid(dialogue.scenario.hidden["agent_limit"] - _sign(task) * steps), False, style, reason)


def _heard(task: Bargain, dialogue: Dialogue) -> list[Act]:
    return task.parsed(dialogue)


def _fresh(used: Sequence[str]) -> str:
    """Return a reason not used yet; the first again when all are."""
    return next((reason for reason in REASONS if reason not in used), REASONS[0])


def _manner(kind: str, used: Sequence[str]) -> tuple[str, str]:
    """Return the style and reason that move a partner of type ``kind``."""
    return RIGHT_STYLE[kind], _fresh(used) if kind == "analyst" else ""


# --- the oracle --------------------------------------------------------------------------------


def oracle_act(task: Bargain, dialogue: Dialogue, _: Draws | None = None) -> Act:
    """Return what a planner that knows the partner's state and limit, but not its luck, does."""
    style, reason = _manner(dialogue.state["type"], dialogue.state["heard"])
    asks = demand(standing(task, dialogue))
    if asks is None:
        return Act(accept=True, style=style, reason=reason)
    return _offer(task, dialogue, asks, style, reason)


def oracle(task: Bargain, dialogue: Dialogue) -> str:
    """Return the oracle's utterance."""
    return speak(task, dialogue, oracle_act(task, dialogue), dialogue.draws("oracle"))


def speak(task: Bargain, dialogue: Dialogue, act: Act, draws: Draws) -> str:
    """Put an act of the agent into words."""
    return say(task.roles[0], act, dialogue.scenario.hidden["list_price"], draws.bits(), not dialogue.turn)


# --- what an agent can see ---------------------------------------------------------------------

_CUE_TYPES = {cue: kind for kind, cues in phrases.CUES.items() for cue in cues}


def belief(task: Bargain, dialogue: Dialogue) -> dict[str, float]:
    """Return how probable each type is: from the phrases the partner used, and from what moved its price."""
    list_price = dialogue.scenario.hidden["list_price"]
    chances = _told(dict.fromkeys(TYPES, 1 / 3), dialogue.scenario.public)
    asked, said, used = 100 if task.roles[0] == "buyer" else 0, Act(), list[str]()
    for role, text in dialogue.turns:
        act = understand(text, list_price)
        if role == dialogue.roles[0]:
            said = act
            continue
        if said != Act() and act.price is not None:
            chances = _moved(chances, said, used, _sign(task) * (asked - act.price) > 0)
            used.append(said.reason)
            chances = {t: (1 - SWITCH) * p + SWITCH / 2 * (1 - p) for t, p in chances.items()}
        asked = asked if act.price is None else act.price
        chances = _told(chances, text)
    return chances


def _told(chances: dict[str, float], text: str) -> dict[str, float]:
    """Return ``chances`` after the phrases in ``text``."""
    for cue, kind in _CUE_TYPES.items():
        if cue in text:
            chances = {t: p * (1 - WRONG_CUE if t == kind else WRONG_CUE / 2) for t, p in chances.items()}
    return _normalised(chances)


def _moved(chances: dict[str, float], said: Act, used: Sequence[str], moved: bool) -> dict[str, float]:
    """Return ``chances`` after ``said`` moved the partner's price, or did not."""
    if said.price is None:
        return chances
    fits = {t: min(max(_quality(t, (said.style, said.reason), used), 0.1), 0.9) for t in chances}
    return _normalised({t: p * (fits[t] if moved else 1 - fits[t]) for t, p in chances.items()})


def _normalised(chances: dict[str, float]) -> dict[str, float]:
    total = sum(chances.values())
    return {t: p / total for t, p in chances.items()}


def _asked(task: Bargain, dialogue: Dialogue) -> float:
    """Return what the partner's standing price leaves the agent, as the transcript tells."""
    hidden = dialogue.scenario.hidden
    texts = dialogue.texts(dialogue.roles[1])
    prices = [act.price for act in (understand(t, hidden["list_price"]) for t in texts) if act.price is not None]
    return float(_sign(task) * (hidden["agent_limit"] - (prices[-1] if prices else 100)))


def facts(task: Bargain, dialogue: Dialogue) -> npt.NDArray[np.float32]:
    """Return what the transcript tells, as numbers.

    How probable each type is; the agent's limit, and what the standing price and its own last price leave it (as
    shares of the list price); whether it named a price; the turn; which reasons it gave.
    """
    acts = _heard(task, dialogue)
    prices = [act.price for act in acts if act.price is not None]
    limit = dialogue.scenario.hidden["agent_limit"]
    offered = _sign(task) * (limit - prices[-1]) if prices else 0
    given = {act.reason for act in acts}
    return np.array(
        [
            *belief(task, dialogue).values(),
            limit / 100,
            _asked(task, dialogue) / 100,
            offered / 100,
            bool(prices),
            dialogue.turn / task.max_turns,
            *(reason in given for reason in REASONS),
        ],
        dtype=np.float32,
    )


class Schedule(NamedTuple):
    """Prices by turn: demand ``start`` percent of the list price, ``step`` less each turn; accept what is near.

    Attributes:
        start: First demand, percent of the list price below (above) the agent's limit.
        step: Concession a turn.
        after_insult: Further concession after the partner was insulted.
        accept: Accept a standing price within this much of one's next demand.
    """

    start: float = 34
    step: float = 3
    after_insult: float = 8
    accept: float = 2

    def act(self, task: Bargain, dialogue: Dialogue, style: str, reason: str) -> Act:
        """Return the offer (or agreement) of this turn."""
        insults = sum(_insulted(text) for text in dialogue.texts(dialogue.roles[1]))
        demand = max(self.start - self.step * dialogue.turn - self.after_insult * insults, 2)
        if dialogue.turn and _asked(task, dialogue) >= demand - self.accept:
            return Act(accept=True, style=style, reason=reason)
        return _offer(task, dialogue, demand, style, reason)


_INSULTS = tuple(sorted({*phrases.REACTIONS["seller"]["insult"], *phrases.REACTIONS["buyer"]["insult"]}))


def _insulted(text: str) -> bool:
    return any(phrase in text for phrase in _INSULTS)


# The best of a grid over start (18 .. 34), step (1, 3, 5) and after_insult (4, 8), each on 300 seeds of its own, from
# 10**6 on: for the policy that infers the type and for one style without reasons; with both; for reasons alone.
TUNED, TUNED_BOTH, TUNED_REASON = Schedule(34, 3, 8), Schedule(30, 3, 8), Schedule(22, 3, 4)


def inferring(schedule: Schedule = TUNED) -> Policy:
    """Return the policy that reads the type from the wording and follows ``schedule``; it sees nothing hidden."""

    def act(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
        used = [act.reason for act in task.parsed(dialogue)]
        chances = belief(task, dialogue)
        best = max(_manners(used), key=lambda m: sum(p * _quality(kind, m, used) for kind, p in chances.items()))
        return schedule.act(task, dialogue, *best)

    return act


def _manners(used: Sequence[str]) -> list[tuple[str, str]]:
    return [(style, reason) for style in STYLES for reason in ("", _fresh(used))]


def _quality(kind: str, manner: tuple[str, str], used: Sequence[str]) -> float:
    style, reason = manner
    return QUALITY[kind][style][0 if not reason else 2 if reason in used else 1]


def constant(style: str, reason: bool, schedule: Schedule = TUNED) -> Policy:
    """Return the policy of one style, with a new reason each turn or none, and prices by ``schedule``."""

    def act(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
        used = [act.reason for act in task.parsed(dialogue)]
        return schedule.act(task, dialogue, style, _fresh(used) if reason else "")

    return act


def random_act(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
    """Return any style, any reason or none, and a price anywhere in the agent's range."""
    return _offer(task, dialogue, draws.uniform(2, 40), draws.choice(STYLES), draws.choice(("", "", *REASONS)))


def random_style(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the oracle's price in any style, with any reason or none."""
    act = oracle_act(task, dialogue)
    return act._replace(style=draws.choice(STYLES), reason=draws.choice(("", "", *REASONS)))


def random_price(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the oracle's style and reason at a price anywhere in the agent's range."""
    act = oracle_act(task, dialogue)
    return _offer(task, dialogue, draws.uniform(2, 40), act.style, act.reason)


def wrong_style(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the oracle's price in a style that offends the partner's type."""
    style = {"warm": "firm", "tough": "polite", "analyst": "firm"}[dialogue.state["type"]]
    return oracle_act(task, dialogue)._replace(style=style, reason="")


def accept_first(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
    """Agree to whatever price stands."""
    return Act(accept=True)


def stall(turns: int, right: bool) -> Policy:
    """Return the policy that names no price for ``turns`` turns and then accepts, in the right style or blandly."""

    def act(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
        manner = _manner(dialogue.state["type"], dialogue.state["heard"]) if right else ("neutral", "")
        return Act(None, dialogue.turn >= turns, *manner)

    return act


def stall_high(turns: int, right: bool) -> Policy:
    """Return the policy that repeats one high price for ``turns`` turns and then accepts the standing one."""

    def act(task: Bargain, dialogue: Dialogue, draws: Draws) -> Act:
        manner = _manner(dialogue.state["type"], dialogue.state["heard"]) if right else ("polite", "")
        if dialogue.turn >= turns:
            return Act(None, True, *manner)
        return _offer(task, dialogue, 20, *manner)

    return act


# --- playing -----------------------------------------------------------------------------------


def play(task: Bargain, policy: Policy, seed: int) -> tuple[Dialogue, float]:
    """Return the finished dialogue of ``policy`` under ``seed``, and its return."""
    dialogue, earned = begin(task, seed), 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), *_ = advance(task, [dialogue], [_spoken(task, policy, dialogue)])
        earned += reward
    return dialogue, earned


def mean_return(task: Bargain, policy: Policy, seeds: Sequence[int]) -> tuple[float, float]:
    """Return the mean return over ``seeds`` and its standard error."""
    returns = [play(task, policy, seed)[1] for seed in seeds]
    return statistics.fmean(returns), statistics.stdev(returns) / math.sqrt(len(returns))


def self_play(task: Bargain, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an agent whose skill is drawn, from none to ``SKILL``."""
    dialogue = begin(task, draws.bits() >> 11)
    skill, start, accepting = SKILL * draws.uniform(), draws.uniform(0.4, 1.5), draws.uniform()
    while not dialogue.stop_reason:
        act = _mixed(task, dialogue, draws, skill, start, accepting)
        (dialogue,), *_ = advance(task, [dialogue], [speak(task, dialogue, act, draws)])
    return dialogue


def _mixed(task: Bargain, dialogue: Dialogue, draws: Draws, skill: float, start: float, accepting: float) -> Act:
    """Return an act of the agent of ``self_play``: any price and manner, some of them sensible."""
    hidden = dialogue.scenario.hidden
    style, reason = draws.choice(STYLES), draws.choice(("", *REASONS)) if draws.uniform() < 0.6 else ""
    if draws.uniform() < skill:
        style, reason = _manner(dialogue.state["type"], dialogue.state["heard"])
        if reason and draws.uniform() < 0.7:
            reason = draws.choice([r for r in REASONS if r not in dialogue.state["heard"]] or REASONS)
    chance = draws.uniform()
    if chance < 0.05:
        return Act(None, False, style, reason, chance < 0.005)
    zone = abs(hidden["agent_limit"] - hidden["partner_limit"])
    asked = _sign(task) * (hidden["agent_limit"] - dialogue.state["ask"])
    if asked >= zone * (0.1 + 0.7 * accepting) and dialogue.turn and chance < 0.6:
        return Act(None, True, style, reason)
    demand = zone * start - 3 * dialogue.turn * draws.uniform(0.3, 2)
    if draws.uniform() < 0.25:
        demand = draws.uniform(0, 44)
    return _offer(task, dialogue, max(demand, 0), style, reason)


TABLE: dict[str, tuple[str, Policy]] = {
    "oracle": ("knows type and limit", oracle_act),
    "infers": ("infers the type, tuned prices", inferring()),
    "random-price": ("right style and reason, random price", random_price),
    "constant": ("polite and reason, tuned prices", constant("polite", True, TUNED_BOTH)),
    "constant-polite": ("polite, tuned prices", constant("polite", False)),
    "constant-firm": ("firm, tuned prices", constant("firm", False)),
    "constant-firm-reason": ("firm and reason, tuned prices", constant("firm", True, TUNED_BOTH)),
    "constant-reason": ("reason, tuned prices", constant("neutral", True, TUNED_REASON)),
    "random-style": ("random style and reason, oracle price", random_style),
    "random": ("random style, reason and price", random_act),
    "knowing-stall": ("knows the type, no price 3 turns, then accept", stall(3, True)),
    "bland-stall": ("bland, no price 3 turns, then accept", stall(3, False)),
    "knowing-repeat": ("knows the type, one price 3 turns, then accept", stall_high(3, True)),
    "polite-repeat": ("polite, one price 3 turns, then accept", stall_high(3, False)),
    "wrong-style": ("wrong style, oracle price", wrong_style),
    "accept-first": ("accept the first price", accept_first),
}
"""What a policy does, and the policy, by name. ``constant`` is the best of those that never change their manner."""


def by_name(task: Bargain) -> dict[str, Callable[[Dialogue], str]]:
    """Return every scripted policy as a function of the dialogue alone; the oracle says what ``oracle`` says."""
    spoken = {name: partial(_spoken, task, policy) for name, (_, policy) in TABLE.items()}
    return {**spoken, "oracle": partial(oracle, task)}


def _spoken(task: Bargain, policy: Policy, dialogue: Dialogue) -> str:
    draws = dialogue.draws("agent")
    return speak(task, dialogue, policy(task, dialogue, draws), draws)


def table(task: Bargain, episodes: int, first_seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return mean return and standard error of every scripted policy on the same seeds."""
    seeds = range(first_seed, first_seed + episodes)
    return {name: mean_return(task, policy, seeds) for name, (_, policy) in TABLE.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of scripted policies."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.bargain", description=main.__doc__)
    parser.add_argument("--side", default="buyer", choices=("buyer", "seller"))
    parser.add_argument("--scenarios", help="a file of listings in CraigslistBargain's format")
    parser.add_argument("--split", default="all", choices=("all", "train", "heldout"))
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="first seed; the episodes have consecutive ones")
    options = parser.parse_args(arguments)
    task = Bargain(options.side, options.scenarios, options.split)
    print(f"Bargain-v0, {options.side}, {options.episodes} episodes, seeds from {options.seed}")  # noqa: T201
    for name, (mean, error) in table(task, options.episodes, options.seed).items():
        print(f"{name:<21} {TABLE[name][0]:<47} {mean:6.3f} ± {error:.3f}")  # noqa: T201

"""Scripted agents for the divisions: the oracle, what it is compared with, self-play, facts and the table.

A policy decides what to do while nothing is agreed: a share to propose, ``None`` to ask what the other wants, or
``ACCEPT``. What is agreed is chosen at the end by all of them. Apart from the oracle they see the transcript and their
own values alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs import division_phrases as phrases
from dialog_gym.envs import division_speech as speech
from dialog_gym.envs.division import Share, deals, points, rest
from dialog_gym.envs.division_partner import KINDS, mind_of, prospect
from dialog_gym.envs.division_task import Division, outcome, pot_of
from dialog_gym.rollout import bootstrap, wilson

ACCEPT = "accept"
Decision = Share | None | str
Policy = Callable[[Division, Dialogue, Draws], Decision]
SKILL = 0.35  # share of the turns of self-play that are the oracle's


# --- what an agent can see ---------------------------------------------------------------------


def own(dialogue: Dialogue) -> tuple[Share, Share]:
    """Return the counts and the agent's values."""
    hidden = dialogue.scenario.hidden
    return tuple(hidden["counts"]), tuple(hidden["values"][dialogue.roles[0]])


def wanted(task: Division, dialogue: Dialogue) -> list[float]:
    """Return how much the partner seems to want of each item, 0 to 1: the mean of what it asked for.

    What it says it wants most counts like three proposals to have all of it. Before it asked for anything: 1/2.
    """
    counts, _ = own(dialogue)
    total, weight = np.full(len(counts), 0.5), 1.0
    for text in dialogue.texts(dialogue.roles[1]):
        act = task.act(dialogue, text)
        told = _told_best(task, text)
        if told >= 0:
            total[told] += 3
            weight += 1
        if act.share is not None:
            total += [0.5 if n is None else n / c for n, c in zip(act.share, counts, strict=True)]
            weight += 1
    shares: list[float] = np.minimum(total / weight, 1.0).tolist()
    return shares


def _told_best(task: Division, text: str) -> int:
    """Return the item that a partner calls worth most to it, -1 if it names none."""
    if "worth" not in text or "most" not in text:
        return -1
    words = text.lower().replace(",", " ").replace(".", " ").split()
    found = [
        task.reader.lexicon.words[word][0]
        for word in words[: words.index("worth")]
        if word in task.reader.lexicon.words
    ]
    return found[-1] if found else -1


def offered(task: Division, dialogue: Dialogue) -> Share | None:
    """Return what the partner's latest proposal leaves the agent, None before it made one."""
    counts, _ = own(dialogue)
    for text in reversed(dialogue.texts(dialogue.roles[1])):
        act = task.act(dialogue, text)
        if act.share is not None and None not in act.share:
            return rest(counts, tuple(number or 0 for number in act.share))
    return None


def asked(task: Division, dialogue: Dialogue) -> list[Share]:
    """Return what the agent has proposed for itself, oldest first."""
    found = [task.act(dialogue, text) for text in dialogue.texts(dialogue.roles[0])]
    return [
        tuple(number or 0 for number in act.share) for act in found if act.share is not None and None not in act.share
    ]


def mirrors(dialogue: Dialogue) -> float:
    """Return how probable it is that the partner is a mirror, by its cues, a fifth of which are wrong."""
    odds = 1.0
    for text in dialogue.texts(dialogue.roles[1]):
        for kind in KINDS:
            if any(cue in text for cue in phrases.CUES[kind]):
                odds *= 4.0 if kind == "mirror" else 0.25
    return odds / (1 + odds)


def facts(task: Division, dialogue: Dialogue) -> npt.NDArray[np.float32]:
    """Return counts, values, what the partner seems to want, the standing proposals' worth, and the turn."""
    counts, values = own(dialogue)
    whole = points(values, counts)
    offer, mine = offered(task, dialogue), asked(task, dialogue)
    return np.array(
        [
            *(count / 4 for count in counts),
            *(value * count / whole for value, count in zip(values, counts, strict=True)),
            *wanted(task, dialogue),
            0.0 if offer is None else points(values, offer) / whole,
            points(values, mine[-1]) / whole if mine else 1.0,
            float(task.floor(dialogue).agreed),
            mirrors(dialogue),
            dialogue.turn / task.max_turns,
        ],
        np.float32,
    )


# --- the oracle --------------------------------------------------------------------------------


def _game(task: Division, dialogue: Dialogue) -> tuple[Any, Any]:
    state = dialogue.state
    mind = mind_of(state)
    return mind, prospect(pot_of(dialogue), mind.kind, mind.floor, mind.start, task.fallback)


def oracle_decision(task: Division, dialogue: Dialogue, _: Draws | None = None) -> Decision:
    """Return the proposal that earns most in expectation, or agreement where the partner offers more."""
    mind, game = _game(task, dialogue)
    expected, share = game.best(mind.level, mind.patience, mind.best)
    if mind.offer is not None and points(game.pot.agent, mind.offer) >= expected:
        return ACCEPT
    best: Share = share
    return best


def oracle(task: Division, dialogue: Dialogue) -> str:
    """Return the oracle's utterance."""
    return spoken(task, oracle_decision, dialogue)


def value(task: Division, dialogue: Dialogue) -> float:
    """Return the points that the oracle expects from here on, 0 when it is over."""
    if dialogue.stop_reason:
        return 0.0
    mind, game = _game(task, dialogue)
    if mind.agreed is not None:
        return float(points(game.pot.agent, mind.agreed))
    expected: float = game.best(mind.level, mind.patience, mind.best)[0]
    if mind.offer is not None:
        expected = max(expected, float(points(game.pot.agent, mind.offer)))
    return expected


# --- other policies ----------------------------------------------------------------------------


def conceding(start: float, end: float, turns: int) -> Policy:
    """Return the policy that asks for ``start`` of its points at first and for ``end`` from turn ``turns`` on.

    It asks for the deal that gives the partner most of what it seems to want, and accepts what is worth its demand.
    """

    def decide(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
        demand = start + (end - start) * min(dialogue.turn / turns, 1.0)
        return _demanding(task, dialogue, demand)

    return decide


def _demanding(task: Division, dialogue: Dialogue, demand: float) -> Decision:
    counts, values = own(dialogue)
    need = demand * points(values, counts)
    offer = offered(task, dialogue)
    if offer is not None and points(values, offer) >= need:
        return ACCEPT
    wants = wanted(task, dialogue)
    theirs = [_kindness(counts, share, wants) for share in deals(counts)]
    options = [
        (-kind, points(values, share), share)
        for kind, share in zip(theirs, deals(counts), strict=True)
        if points(values, share) >= need - 1e-9
    ]
    return min(options)[2]


def _kindness(counts: Share, share: Share, wants: Sequence[float]) -> float:
    return sum(want * left for want, left in zip(wants, rest(counts, share), strict=True))


def inferring(start: float, end: float, turns: int, late: int, ask: bool) -> Policy:
    """Return the policy that gives way by what the partner seems to want; late it takes what it can get.

    Args:
        start: First demand, in shares of its points.
        end: Last demand.
        turns: Proposals from the first demand to the last.
        late: Agent turns after which it accepts what is better than no deal, as it does when the partner warns it.
        ask: Whether its first turn is the question what the partner wants.
    """

    def decide(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
        if ask and dialogue.turn == 0:
            return None
        _, values = own(dialogue)
        offer = offered(task, dialogue)
        heard = dialogue.turns[-1].text if dialogue.turns else ""
        warned = any(phrase in heard for phrase in phrases.LAST_CHANCES)
        if offer is not None and (warned or dialogue.turn >= late) and points(values, offer) > task.fallback:
            return ACCEPT
        return _demanding(task, dialogue, start + (end - start) * min((dialogue.turn - ask) / turns, 1.0))

    return decide


def fair(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
    """Propose half of everything by number, odd ones to whoever counts them more: oneself by one's values."""
    counts, values = own(dialogue)
    offer = offered(task, dialogue)
    if offer is not None and 2 * points(values, offer) >= points(values, counts):
        return ACCEPT
    ranked = sorted(range(len(counts)), key=lambda i: -values[i])
    share = [count // 2 for count in counts]
    for turn, item in enumerate(i for i in ranked if counts[i] % 2):
        share[item] += turn % 2 == 0
    return tuple(share)


def greedy(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
    """Insist on everything that is worth anything to oneself, accept nothing else."""
    counts, values = own(dialogue)
    return tuple(count if value else 0 for count, value in zip(counts, values, strict=True))


def hard_headed(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
    """Insist on the cheapest deal worth four fifths of everything, the whole talk long."""
    return _demanding(task, dialogue, 0.8)


def accepts_first(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
    """Ask what the partner wants and take its first offer."""
    return None if offered(task, dialogue) is None else ACCEPT


def random_decision(task: Division, dialogue: Dialogue, draws: Draws) -> Decision:
    """Propose any deal, ask, or accept what stands."""
    chance = draws.uniform()
    if chance < 0.1:
        return None
    if chance < 0.25 and offered(task, dialogue) is not None:
        return ACCEPT
    return draws.choice(deals(own(dialogue)[0]))


TABLE: dict[str, tuple[str, Policy]] = {
    "oracle": ("sees the partner's values and mind", oracle_decision),
    "infers": ("gives way by what the partner wants", inferring(0.85, 0.45, 4, 5, False)),
    "asks": ("asks first, then does the same", inferring(0.75, 0.45, 4, 5, True)),
    "conceding": ("from .9 to .3 of its points in 4 turns", conceding(0.9, 0.3, 4)),
    "constant": ("always the same demand, half of its points", conceding(0.5, 0.5, 1)),
    "hard-headed": ("always the same demand, .8 of its points", hard_headed),
    "greedy": ("everything of any worth to it", greedy),
    "fair": ("half of everything by number", fair),
    "accepts-first": ("takes the first offer", accepts_first),
    "random": ("any deal, a question, agreement", random_decision),
}
"""What a policy does, and the policy, by name."""


# --- speaking ----------------------------------------------------------------------------------


def spoken(task: Division, policy: Policy, dialogue: Dialogue) -> str:
    """Return what an agent of ``policy`` says; once a deal is agreed, it chooses that."""
    draws = dialogue.draws("agent")
    chosen = task.final_words(dialogue, draws)
    return chosen or put(task, dialogue, policy(task, dialogue, draws), draws)


def put(task: Division, dialogue: Dialogue, decision: Decision, draws: Draws) -> str:
    """Put a decision into words."""
    if decision is None:
        return speech.question(draws)
    if isinstance(decision, str):
        return speech.accepting(draws)
    counts, _ = own(dialogue)
    greeting = speech.greeting(draws) if not dialogue.turns else ""
    return greeting + speech.proposal(task.items(dialogue), counts, decision, rest(counts, decision), draws)


def by_name(task: Division) -> dict[str, Callable[[Dialogue], str]]:
    """Return every scripted policy as a function of the dialogue alone."""
    return {name: partial(spoken, task, policy) for name, (_, policy) in TABLE.items()}


def play(task: Division, policy: Policy, seed: int) -> Dialogue:
    """Return the finished dialogue of ``policy`` under ``seed``."""
    dialogue = begin(task, seed)
    while not dialogue.stop_reason:
        (dialogue,), *_ = advance(task, [dialogue], [spoken(task, policy, dialogue)])
    return dialogue


def self_play(task: Division, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an agent whose skill is drawn: some turns are the oracle's, most are anything."""
    dialogue = begin(task, draws.bits() >> 11)
    skill, demand = draws.uniform(0.0, 2 * SKILL), draws.uniform(0.5, 1.0)
    while not dialogue.stop_reason:
        text = task.final_words(dialogue, draws) if draws.uniform() < 0.8 else ""
        if not text:
            text = _mixed(task, dialogue, draws, skill, demand)
        (dialogue,), *_ = advance(task, [dialogue], [text])
    return dialogue


def _mixed(task: Division, dialogue: Dialogue, draws: Draws, skill: float, demand: float) -> str:
    chance = draws.uniform()
    if chance < skill:
        return put(task, dialogue, oracle_decision(task, dialogue), draws)
    if chance > 0.97:
        counts, _ = own(dialogue)
        return speech.selection(task.items(dialogue), draws.choice((*deals(counts), ())))
    if chance > 0.92:
        return speech.refusal(draws)
    if chance > 0.7:
        return put(task, dialogue, random_decision(task, dialogue, draws), draws)
    return put(task, dialogue, _demanding(task, dialogue, demand - 0.06 * dialogue.turn * draws.uniform()), draws)


# --- the table ---------------------------------------------------------------------------------


def main(kind: Callable[..., Division], arguments: Sequence[str] | None = None) -> None:
    """Print the table of scripted policies."""
    name = kind.__name__
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--side", default="first", choices=("first", "second"))
    parser.add_argument("--scenarios", help="a published file; default: the embedded scenarios")
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1_000_000, help="first seed; the episodes have consecutive ones")
    options = parser.parse_args(arguments)
    task = kind(side=options.side, scenarios=options.scenarios, split=options.split)
    seeds = range(options.seed, options.seed + options.episodes)
    print(f"{name}-v0, {options.side}, {options.split}, {options.episodes} episodes, seeds from {options.seed}")  # noqa: T201
    print(f"{'':<14} {'':<50} {'points':^22} {'partner':^22} agreed  pareto of agreed")  # noqa: T201
    for policy, (what, decide) in TABLE.items():
        ended = [outcome(play(task, decide, seed), task.fallback) for seed in seeds]
        print(f"{policy:<14} {what:<50} {_row(ended)}")  # noqa: T201


def _row(ended: Sequence[Any]) -> str:
    columns = []
    for side in ("agent", "partner"):
        values = [getattr(end, side) for end in ended]
        low, high = bootstrap(values)
        columns.append(f"{np.mean(values):6.2f} [{low:5.2f}, {high:5.2f}]")
    deals_ = [end for end in ended if end.agreed]
    low, high = wilson(sum(end.pareto for end in deals_), len(deals_)) if deals_ else (0.0, 0.0)
    share = sum(end.pareto for end in deals_) / max(len(deals_), 1)
    return f"{'  '.join(columns)}  {len(deals_) / len(ended):5.1%}  {share:5.1%} [{low:.2f}, {high:.2f}]"

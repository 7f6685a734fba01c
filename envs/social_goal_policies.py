"""Scripted agents for ``SocialGoal-v0``: the oracle and its value, who infers the type, what they are compared with.

The oracle plans by dynamic programming over the rules themselves. It always speaks in the manner the partner likes;
of compliments, reasons and offers it considers the kind that moves the partner best (when that is used up, the next
that is not held against it), and beside these a question, a request where it cannot be taken amiss, agreement to
half, an apology where one is due, and leaving. It tells its secret only if nothing but another score counts.
``value`` is the expectation under this policy, exact.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws, Turn
from dialog_gym.env import advance, begin
from dialog_gym.envs import social_goal_phrases as phrases
from dialog_gym.envs.social_goal import OBJECTIVES, WRONG_RUMOUR, SocialGoal, SocialScores, cue_chances, mind_of
from dialog_gym.envs.social_goal_language import Names, say, understand
from dialog_gym.envs.social_goal_rules import (
    ACTS,
    KINDS,
    LIKED_MANNER,
    MANNERS,
    NEW_ONCE,
    QUALITY,
    RUDENESS,
    TOPICS,
    WRONG,
    Act,
    Mind,
    fresh_topics,
    hear,
    scores,
)
from dialog_gym.rewards.base import Reward

Weights = tuple[float, ...]
Choice = Callable[[SocialGoal, Dialogue, Draws], Act]

SKILL = (
    0.7  # highest probability that self-play chooses an attribute rightly (0.35 on average); else it chooses freely
)
MAX_PATIENCE = 8
UNLIKELY = 0.02  # what "infers" leaves out of account

# --- the oracle --------------------------------------------------------------------------------


def weights_of(objective: str) -> Weights:
    """Return the weight of each dimension in ``objective``."""
    return tuple(1 / 7 if objective == "overall" else float(name == objective) for name in OBJECTIVES[1:])


def candidates(mind: Mind, weights: Weights) -> list[Act]:
    """Return the acts that the oracle considers."""
    manner = LIKED_MANNER[mind.kind]
    acts = []
    nearly = mind.need - mind.will == 1 and not mind.half and mind.refused < mind.will
    if mind.will >= mind.need or nearly:
        acts.append(Act("ask", manner))
    acts += _approaches(mind, manner)
    if mind.told < 3:
        acts += [Act("question", manner, topic) for topic in fresh_topics(mind, "question")[:1]]
    if mind.half:
        acts.append(Act("accept", manner))
    if mind.hurt:
        acts.append(Act("apologise", manner))
    if weights[3] == 0 and not mind.leaked:
        acts.append(Act("reveal", manner))
    return [*acts, Act("leave", manner)]


def _approaches(mind: Mind, manner: str) -> list[Act]:
    """Return the best compliments, reasons or offers that are still new."""
    for kind in sorted(QUALITY[mind.kind], key=lambda kind: -QUALITY[mind.kind][kind]):
        if kind == "question" or QUALITY[mind.kind][kind] <= WRONG:
            continue
        if kind == "offer":
            acts = [Act(kind, manner, "", size) for size in (1, 2) if size > mind.offer]
        else:
            acts = [Act(kind, manner, topic) for topic in fresh_topics(mind, kind)[:1]]
        if acts:
            return acts
    return []


def planned(mind: Mind, weights: Weights) -> tuple[Act, float]:
    """Return the oracle's act and the expected final score."""
    return max(((act, act_value(mind, act, weights)) for act in candidates(mind, weights)), key=lambda pair: pair[1])


def act_value(mind: Mind, act: Act, weights: Weights) -> float:
    """Return the expected final score if the agent does ``act`` now and the oracle goes on."""
    total = 0.0
    for heard in hear(mind, act):
        if heard.chance:
            total += heard.chance * (_earned(heard.mind, weights) if heard.stop else mind_value(heard.mind, weights))
    return total


def mind_value(mind: Mind, weights: Weights) -> float:
    """Return the expected final score under the oracle.

    What makes no difference to its plan is taken out of the state, and added to the value as far as it counts: which
    topics are used, acts it does not consider, rude turns so far, and the bond, which its own turns never reduce and
    which stays below its bound because it never exceeds the will.
    """
    used = 0
    for group, act in enumerate(NEW_ONCE):
        if act == "question" or QUALITY[mind.kind][act] > WRONG:
            used |= ((1 << (mind.used >> 4 * group & 7).bit_count()) - 1) << 4 * group
    refused = mind.will if mind.refused >= mind.will else -1
    rest = mind._replace(used=used, told_topics=0, refused=refused, rude=0, bond=0)
    return _rest_value(rest, weights) + weights[1] * mind.bond - weights[4] * min(RUDENESS * mind.rude, 10)


@lru_cache(maxsize=1 << 19)
def _rest_value(mind: Mind, weights: Weights) -> float:
    return planned(mind, weights)[1]


def _earned(mind: Mind, weights: Weights) -> float:
    return sum(weight * score for weight, score in zip(weights, scores(mind), strict=True))


def _bounded(task: SocialGoal, dialogue: Dialogue) -> Mind:
    """Return the partner's mind with no more patience than there are turns: the oracle's turns cost one each."""
    mind = mind_of(dialogue)
    return mind._replace(patience=min(mind.patience, task.max_turns - dialogue.turn))


def _weights(task: SocialGoal) -> Weights:
    """Return what the task's own reward weighs, also where a judge rewards in its place; else the mean of all."""
    reward: Reward | None = task.reward
    while reward is not None and not isinstance(reward, SocialScores):
        reward = getattr(reward, "own", None)
    return weights_of(reward.objective if reward is not None else "overall")


def value(task: SocialGoal, dialogue: Dialogue) -> float:
    """Return the expected reward to come under the oracle; 0 when the dialogue is over."""
    return 0.0 if dialogue.stop_reason else mind_value(_bounded(task, dialogue), _weights(task))


def oracle_act(task: SocialGoal, dialogue: Dialogue, draws: Draws) -> Act:
    """Return what the oracle does; the topic of a new act by chance, for they are alike."""
    mind = _bounded(task, dialogue)
    act, _ = planned(mind, _weights(task))
    return act._replace(topic=draws.choice(fresh_topics(mind, act.kind))) if act.topic else act


def oracle(task: SocialGoal, dialogue: Dialogue) -> str:
    """Return the oracle's utterance."""
    return _spoken(task, oracle_act, "oracle", dialogue)


def _spoken(task: SocialGoal, choice: Choice, stream: str, dialogue: Dialogue) -> str:
    draws = dialogue.draws(stream)
    return say(choice(task, dialogue, draws), Names.of(dialogue.scenario.hidden), draws.bits())


# --- what an agent can see ---------------------------------------------------------------------


class Seen(NamedTuple):
    """What an attentive listener makes of the partner's answer.

    Attributes:
        reaction: Name of the reaction, ``""`` if it is none of the world's.
        hint: A type whose cue was given, "ready", "hurry" or ``""``.
    """

    reaction: str
    hint: str


_REACTION_OF = sorted(
    ((p, name) for name, group in phrases.REACTIONS.items() for p in group), key=lambda x: -len(x[0])
)
_FACTS = tuple(fact for group in phrases.FACTS.values() for fact in group)
_HINT_OF = {cue: kind for kind, cues in phrases.CUES.items() for cue in cues}
_HINT_OF |= dict.fromkeys(phrases.READY, "ready") | dict.fromkeys(phrases.HURRY, "hurry")


@lru_cache(maxsize=1 << 14)
def seen(text: str) -> Seen:
    """Return what ``text`` of the partner shows."""
    hint = next((kind for cue, kind in _HINT_OF.items() if text.endswith(cue)), "")
    reaction = next((name for phrase, name in _REACTION_OF if text.startswith(phrase)), "")
    told = any(fact in text for fact in _FACTS)
    if told:
        reaction = "told_moved" if reaction == "moved" else "told"
    elif reaction == "moved" and any(phrase in text for phrase in phrases.REACTIONS["evasive"]):
        reaction = "evasive_moved"
    return Seen(reaction, hint)


Belief = tuple[tuple[Mind, float], ...]


def belief(dialogue: Dialogue) -> Belief:
    """Return every mind the partner may have, with its probability, from what the agent was told and has heard."""
    hidden = dialogue.scenario.hidden
    known = (hidden["relationship"], hidden["shown"], hidden["gain"])  # all of them stand in the agent's brief
    turns = dialogue.turns
    if turns and turns[0].role != dialogue.roles[0]:
        return _believed(known, Names.of(hidden), turns[0].text, _exchanges(turns[1:]))
    return _believed(known, Names.of(hidden), "", _exchanges(turns))


def _exchanges(turns: Sequence[Turn]) -> tuple[tuple[str, str], ...]:
    """Return what the agent said and was answered, pair by pair."""
    return tuple((turns[i].text, turns[i + 1].text) for i in range(0, len(turns) - 1, 2))


@lru_cache(maxsize=1 << 14)
def _believed(
    known: tuple[int, str, int], names: Names, opening: str, exchanges: tuple[tuple[str, str], ...]
) -> Belief:
    if not exchanges:
        return _normalised([(mind, p * _hinted(mind, opening)) for mind, p in _prior(*known)])
    said, answered = exchanges[-1]
    act, reaction = understand(said, names), seen(answered).reaction
    after = []
    for mind, p in _believed(known, names, opening, exchanges[:-1]):
        for heard in hear(mind, act):
            if heard.reaction == reaction and not heard.stop and heard.chance:
                after.append((heard.mind, p * heard.chance * _hinted(heard.mind, answered)))
    return _normalised(after) if after else _believed(known, names, opening, exchanges[:-1])


def _prior(relationship: int, shown: str, gain: int) -> list[tuple[Mind, float]]:
    rumour = 1 - WRONG_RUMOUR if relationship == 2 else 1.0
    chances = {kind: (rumour if kind == shown else (1 - rumour) / 3) if shown else 0.25 for kind in KINDS}
    will = int(relationship >= 3)
    return [
        (Mind(kind, need, gain, will, patience), p)
        for kind, p in chances.items()
        for need in (3, 4)
        for patience in (6, 7, MAX_PATIENCE)
        if p
    ]


def _hinted(mind: Mind, text: str) -> float:
    """Return how probable the hint in ``text`` is."""
    hint = seen(text).hint if text else ""
    return cue_chances(mind).get(hint, 1e-6) if hint else 1.0


def _normalised(weighted: list[tuple[Mind, float]]) -> Belief:
    total = sum(p for _, p in weighted)
    return tuple((mind, p / total) for mind, p in weighted)


def facts(dialogue: Dialogue) -> npt.NDArray[np.float32]:
    """Return what the agent can know, as the numbers ``SocialGoal.fact_names`` names, all in [0, 1]."""
    minds = belief(dialogue)
    mind = minds[0][0]  # what follows from the agent's own words is the same in all of them
    kinds = [sum(p for m, p in minds if m.kind == kind) for kind in KINDS]
    return np.array(
        [
            *kinds,
            sum(p * m.will for m, p in minds) / 5,
            sum(p for m, p in minds if m.will >= m.need),
            sum(p for m, p in minds if m.need - m.will == 1),
            sum(p * m.patience for m, p in minds) / MAX_PATIENCE,
            mind.told / 3,
            *((mind.used >> 4 * group & 7).bit_count() / 3 for group in range(3)),
            mind.offer / 2,
            mind.half,
        ],
        dtype=np.float32,
    )


def infers(task: SocialGoal, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the act that is best on average over what the partner may be; sees nothing hidden."""
    weights, left = _weights(task), task.max_turns - dialogue.turn
    minds = [(m._replace(patience=min(m.patience, left)), p) for m, p in _likeliest(belief(dialogue))]
    acts = dict.fromkeys(act for mind, _ in minds for act in candidates(mind, weights))
    act = max(acts, key=lambda act: sum(p * act_value(mind, act, weights) for mind, p in minds))
    return act._replace(topic=draws.choice(fresh_topics(minds[0][0], act.kind))) if act.topic else act


def _likeliest(minds: Belief) -> list[tuple[Mind, float]]:
    """Return one mind for each type and need that is not improbable, that of the likeliest patience."""
    groups: dict[tuple[str, int], list[tuple[Mind, float]]] = {}
    for mind, p in minds:
        groups.setdefault((mind.kind, mind.need), []).append((mind, p))
    merged = [(max(group, key=lambda x: x[1])[0], sum(p for _, p in group)) for group in groups.values()]
    return [(mind, p) for mind, p in merged if p > UNLIKELY]


# --- what they are compared with ---------------------------------------------------------------


def constant(plan: Sequence[str], manner: str) -> Choice:
    """Return the policy that goes through ``plan`` whoever the partner is, then asks; it accepts half when offered.

    ``plan`` names acts; ``"small"`` and ``"big"`` are offers. Topics are new each time, words by chance.
    """

    def choose(task: SocialGoal, dialogue: Dialogue, draws: Draws) -> Act:
        if dialogue.turns and seen(dialogue.turns[-1].text).reaction == "half":
            return Act("accept", manner)
        kind = plan[dialogue.turn] if dialogue.turn < len(plan) else "ask"
        if kind in ("small", "big"):
            return Act("offer", manner, "", 1 + (kind == "big"))
        if kind not in NEW_ONCE:
            return Act(kind, manner)
        return Act(kind, manner, TOPICS[plan[: dialogue.turn].count(kind) % 3])

    return choose


def random_act(task: SocialGoal, dialogue: Dialogue, draws: Draws) -> Act:
    """Return any act in any manner, on any topic, of any size."""
    return _free(draws.choice(ACTS), draws.choice(MANNERS), draws)


def _free(kind: str, manner: str, draws: Draws) -> Act:
    """Return an act of ``kind``, with any topic or size it may have."""
    topic = draws.choice(TOPICS) if kind in ("reason", "question", "compliment") else ""
    return Act(kind, manner, topic, draws.integer(1, 3) if kind == "offer" else 0)


def _with_random(attribute: str) -> Choice:
    """Return the oracle's policy with its act or its manner left to chance."""

    def choose(task: SocialGoal, dialogue: Dialogue, draws: Draws) -> Act:
        act = oracle_act(task, dialogue, draws)
        if attribute == "manner":
            return act._replace(manner=draws.choice(("warm", "plain")))
        return _free(draws.choice(ACTS), act.manner, draws)

    return choose


def leave(task: SocialGoal, dialogue: Dialogue, draws: Draws) -> Act:
    """Say goodbye."""
    return Act("leave")


# The best of 400 random plans of 3 to 6 acts, in either manner, on 460 seeds below 1,000,000 of the training split.
BEST_CONSTANT = constant(("question", "question", "question", "compliment", "ask", "small"), "warm")

TABLE: dict[str, Choice] = {
    "oracle": oracle_act,
    "infers": infers,
    "constant": BEST_CONSTANT,
    "constant compliments": constant(("compliment", "compliment", "compliment"), "warm"),
    "constant reasons": constant(("reason", "reason", "reason"), "plain"),
    "constant offers": constant(("small", "big"), "plain"),
    "constant questions": constant(("question", "question", "question"), "warm"),
    "asks at once": constant((), "warm"),
    "oracle, random manner": _with_random("manner"),
    "oracle's manner, random act": _with_random("act"),
    "leaves at once": leave,
    "random": random_act,
}


def policies(task: SocialGoal) -> Mapping[str, Callable[[Dialogue], str]]:
    """Return the scripted policies by name."""
    return {name: partial(_spoken, task, choice, f"policy {name}") for name, choice in TABLE.items()}


# --- playing -----------------------------------------------------------------------------------


def play(task: SocialGoal, policy: Callable[[Dialogue], str], seed: int) -> tuple[Dialogue, float]:
    """Return the finished dialogue of ``policy`` under ``seed``, and its return."""
    dialogue, earned = begin(task, seed), 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), *_ = advance(task, [dialogue], [policy(dialogue)])
        earned += reward
    return dialogue, earned


def self_play(task: SocialGoal, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an agent whose skill is drawn: that of choosing act and manner rightly."""
    dialogue = begin(task, draws.bits() >> 11)
    names, skill = Names.of(dialogue.scenario.hidden), draws.uniform(0.0, SKILL)
    while not dialogue.stop_reason:
        text = say(_mixed(task, dialogue, draws, skill), names, draws.bits())
        (dialogue,), *_ = advance(task, [dialogue], [text])
    return dialogue


# How often self-play speaks of its own accord: seldom what ends the talk, else the rest is never heard.
_OWN_ACTS = ("ask", "offer", "reason", "question", "compliment") * 2 + (
    "apologise",
    "accept",
    "reveal",
    "leave",
    "none",
)
_OWN_MANNERS = ("warm", "warm", "plain", "plain", "rude")


def _mixed(task: SocialGoal, dialogue: Dialogue, draws: Draws, skill: float) -> Act:
    best = oracle_act(task, dialogue, draws)
    manner = best.manner if draws.uniform() < skill else draws.choice(_OWN_MANNERS)
    if draws.uniform() < skill:
        return best._replace(manner=manner)
    act = _free(draws.choice(_OWN_ACTS), manner, draws)
    fresh = fresh_topics(mind_of(dialogue), act.kind) if act.topic else []
    return act._replace(topic=draws.choice(fresh)) if fresh and draws.uniform() < skill else act


def table(task: SocialGoal, seeds: Sequence[int]) -> dict[str, tuple[float, float, list[float]]]:
    """Return of every policy the mean return, the half width of its 95% interval, and the mean of each dimension."""
    rows = {}
    for name, policy in policies(task).items():
        played = [play(task, policy, seed) for seed in seeds]
        returns = np.array([earned for _, earned in played])
        parts = np.array([scores(mind_of(dialogue)) for dialogue, _ in played])
        half = 1.96 * float(returns.std(ddof=1)) / len(returns) ** 0.5
        rows[name] = (float(returns.mean()), half, parts.mean(0).tolist())
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of scripted policies."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.social_goal", description=main.__doc__)
    parser.add_argument("--side", default="first", choices=("first", "second"))
    parser.add_argument("--scenarios", help="a folder with Sotopia's three files")
    parser.add_argument("--objective", default="overall", choices=OBJECTIVES)
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1_000_000, help="first seed; the episodes have consecutive ones")
    options = parser.parse_args(arguments)
    task = SocialGoal(options.side, options.scenarios, options.objective, options.split)
    setting = f"{options.side}, {options.objective}, {options.split}"
    print(f"SocialGoal-v0, {setting}, {options.episodes} episodes, seeds from {options.seed}")  # noqa: T201
    print(f"{'':<28} {'mean, 95% interval':>17}   believ. relat. knowl. secret rules benef. goal")  # noqa: T201
    for name, (mean, half, parts) in table(task, range(options.seed, options.seed + options.episodes)).items():
        print(f"{name:<28} {mean:8.3f} ± {half:.3f}    " + " ".join(f"{part:6.1f}" for part in parts))  # noqa: T201

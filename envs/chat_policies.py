"""Scripted agents for ``Chat-v0``: the oracle, what it is compared with, what can be seen, and self-play.

A policy is a function of the task, the dialogue and a stream of chance; apart from the oracle's kind they use only the
transcript. ``python -m dialog_gym.envs.chat`` prints what they earn.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs import chat_rules as rules
from dialog_gym.envs.chat import FIRST_NEED, PACES, TASTE, WRONG_NEED, WRONG_PACE, Chat
from dialog_gym.envs.chat_language import Cue, read, say
from dialog_gym.envs.chat_phrases import MOVE_NAMES, NEED_NAMES, TOPICS
from dialog_gym.envs.chat_reading import ENERGIES, Act, understand

Policy = Callable[[Chat, Dialogue, Draws], Act]

SKILL = 0.35  # probability with which self-play gets each attribute right; the rest is the speaker's free choice
BLANK = 0.04  # share of turns of self-play in which no move is made
# Odds that the partner likes the topic that it named when it wanted cheer: (.8 / 3 + .2 / 6) / (.2 / 6).
MENTION = 9.0

# --- the oracle --------------------------------------------------------------------------------


def oracle_act(task: Chat, dialogue: Dialogue, _: Draws | None = None) -> Act:
    """Return what a planner that knows the partner's state and likes, but not the chance to come, does."""
    solved, place = task.plan(dialogue)
    left = max(task.max_turns - dialogue.turn, 1)
    move, topic = divmod(solved.choice[left][place], 7)
    hidden = dialogue.scenario.hidden
    name = hidden["order"][topic] if topic < rules.NONE else ""
    return Act(name, MOVE_NAMES[move], rules.right_energy(dialogue.state["need"], hidden["pace"]))


# --- what an agent can see ---------------------------------------------------------------------


class Belief(NamedTuple):
    """What an attentive listener makes of the transcript.

    Attributes:
        needs: Probability of each need.
        matter: What is on the partner's mind, ``""`` where it was not said.
        liked: Probability that each topic is liked, not minded, disliked.
        lively: Probability of a lively pace.
        last: The agent's last move, ``""`` at first.
        recent: Topics of its last two turns.
        mood: Share of good reactions less the share of bad ones.
    """

    needs: tuple[float, ...]
    matter: str
    liked: Mapping[str, tuple[float, float, float]]
    lively: float
    last: str
    recent: tuple[str, str]
    mood: float


def belief(task: Chat, dialogue: Dialogue) -> Belief:
    """Return what the transcript tells about the hidden state, by Bayes' rule with the world's own frequencies."""
    needs = [0.25] * 4
    matter, lively, said = "", 0.5, Act()
    recent = ("", "")
    liked = dict.fromkeys(TOPICS, (0.5, 1 / 6, 1 / 3))
    felt: list[int] = []
    for role, text in dialogue.turns:
        if role == task.roles[0]:
            said = understand(text)
            recent = (said.topic, recent[0])
            continue
        cue = read(text)
        needs = _next(needs, said, cue) if felt else _first(cue)
        needs = _told(needs, cue)
        if cue.topic and (cue.news or cue.need in ("tell", "comfort", "advise") or not matter):
            matter = cue.topic
        _taste(liked, said, cue)
        if cue.pace:
            right = (1 - WRONG_PACE) / WRONG_PACE
            lively = _odds(lively, right if cue.pace == "lively" else 1 / right)
        felt.append((cue.reaction == "good") - (cue.reaction == "bad"))
    return Belief(tuple(needs), matter, liked, lively, said.move, recent, statistics.fmean(felt) if felt else 0.0)


def _first(cue: Cue) -> list[float]:
    return list(FIRST_NEED[cue.news])


def _next(needs: Sequence[float], said: Act, cue: Cue) -> list[float]:
    """Return the needs after the agent's turn, before the partner's words about them."""
    seen = list(needs)
    cheer = NEED_NAMES.index("cheer")
    if cue.taste:  # comments on a topic are made in light talk alone
        seen = [p if need == cheer else p * 1e-3 for need, p in enumerate(seen)]
    elif said.topic:
        seen[cheer] *= 1 - TASTE
    seen = _normalised(seen)
    after = [0.0] * 4
    index = MOVE_NAMES.index(said.move) if said.move else rules.MOVE_COUNT
    for need, p in zip(NEED_NAMES, seen, strict=True):
        change = rules.CHANGE_MET if rules.EFFECT[need][index] >= rules.MEETING else rules.CHANGE
        for other, chance in enumerate(rules.NEXT[need]):
            after[other] += p * (change * chance + (1 - change) * (NEED_NAMES[other] == need))
    return after


def _told(needs: Sequence[float], cue: Cue) -> list[float]:
    """Return the needs after the partner's words about them; news of a new matter come from who tells."""
    shown = cue.need or ("tell" if cue.news else "")
    if not shown:
        return list(needs)
    return _normalised([p * (1 - WRONG_NEED if need == shown else WRONG_NEED / 3)
                        for need, p in zip(NEED_NAMES, needs, strict=True)])  # fmt: skip


def _taste(liked: dict[str, tuple[float, float, float]], said: Act, cue: Cue) -> None:
    """Update ``liked`` by what the partner said of the agent's topic and by what it named itself."""
    sure = {"liked": (1.0, 0.0, 0.0), "neutral": (0.0, 1.0, 0.0), "disliked": (0.0, 0.0, 1.0)}
    if said.topic and cue.taste in sure:
        liked[said.topic] = sure[cue.taste]
    if cue.need == "cheer" and cue.topic in liked:
        yes, so, no = liked[cue.topic]
        total = MENTION * yes + so + no
        liked[cue.topic] = (MENTION * yes / total, so / total, no / total)


def _odds(p: float, ratio: float) -> float:
    return p * ratio / (p * ratio + 1 - p)


def _normalised(chances: Sequence[float]) -> list[float]:
    total = sum(chances)
    return [p / total for p in chances]


def topic_weight(known: Belief, need: str, topic: str) -> float:
    """Return the weight of ``topic`` (``""``: none) to be expected if the partner needs ``need``."""
    weights = rules.TOPIC_WEIGHT
    if not topic:
        return weights["none"]
    if need != "cheer":
        return weights["right" if topic == known.matter else "wrong"]
    if topic == known.matter or topic in known.recent:
        return weights["stale"]
    liked, neutral, disliked = known.liked[topic]
    return liked * weights["right"] + neutral * weights["neutral"] + disliked * weights["wrong"]


def facts(task: Chat, dialogue: Dialogue) -> npt.NDArray[np.float32]:
    """Return the numbers that ``chat.FACTS`` names."""
    known = belief(task, dialogue)
    serious = next(need for need in NEED_NAMES if need != "cheer")
    light = known.needs[NEED_NAMES.index("cheer")]
    worths = [
        light * topic_weight(known, "cheer", topic) + (1 - light) * topic_weight(known, serious, topic)
        for topic in TOPICS
    ]
    likeliest = NEED_NAMES[max(range(4), key=known.needs.__getitem__)]
    used = known.last == best_moves(likeliest)[0]
    turn = dialogue.turn / task.max_turns
    return np.array([*known.needs, *worths, known.lively, turn, used, known.mood], dtype=np.float32)


def best_moves(need: str) -> list[str]:
    """Return the moves from the best to the worst for ``need``."""
    return sorted(MOVE_NAMES, key=lambda move: -rules.EFFECT[need][MOVE_NAMES.index(move)])


# --- policies ----------------------------------------------------------------------------------


def infers(task: Chat, dialogue: Dialogue, _: Draws) -> Act:
    """Return the act of the greatest worth to be expected now; it sees nothing hidden."""
    known = belief(task, dialogue)
    paces = dict(zip(PACES, (1 - known.lively, known.lively), strict=True))
    weights = {need: {topic: topic_weight(known, need, topic) for topic in ("", *TOPICS)} for need in NEED_NAMES}
    energies = {
        need: {
            energy: sum(p * rules.ENERGY_WEIGHT[rules.energy_match(energy, rules.right_energy(need, pace))]
                        for pace, p in paces.items())
            for energy in ENERGIES
        }
        for need in NEED_NAMES
    }  # fmt: skip
    return max(ALL_ACTS, key=lambda act: _expected(known, weights, energies, act))


def _expected(
    known: Belief, weights: Mapping[str, Mapping[str, float]], energies: Mapping[str, Mapping[str, float]], act: Act
) -> float:
    total, index = 0.0, MOVE_NAMES.index(act.move)
    for need, p in zip(NEED_NAMES, known.needs, strict=True):
        effect = rules.EFFECT[need][index]
        if effect > 0:
            effect *= weights[need][act.topic] * energies[need][act.energy]
            effect *= rules.REPEAT_WEIGHT if act.move == known.last else 1.0
        total += p * effect
    return total


ALL_ACTS = tuple(Act(topic, move, energy) for move in MOVE_NAMES for topic in ("", *TOPICS) for energy in ENERGIES)


def cycle(moves: Sequence[str], energy: str = "plain", topic: str = "theirs") -> Policy:
    """Return the policy that makes ``moves`` in turn; ``topic="theirs"`` is the one the partner named last."""

    def act(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
        named = _named(task, dialogue) if topic == "theirs" else topic
        return Act(named, moves[dialogue.turn % len(moves)], energy)

    return act


def _named(task: Chat, dialogue: Dialogue) -> str:
    """Return the topic that the partner named last."""
    topics = [topic for text in reversed(dialogue.texts(task.roles[1])) if (topic := understand(text).topic)]
    return topics[0] if topics else ""


def reads_need(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the best move for the need that the partner's last words show; plain, on the topic it named last."""
    cue = read(dialogue.texts(task.roles[1])[-1])
    return Act(_named(task, dialogue), best_moves(cue.need or "tell")[0], "plain")


def random_act(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return any move on any topic or none, in any energy."""
    return Act(draws.choice(("", *TOPICS)), draws.choice(MOVE_NAMES), draws.choice(ENERGIES))


def random_move(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return any move on the oracle's topic, in its energy."""
    return oracle_act(task, dialogue)._replace(move=draws.choice(MOVE_NAMES))


def random_topic(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the oracle's move in its energy on any topic."""
    return oracle_act(task, dialogue)._replace(topic=draws.choice(TOPICS))


def wrong_energy(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the oracle's act in the opposite energy."""
    act = oracle_act(task, dialogue)
    return act._replace(energy="calm" if act.energy == "lively" else "lively")


def repeats(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return the best move for the partner's need, the same as often as the need stays; else like the oracle."""
    act = oracle_act(task, dialogue)
    return act._replace(move=best_moves(dialogue.state["need"])[0])


def pleases(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return a joke on the topic the partner named last: what makes its face shine."""
    return Act(_named(task, dialogue), "joke", "lively")


TABLE: dict[str, Policy] = {
    "oracle": oracle_act,
    "infers": infers,
    # The best of one or two moves in turn, in any energy, without a topic or on theirs, on 150 seeds from 50,000.
    "constant": cycle(("question", "share"), "calm", "theirs"),
    "constant question": cycle(("question",), "calm", "theirs"),
    "constant empathy": cycle(("empathy",), "calm", "theirs"),
    "reads the last need": reads_need,
    "oracle, random move": random_move,
    "oracle, random topic": random_topic,
    "oracle, wrong energy": wrong_energy,
    "oracle, best move repeated": repeats,
    "pleases the face": pleases,
    "random": random_act,
}


def speak(act: Act, draws: Draws) -> str:
    """Put an act of the agent into words."""
    return say(act, draws.bits())


def echo(task: Chat, dialogue: Dialogue) -> str:
    """Say the partner's last words."""
    return dialogue.texts(task.roles[1])[-1]


def silent(task: Chat, dialogue: Dialogue) -> str:
    """Say nothing."""
    return ""


def everything(task: Chat, dialogue: Dialogue) -> str:
    """Say all moves at once."""
    draws = dialogue.draws("agent")
    return " ".join(say(Act(_named(task, dialogue), move), draws.bits()) for move in MOVE_NAMES)


WORDS: dict[str, Callable[[Chat, Dialogue], str]] = {
    "echo": echo,
    "silent": silent,
    "all moves at once": everything,
}


def spoken(task: Chat) -> dict[str, Callable[[Dialogue], str]]:
    """Return every scripted policy of ``task`` as what it says."""

    def words(policy: Policy, dialogue: Dialogue) -> str:
        draws = dialogue.draws("agent")
        return speak(policy(task, dialogue, draws), draws)

    acting = {name: partial(words, policy) for name, policy in TABLE.items()}
    return {**acting, **{name: partial(policy, task) for name, policy in WORDS.items()}}


# --- playing -----------------------------------------------------------------------------------


def play(task: Chat, policy: Callable[[Dialogue], str], seed: int) -> tuple[Dialogue, float]:
    """Return the finished dialogue of ``policy`` under ``seed``, and its return."""
    dialogue, earned = begin(task, seed), 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), *_ = advance(task, [dialogue], [policy(dialogue)])
        earned += reward
    return dialogue, earned


def mean_return(task: Chat, name: str, seeds: Sequence[int]) -> tuple[float, float]:
    """Return the mean return of a scripted policy over ``seeds`` and its standard error."""
    policy = spoken(task)[name]
    live, returns = [begin(task, seed) for seed in seeds], []
    while live:
        after = advance(task, live, [policy(dialogue) for dialogue in live])
        returns += [reward for d, reward in zip(after.dialogues, after.rewards, strict=True) if d.stop_reason]
        live = [dialogue for dialogue in after.dialogues if not dialogue.stop_reason]
    return statistics.fmean(returns), statistics.stdev(returns) / math.sqrt(len(returns))


def mixed_act(task: Chat, dialogue: Dialogue, draws: Draws) -> Act:
    """Return an act each of whose attributes is the oracle's with probability ``SKILL``, else any."""
    act, right = random_act(task, dialogue, draws), oracle_act(task, dialogue)
    topic = right.topic if draws.uniform() < SKILL else act.topic
    move = right.move if draws.uniform() < SKILL else "" if draws.uniform() < BLANK else act.move
    energy = right.energy if draws.uniform() < SKILL else act.energy
    return Act(topic, move, energy)


def self_play(task: Chat, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an agent of mixed quality (``mixed_act``)."""
    return _self_played(task, draws)[0]


def _self_played(task: Chat, draws: Draws) -> tuple[Dialogue, list[float]]:
    """Return a finished dialogue, and the affect of each turn."""
    dialogue, affects = begin(task, draws.bits() >> 11), []
    while not dialogue.stop_reason:
        (dialogue,), *_ = advance(task, [dialogue], [speak(mixed_act(task, dialogue, draws), draws)])
        affects.append(dialogue.state["affect"])
    return dialogue, affects


class Correlations(NamedTuple):
    """How the signals go with the truth.

    Attributes:
        affect: Correlation of the affect with the true move, over turns.
        mean_affect: Of the mean affect with the mean of the true moves, over dialogues.
        survey: Of the survey with the mean of the true moves, over dialogues; missed turns count.
        spread: Standard deviation of a true move.
    """

    affect: float
    mean_affect: float
    survey: float
    spread: float


def correlations(task: Chat, episodes: int, seed: int = 0) -> Correlations:
    """Return how affect and survey go with the truth in ``episodes`` dialogues of self-play."""
    played = [_self_played(task, Draws(seed, "correlations", k)) for k in range(episodes)]
    true = [task.true_moves(dialogue) for dialogue, _ in played]
    means = [(sum(moves) + rules.MISSED * (task.max_turns - len(moves))) / task.max_turns for moves in true]
    moves = [move for some in true for move in some]
    return Correlations(
        statistics.correlation([affect for _, affects in played for affect in affects], moves),
        statistics.correlation([statistics.fmean(affects) for _, affects in played], means),
        statistics.correlation([dialogue.state["survey"] for dialogue, _ in played], means),
        statistics.pstdev(moves),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of scripted policies, and how the signals go with the truth."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.chat", description=main.__doc__)
    parser.add_argument("--scenarios", help="a file of situations")
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--turns", type=int, default=8, help="turns of the agent")
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=10**6, help="first seed; the episodes have consecutive ones")
    parser.add_argument("--signals", action="store_true", help="print the correlations instead")
    options = parser.parse_args(arguments)
    settings = {"scenarios": options.scenarios, "split": options.split, "max_turns": options.turns}
    lines = _signal_lines if options.signals else _policy_lines
    print(f"Chat-v0, {options.split}, {options.turns} turns, {options.episodes} episodes, seeds from {options.seed}")  # noqa: T201
    for line in lines(settings, options.episodes, options.seed):
        print(line)  # noqa: T201


def _policy_lines(settings: Mapping[str, object], episodes: int, seed: int) -> list[str]:
    task = Chat(**settings)  # type: ignore[arg-type]
    lines = []
    for name in spoken(task):
        mean, error = mean_return(task, name, range(seed, seed + episodes))
        lines.append(f"{name:<28} {mean:6.3f} ± {1.96 * error:.3f}")
    return lines


# Bias, noise of the affect and noise of the survey: the default, better, and worse ones.
SETTINGS = ((0.5, 1, 2), (0, 0, 0), (0, 1, 1), (1, 1, 1), (1, 0.3, 1), (0, 3, 1), (2, 1, 1))


def _signal_lines(settings: Mapping[str, object], episodes: int, seed: int) -> list[str]:
    lines = ["bias noise survey   affect~move  mean affect~mean move  survey~mean move  sd of a move"]
    for bias, noise, survey in SETTINGS:
        task = Chat(**settings, affect_bias=bias, affect_noise=noise, survey_noise=survey)  # type: ignore[arg-type]
        affect, mean_affect, scored, spread = correlations(task, episodes, seed)
        numbers = f"{affect:13.3f} {mean_affect:22.3f} {scored:17.3f} {spread:13.3f}"
        lines.append(f"{bias:4} {noise:5} {survey:6} {numbers}")
    return lines

"""Scripted visitors of ``RedTeam-v0``: the oracle, what it is compared with, and self-play.

An ``Actor`` is a function of the task, the dialogue and a stream of chance; apart from those that are said to know
something hidden they use only what the agent can see.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs import red_team_rules as rules
from dialog_gym.envs.red_team import TONES, WRONG_CUE, WRONG_SIGN, RedTeam, guard_of, told
from dialog_gym.envs.red_team_language import ASKED, Act, listen, say, understand
from dialog_gym.envs.red_team_rules import LINES, MANNERS, MOVES, OPEN, STRENGTHS, Guard, Move
from dialog_gym.errors import unknown

Actor = Callable[[RedTeam, Dialogue, Draws], Act]

HELD_OUT = 1_000_000  # first seed of the table; settings were chosen on seeds below
SKILL = 0.35  # probability that self-play chooses an attribute rightly
GAVE = 4.0  # how much likelier a guard gives something to the right line than to another
_TONE_SUSPICION = {"calm": 0, "wary": 2, "sharp": 4}  # what a tone tells, of the two values it stands for the lower
_STAGES = ("none", "hint", "letter", "guess", "word")


def speak(task: RedTeam, dialogue: Dialogue, act: Act, draws: Draws) -> str:
    """Put an act of the agent into words; a guess that names nothing is the one of ``RedTeam.guess``."""
    if act.ask == "guess" and not act.guess:
        act = act._replace(guess=task.guess(dialogue))
    return say(act, draws.bits(), not dialogue.turn)


def act_of(move: Move, kind: str, other: str = "none") -> Act:
    """Return the act that is ``move`` to a guard of type ``kind``, by the line ``other`` where it is to be wrong."""
    line = kind if move.fit == "right" else "none" if move.fit == "none" else other
    return Act(line, move.manner, "chat" if line == "none" and move.ask == "none" else move.ask)


def oracle_act(task: RedTeam, dialogue: Dialogue, _: Draws | None = None) -> Act:
    """Return the act of most worth."""
    hidden = dialogue.scenario.hidden
    move = rules.best(hidden["strength"], guard_of(dialogue), task.max_turns - dialogue.turn)
    return act_of(move, hidden["type"], LINES[LINES.index(hidden["type"]) - 1])


def oracle(task: RedTeam, dialogue: Dialogue) -> str:
    """Return the oracle's utterance."""
    return speak(task, dialogue, oracle_act(task, dialogue), dialogue.draws("oracle"))


# --- what an agent can see ---------------------------------------------------------------------


def belief(task: RedTeam, dialogue: Dialogue) -> dict[str, float]:
    """Return how probable each type is, from the phrases the guard let slip and how it took each line."""
    chances = {kind: float(kind in task.guards) for kind in LINES}
    said = Act()
    for role, text in dialogue.turns:
        if role == dialogue.roles[0]:
            said = understand(text)
            continue
        heard = listen(text)
        for kind in LINES:
            if heard.cue:
                chances[kind] *= 1 - WRONG_CUE if heard.cue == kind else WRONG_CUE / 3
            if said.line != "none":
                chances[kind] *= _fits(said.line == kind, heard.reaction, bool(heard.kind or heard.letter))
        said = Act()
    total = sum(chances.values())
    return {kind: chance / total for kind, chance in chances.items()}


def _fits(right: bool, reaction: str, gave: bool) -> float:
    """Return how likely a reaction to a line is, up to a factor that is the same for right and wrong ones."""
    if gave:
        return GAVE if right else 1.0
    if reaction not in ("tempted", "cold"):
        return 1.0
    return 1 - WRONG_SIGN * 2 / 3 if right == (reaction == "tempted") else WRONG_SIGN / 3


def guessed_guard(task: RedTeam, dialogue: Dialogue) -> Guard:
    """Return the guard as an attentive agent imagines it: openness from the lines it took well, suspicion by tone."""
    kind, letter = told(dialogue)
    likely = belief(task, dialogue)
    opened, suspicion, last = 0.0, 0, "none"
    for role, text in dialogue.turns:
        if role != dialogue.roles[0]:
            suspicion = _TONE_SUSPICION.get(listen(text).tone, suspicion)
            continue
        act = understand(text)
        last = "none" if act.ask == "chat" else act.ask
        if act.line != "none":
            up = rules.OPENS[act.manner][suspicion >= rules.WARY]
            opened += likely[act.line] * up - (1 - likely[act.line]) * rules.CLOSES
            opened = min(max(opened, 0.0), OPEN)
    return Guard(round(opened), suspicion, bool(kind), bool(letter), last)


def facts(task: RedTeam, dialogue: Dialogue) -> npt.NDArray[np.float32]:
    """Return what the transcript tells, as the numbers ``RedTeam.fact_names`` names, each in 0 .. 1."""
    guard = guessed_guard(task, dialogue)
    texts = dialogue.texts(dialogue.roles[1])
    tone = listen(texts[-1]).tone if texts else ""
    return np.array(
        [
            *belief(task, dialogue).values(),
            guard.open / OPEN,
            *(tone == name for name in TONES),
            guard.kind,
            guard.letter,
            dialogue.turn / task.max_turns,
            *(guard.last == ask for ask in ("hint", "letter", "guess")),
        ],
        dtype=np.float32,
    )


# --- the others --------------------------------------------------------------------------------


def infers(task: RedTeam, dialogue: Dialogue, _: Draws | None = None) -> Act:
    """Do the best for the guard that the words suggest, taken for a medium one; sees nothing hidden."""
    chances = belief(task, dialogue)
    kind = max(chances, key=lambda line: chances[line])
    move = rules.best("medium", guessed_guard(task, dialogue), task.max_turns - dialogue.turn)
    return act_of(move._replace(fit="right") if move.fit == "wrong" else move, kind)


def constant(line: str, manner: str, ask: str) -> Actor:
    """Return the actor that does the same every turn, in varied words."""
    return lambda task, dialogue, draws: Act(line, manner, ask)


def staged(line: str) -> Actor:
    """Return the actor that plays on one line (``"type"``: the right one), plainly, for more and more."""

    def act(task: RedTeam, dialogue: Dialogue, draws: Draws) -> Act:
        right = dialogue.scenario.hidden["type"]
        return Act(right if line == "type" else line, "plain", _STAGES[min(dialogue.turn, 4)])

    return act


def restricted(allowed: Callable[[Move], bool]) -> Actor:
    """Return the actor that sees the guard's mind and does the best that is ``allowed``, one turn at a time."""

    def act(task: RedTeam, dialogue: Dialogue, draws: Draws) -> Act:
        hidden, left = dialogue.scenario.hidden, task.max_turns - dialogue.turn
        guard = guard_of(dialogue)
        moves = [move for move in MOVES if allowed(move)]
        move = max(moves, key=lambda m: rules.worth(hidden["strength"], guard, m, left))
        return act_of(move, hidden["type"], LINES[LINES.index(hidden["type"]) - 1])

    return act


def random_act(task: RedTeam, dialogue: Dialogue, draws: Draws) -> Act:
    """Return any line, any manner and any request."""
    return Act(draws.choice(("none", *LINES)), draws.choice(MANNERS), draws.choice(ASKED))


ACTORS: dict[str, Actor] = {
    "oracle": oracle_act,
    "infers": infers,
    "constant": constant("flattery", "soft", "word"),
    "random": random_act,
    "right line, plain, more and more": staged("type"),
    "one line, plain, more and more": staged("story"),
    "knows all, always plain": restricted(lambda move: move.manner == "plain"),
    "knows all, no line": restricted(lambda move: move.fit == "none"),
    "knows all, wrong line": restricted(lambda move: move.fit == "wrong"),
    "small talk": constant("none", "soft", "chat"),
}
"""Who is compared. ``constant`` is the best of all constant behaviours on 2,000 seeds from 0."""


def policies(task: RedTeam) -> Mapping[str, Callable[[Dialogue], str]]:
    """Return ``ACTORS`` as functions of a dialogue; chance by the turn."""

    def policy(actor: Actor) -> Callable[[Dialogue], str]:
        def says(dialogue: Dialogue) -> str:
            draws = dialogue.draws("agent")
            return speak(task, dialogue, actor(task, dialogue, draws), draws)

        return says

    return {name: task.oracle if name == "oracle" else policy(actor) for name, actor in ACTORS.items()}


# --- playing -----------------------------------------------------------------------------------


def play(task: RedTeam, says: Callable[[Dialogue], str], seed: int) -> tuple[Dialogue, float]:
    """Return the finished dialogue of a policy under ``seed``, and its return."""
    dialogue, earned = begin(task, seed), 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), *_ = advance(task, [dialogue], [says(dialogue)])
        earned += reward
    return dialogue, earned


def mean_return(task: RedTeam, says: Callable[[Dialogue], str], seeds: Sequence[int]) -> tuple[float, float, float]:
    """Return the mean return over ``seeds`` (at least 2), its standard error, and the share of successes."""
    played = [play(task, says, seed) for seed in seeds]
    returns = [earned for _, earned in played]
    error = statistics.stdev(returns) / math.sqrt(len(returns))
    return statistics.fmean(returns), error, statistics.fmean(dialogue.success for dialogue, _ in played)


def self_play(task: RedTeam, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an agent that chooses each attribute rightly with ``SKILL``, else at random."""
    dialogue = begin(task, draws.bits() >> 11)
    while not dialogue.stop_reason:
        right = oracle_act(task, dialogue)
        act = random_act(task, dialogue, draws)
        keep = [draws.uniform() < SKILL for _ in range(3)]
        line, manner, ask = (r if k else a for r, a, k in zip(right, act, keep, strict=False))
        (dialogue,), *_ = advance(task, [dialogue], [speak(task, dialogue, Act(line, manner, ask), draws)])
    return dialogue


def main(arguments: Sequence[str] | None = None) -> None:
    """Print mean return (with its 95% interval) and successes of the scripted policies."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.red_team", description=main.__doc__)
    parser.add_argument("--strength", default="mixed", choices=(*STRENGTHS, "mixed"))
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=HELD_OUT, help="first seed; the episodes have consecutive ones")
    parser.add_argument("--policy", help="one policy alone")
    options = parser.parse_args(arguments)
    task = RedTeam(options.strength, split=options.split)
    named = policies(task)
    if options.policy is not None and options.policy not in named:
        raise SystemExit(unknown("policy", options.policy, named).args[0])
    print(f"RedTeam-v0, {options.strength}, {options.episodes} episodes, seeds from {options.seed}")  # noqa: T201
    for name, says in named.items():
        if options.policy in (None, name):
            seeds = range(options.seed, options.seed + options.episodes)
            mean, error, won = mean_return(task, says, seeds)
            print(f"{name:<34} {mean:6.3f} ± {1.96 * error:.3f}   success {won:.3f}")  # noqa: T201

"""Scripted members for ``Society-v0``, what an attentive one knows, and self-play."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs.society import (
    ASKED_BACK,
    MEMBER,
    WRONG_CUE,
    WRONG_MOOD,
    WRONG_SIGN,
    Society,
)
from dialog_gym.envs.society_grid import SETTINGS
from dialog_gym.envs.society_language import (
    DEEDS,
    MOODS,
    TONES,
    VALUES,
    WANTS,
    WRONGS,
    Act,
    Comment,
    comments,
    cues,
    say,
    understand,
)
from dialog_gym.envs.society_norms import Question, alignment, comment_likelihood, pool, trusted
from dialog_gym.envs.society_phrases import TOPICS
from dialog_gym.rewards.base import Floats
from dialog_gym.rollout import bootstrap

Policy = Callable[[Dialogue], str]
SKILL = 0.35  # share of the choices that self-play makes rightly; the rest is free
_OPTIONS = {"deed": DEEDS, "value": VALUES, "mood": MOODS}
_TRUST: dict[str, float] = {"deed": 1 - WRONG_SIGN, "value": 1 - WRONG_CUE, "mood": 1 - WRONG_MOOD}


def speak(act: Act, dialogue: Dialogue) -> str:
    """Put an act into words, chosen by the dialogue's own chance."""
    return say(act, dialogue.draws(MEMBER))


# --- what a member can see ---------------------------------------------------------------------


class Belief(NamedTuple):
    """What the question and the comments tell.

    Attributes:
        deed: How probable it is that each deed is right.
        value: The same of the values.
        mood: And of the moods.
    """

    deed: dict[str, float]
    value: dict[str, float]
    mood: dict[str, float]

    @property
    def act(self) -> Act:
        """The most probable best answer."""
        deed, value, mood = (max(chances, key=lambda k: chances[k]) for chances in self)
        return Act((deed,), (), (value,), WANTS[mood])


_HYPOTHESES = [Question(next(iter(TOPICS)), deed, value, mood) for deed in DEEDS for value in VALUES for mood in MOODS]


def belief(dialogue: Dialogue, setting: str, *, comments_too: bool = True) -> Belief:
    """Return what an attentive member makes of the question and, by Bayes' rule, of what peers of a society say.

    Args:
        dialogue: As the member sees it; nothing hidden is used.
        setting: Of the society, which tells how good its peers are.
        comments_too: Whether comments are listened to.
    """
    # A likelihood is linear in the peer's quality, so that of the mean quality is the mean over all peers.
    good, chances, newest = trusted(setting), np.ones(len(_HYPOTHESES)), Act()
    for role, text in dialogue.turns:
        if role == MEMBER:
            newest = understand(text)
            continue
        for group, seen in cues(text):
            right = [getattr(h, group) == seen for h in _HYPOTHESES]
            chances *= np.where(right, _TRUST[group], (1 - _TRUST[group]) / (len(_OPTIONS[group]) - 1))
        for comment in comments(text) if comments_too else ():
            chances *= [_likelihood(h, newest, comment, good) for h in _HYPOTHESES]
    chances /= chances.sum()
    return Belief(*(_marginal(chances, group) for group in Belief._fields))


def _likelihood(question: Question, act: Act, comment: Comment, good: float) -> float:
    if comment.asker:
        return ASKED_BACK if comment.missed == question.value else (1 - ASKED_BACK) / (len(VALUES) - 1)
    return comment_likelihood(question, act, comment.missed, good)


def _marginal(chances: npt.NDArray[np.float64], group: str) -> dict[str, float]:
    return {
        option: float(sum(c for c, h in zip(chances, _HYPOTHESES, strict=True) if getattr(h, group) == option))
        for option in _OPTIONS[group]
    }


def facts(task: Society, dialogue: Dialogue) -> Floats:
    """Return how probable it is that each deed and value is right and that warmth is wanted, whether an answer was
    given, and the mean of the ratings heard last, from 0 (none) to 1.
    """  # noqa: D205
    known = belief(dialogue, task.setting)
    heard = [c.rating for c in comments(dialogue.turns[-1].text) if c.rating] if dialogue.turns else []
    numbers = [*known.deed.values(), *known.value.values(), known.mood["hurt"]]
    return np.array([*numbers, bool(task.given(dialogue)), np.mean(heard) / 7 if heard else 0.0], np.float32)


# --- policies ----------------------------------------------------------------------------------


def inferring(task: Society, dialogue: Dialogue) -> str:
    """Say the answer that is best as far as question and comments tell; sees nothing hidden."""
    return speak(belief(dialogue, task.setting).act, dialogue)


def asking(task: Society, dialogue: Dialogue) -> str:
    """Ask back in the draft, and then say what is best as far as one can tell."""
    act = belief(dialogue, task.setting).act
    return speak(act._replace(ask=task.given(dialogue) == 0), dialogue)


def deaf(task: Society, dialogue: Dialogue) -> str:
    """Say what is best by the question alone, whatever the peers say."""
    return speak(belief(dialogue, task.setting, comments_too=False).act, dialogue)


def obeying(task: Society, dialogue: Dialogue) -> str:
    """Do all that the peers miss."""
    known = belief(dialogue, task.setting, comments_too=False).act
    missed = [c.missed for c in comments(dialogue.turns[-1].text)]
    if not task.given(dialogue) or not missed:
        return speak(known, dialogue)
    told = [tuple(dict.fromkeys(m for m in missed if m in group)) for group in (DEEDS, WRONGS, VALUES)]
    tone = next((m for m in missed if m in TONES), known.tone)
    return speak(Act(told[0] or known.deeds, told[1], told[2] or known.values, tone), dialogue)


@lru_cache(maxsize=8)
def best_constant(split: str) -> Act:
    """Return the answer that is worth most when it is given to every question of ``split``."""
    options = [
        Act(deeds, (), values, tone)
        for deeds in ((), *((deed,) for deed in DEEDS))
        for values in ((), *((value,) for value in VALUES))
        for tone in ("plain", "warm")
    ]
    return max(options, key=lambda act: sum(alignment(question, act) for question in pool(split)))


def random_act(draws: Draws, question: Question | None = None) -> Act:
    """Return an act at random; with a ``question``, each choice is right with probability ``SKILL``."""

    def pick(options: Sequence[str], right: str) -> str:
        return right if question is not None and draws.uniform() < SKILL else draws.choice(options)

    deed = pick((*DEEDS, *WRONGS, ""), question.deed if question else "")
    value = pick((*VALUES, ""), question.value if question else "")
    tone = pick(TONES, WANTS[question.mood] if question else "")
    deeds, wrongs = ((deed,) if deed in DEEDS else ()), ((deed,) if deed in WRONGS else ())
    filler = int(draws.uniform() < 0.2)
    return Act(deeds, wrongs, (value,) if value else (), tone, draws.uniform() < 0.2, filler)


def policies(task: Society) -> dict[str, Policy]:
    """Return the scripted policies by name."""
    return {
        "oracle": task.oracle,
        "infers": partial(inferring, task),
        "asks": partial(asking, task),
        "deaf": partial(deaf, task),
        "obeys": partial(obeying, task),
        "constant": lambda dialogue: speak(best_constant(task.split), dialogue),
        "random": lambda dialogue: speak(random_act(dialogue.draws("choice")), dialogue),
    }


# --- playing -----------------------------------------------------------------------------------


def play(task: Society, policy: Policy, seed: int) -> tuple[Dialogue, float]:
    """Return the finished dialogue of ``policy`` under ``seed``, and its return."""
    dialogue, earned = begin(task, seed), 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), *_ = advance(task, [dialogue], [policy(dialogue)])
        earned += reward
    return dialogue, earned


def self_play(task: Society, draws: Draws) -> Dialogue:
    """Return a finished dialogue of a member of mixed quality."""
    dialogue = begin(task, draws.bits() >> 11)
    question = task.question(dialogue)
    while not dialogue.stop_reason:
        (dialogue,), *_ = advance(task, [dialogue], [say(random_act(draws, question), draws)])
    return dialogue


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what every scripted policy earns."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.society", description=main.__doc__)
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--setting", default="mixed_half_half", choices=SETTINGS)
    parser.add_argument("--revisions", type=int, default=1)
    parser.add_argument("--misaligned", action="store_true")
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1_000_000, help="first seed; the episodes have consecutive ones")
    options = parser.parse_args(arguments)
    task = Society(
        split=options.split, setting=options.setting, revisions=options.revisions, misaligned=options.misaligned
    )
    print(  # noqa: T201
        f"Society-v0, {options.split}, {options.setting}, {options.revisions} revisions, {options.episodes} episodes, "
        f"seeds from {options.seed}"
    )
    print(f"{'policy':<10} {'reward':>7} {'95% interval':>15} {'success':>7} {'first':>6} {'last':>6}")  # noqa: T201
    for name, policy in task.policies().items():
        played = [play(task, policy, options.seed + k) for k in range(options.episodes)]
        earned = [reward for _, reward in played]
        low, high = bootstrap(earned)
        ends = [[task.truth(d, text)[0] for text in d.texts(MEMBER)[-task.answers :]] for d, _ in played]
        first, last = np.mean([end[0] for end in ends]), np.mean([end[-1] for end in ends])
        print(  # noqa: T201
            f"{name:<10} {np.mean(earned):7.3f} {f'{low:.3f} .. {high:.3f}':>15} "
            f"{np.mean([d.success for d, _ in played]):7.2f} {first:6.3f} {last:6.3f}"
        )

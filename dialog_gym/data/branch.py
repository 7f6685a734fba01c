"""Branch dialogues: fork a state, say several things in it, and see what each is worth.

Each candidate is scored on ``plays`` copies of the state that differ in the partner's chance to come
(``Dialogue.seed``), the same copies for all candidates of a state: their differences are known better than the
standard errors of the scores say. All candidates of many states are stepped in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym import rollout
from dialog_gym.data.collect import Actor
from dialog_gym.data.rankings import Ranking
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance
from dialog_gym.errors import unknown
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.rewards.base import Reward, checked
from dialog_gym.task import Task

Floats = npt.NDArray[np.float64]

Talker = Callable[[Sequence[Dialogue]], list[str]]
"""What is said for the agent in each dialogue, none of them over, as one batch; chance by the dialogue's seed."""

BATCH = 512  # dialogues that are stepped, and prompts that are put to a model, at once
_SEEDS = 2**53


def talker(task: Task, name: str, *, lm: str = "tiny", temperature: float = 1.0, max_tokens: int = 32) -> Talker:
    """Return who speaks for the agent in ``task``.

    Args:
        task: What is played.
        name: ``oracle``, a scripted policy of the world, ``lm`` (greedy) or ``lm-sampled``.
        lm: The language model, or its spec.
        temperature: Of ``lm-sampled``.
        max_tokens: Longest utterance of a model.

    Raises:
        KeyError: Nobody is called that; the message names the nearest.
    """
    scripts = {**(task.policies() if hasattr(task, "policies") else {}), "oracle": task.oracle}
    if name in scripts:
        return lambda dialogues: [scripts[name](dialogue) for dialogue in dialogues]
    if name not in ("lm", "lm-sampled"):
        raise unknown("policy", name, {"lm", "lm-sampled", *scripts})
    return model_talker(task, lm, Sampling(max_tokens, temperature if name == "lm-sampled" else 0.0))


def model_talker(task: Task, lm: str | LanguageModel, sampling: Sampling) -> Talker:
    """Return a language model, or its spec, as a talker."""
    from dialog_gym.errors import naming
    from dialog_gym.lm import load
    from dialog_gym.lm.wording import Wording

    model = load(lm) if isinstance(lm, str) else lm
    wording, agent = Wording(task, model), task.roles[0]

    def talk(dialogues: Sequence[Dialogue]) -> list[str]:
        said: list[str] = []
        for start in range(0, len(dialogues), BATCH):
            batch = dialogues[start : start + BATCH]
            prompts = [wording.messages(dialogue, agent) for dialogue in batch]
            seeds = [dialogue.draws("speech").bits() >> 1 for dialogue in batch]
            with naming("a candidate", batch):
                answers = model.generate(prompts, sampling, seeds=seeds)
            said += [wording.utterance(d, answer.text) for d, answer in zip(batch, answers, strict=True)]
        return said

    return talk


class State(NamedTuple):
    """A dialogue in which the agent is to speak, and the seed of the episode it was found in."""

    seed: int
    dialogue: Dialogue


def reached(who: Actor, episodes: int, *, seed: int = 0, per_episode: int = 1) -> Iterator[list[State]]:
    """Yield the states that a policy reaches, a list for each episode, in the order of the seeds.

    Args:
        who: The policy.
        episodes: How many dialogues it plays; episode ``k`` is seeded ``seed + k``.
        seed: Of the first.
        per_episode: How many of the agent's turns are taken, drawn without preference; 0: all.
    """
    seen: dict[int, list[Dialogue]] = {}

    def watching(observations: object, infos: dict[str, list[Dialogue]]) -> object:
        for dialogue in infos["dialogue"]:
            if not dialogue.stop_reason:
                seen.setdefault(dialogue.seed, []).append(dialogue)
        return who.policy(observations, infos)

    waiting: dict[int, list[State]] = {}
    following = 0
    for k, episode in rollout.play(watching, who.rows, episodes, seed=seed):  # type: ignore[arg-type]
        dialogues = seen.pop(episode.dialogue.seed)
        draws = Draws(episode.seed, "fork")
        while 0 < per_episode < len(dialogues):
            dialogues.pop(draws.integer(0, len(dialogues)))
        waiting[k] = [State(episode.seed, dialogue) for dialogue in dialogues]
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def candidates(
    task: Task, dialogues: Sequence[Dialogue], talkers: Sequence[Talker], k: int, *, rounds: int = 4
) -> list[tuple[str, ...]]:
    """Return up to ``k`` different utterances for each dialogue.

    The talkers take turns, each time with fresh chance. What is a repetition is asked for again, in up to ``rounds``
    rounds of one batch per talker; who always says the same thus gives one candidate.
    """
    if k < 2 or not talkers:
        raise ValueError(f"expected at least 2 candidates from at least 1 talker, got {k} from {len(talkers)}")
    found: list[dict[str, None]] = [{} for _ in dialogues]
    for attempt in range(rounds):
        asked: list[list[tuple[int, Dialogue]]] = [[] for _ in talkers]
        for i, dialogue in enumerate(dialogues):
            for place in range(len(found[i]), k):
                fresh = dialogue.draws("candidate", attempt, place).bits() % _SEEDS
                asked[(place + attempt) % len(talkers)].append((i, replace(dialogue, seed=fresh)))
        for talk, asks in zip(talkers, asked, strict=True):
            texts = talk([dialogue for _, dialogue in asks]) if asks else []
            for (i, _), text in zip(asks, texts, strict=True):
                found[i].setdefault(text[: task.max_chars])
    return [tuple(texts) for texts in found]


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored.

    Attributes:
        plays: Copies of the state, with fresh chance, that each candidate is tried on.
        by: Who goes on after the candidate until the dialogue ends: the score is the mean return (undiscounted).
            None: nobody, the score is the mean reward of the next step.
        reward: Rewards each turn instead of the task's own.
    """

    plays: int = 16
    by: Talker | None = None
    reward: Reward | None = None

    def __post_init__(self) -> None:
        """Refuse no plays."""
        if self.plays < 1:
            raise ValueError(f"plays must be at least 1, got {self.plays}")


def scores(
    task: Task, dialogues: Sequence[Dialogue], said: Sequence[Sequence[str]], scoring: Scoring
) -> list[tuple[Floats, Floats]]:
    """Return what candidates earn and cost on every copy of their state, each of shape ``(candidates, plays)``.

    Args:
        task: What is played.
        dialogues: The states.
        said: The candidates of each.
        scoring: How often, who goes on, and what is rewarded.
    """
    fresh = [[d.draws("branch", play).bits() % _SEEDS for play in range(scoring.plays)] for d in dialogues]
    tries = [
        (replace(dialogue, seed=seed), text)
        for dialogue, seeds, texts in zip(dialogues, fresh, said, strict=True)
        for text in texts
        for seed in seeds
    ]
    chunks = [_returns(task, tries[start : start + BATCH], scoring) for start in range(0, len(tries), BATCH)]
    shapes = [(len(texts), scoring.plays) for texts in said]
    ends = np.cumsum([count * plays for count, plays in shapes])[:-1]
    earned, spent = (np.split(np.concatenate(part), ends) for part in zip(*chunks, strict=True))
    return [(e.reshape(shape), s.reshape(shape)) for e, s, shape in zip(earned, spent, shapes, strict=True)]


def _returns(task: Task, tries: Sequence[tuple[Dialogue, str]], scoring: Scoring) -> tuple[Floats, Floats]:
    """Return what the agent earns and costs from each utterance on, each of shape ``(len(tries),)``."""
    earned, spent = np.zeros(len(tries)), np.zeros(len(tries))
    dialogues = [dialogue for dialogue, _ in tries]
    texts, live = [text for _, text in tries], list(range(len(tries)))
    while live:
        after = advance(task, [dialogues[i] for i in live], texts)
        earned[live] += after.rewards if scoring.reward is None else checked(scoring.reward, after.dialogues)
        spent[live] += after.costs
        if scoring.by is None:
            break
        for i, dialogue in zip(live, after.dialogues, strict=True):
            dialogues[i] = dialogue
        live = [i for i in live if not dialogues[i].stop_reason]
        texts = [text[: task.max_chars] for text in scoring.by([dialogues[i] for i in live])] if live else []
    return earned, spent


def branch(
    task: Task, dialogues: Sequence[Dialogue], talkers: Sequence[Talker], k: int, scoring: Scoring
) -> list[Ranking | None]:
    """Return the ranking of each dialogue, best candidate first; None where only one thing was ever said.

    ``Ranking.more`` has ``cost``, and ``error``, the standard error of the score, where there are several plays.

    Raises:
        ValueError: A dialogue is over.
    """
    if over := [d.seed for d in dialogues if d.stop_reason]:
        raise ValueError(f"nothing can be said in a dialogue that is over, as that with seed {over[0]} is")
    said = candidates(task, dialogues, talkers, k)
    kept = [i for i, texts in enumerate(said) if len(texts) > 1]
    found: list[Ranking | None] = [None] * len(dialogues)
    if kept:
        played = scores(task, [dialogues[i] for i in kept], [said[i] for i in kept], scoring)
        for i, (earned, spent) in zip(kept, played, strict=True):
            found[i] = _ranking(dialogues[i], said[i], earned, spent)
    return found


def _ranking(dialogue: Dialogue, texts: Sequence[str], earned: Floats, spent: Floats) -> Ranking:
    means, plays = earned.mean(axis=1), earned.shape[1]
    best = np.argsort(-means, kind="stable")
    more = {"cost": spent.mean(axis=1)}
    if plays > 1:
        more["error"] = earned.std(axis=1, ddof=1) / np.sqrt(plays)
    return Ranking(
        tuple(dialogue.messages(dialogue.roles[0])),
        tuple(texts[i] for i in best),
        tuple(means[best].tolist()),
        {name: tuple(values[best].tolist()) for name, values in more.items()},
        dialogue,
    )

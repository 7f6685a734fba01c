"""What ``dialog_gym.benchmarks.stable_alignment`` learns from, and who leads astray.

*Data* of ``Society-v0``: drafts and revisions of simulated societies, as their observers rated them. Of any other
world: questions of the training split, each with answers from bad to good, those of the language model (sampled) and
of the world's random policy by turns; where an episode has several answers, half of the questions are about the second
one. An observer rates every answer from 1 to 7, by the world's truth with the noise of one point, as in a society.

*Alignment* of an answer, in [0, 1]: in ``Society-v0`` as the world says; in ``Advice-v0`` helpfulness less harm, at
least 0. ``truth`` gives both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dialog_gym import checkpoint
from dialog_gym.agents.lm_data import task_of
from dialog_gym.data.branch import Talker, candidates, talker
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.exchange import import_rows
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.society import IMITATION, Ratios, build, rounds_of
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.tracking import progress_bar
from dialog_gym.wrappers.misaligned import Source

HARMFUL = "Advice"  # worlds whose truth is helpfulness and harm; of others it is alignment and something else
NOISE = 1.0  # standard deviation of the observer's ratings, as that of Society-v0
WORST_OF = 16  # answers of the random policy, of which the worst leads astray
TOGETHER = 128  # questions that are answered in one batch


def alignment(task: Any, dialogue: Dialogue, text: str) -> float:
    """Return how well ``text`` keeps to the norms as an answer in ``dialogue``, in [0, 1]."""
    good, other = task.truth(dialogue, text)
    return float(max(good - other, 0.0) if type(task).__name__ == HARMFUL else good)


def observed(score: float, draws: Draws) -> float:
    """Return an observer's rating, a whole number from 1 to 7, of what is aligned by ``score`` in [0, 1].

    >>> [observed(score, Draws(0, "rating")) for score in (0.0, 0.5, 1.0)]
    [1.0, 4.0, 7.0]
    """
    return float(min(max(round(1 + 6 * score + NOISE * draws.normal()), 1), 7))


def rated(
    task: Any, dialogues: Sequence[Dialogue], talkers: Sequence[Talker], k: int, meta: Mapping[str, Any]
) -> Iterator[Ranking]:
    """Yield the answers to each question with their ratings; not the empty one, and none where there is only one."""
    for dialogue, said in zip(dialogues, candidates(task, dialogues, talkers, k), strict=True):
        if len(texts := tuple(text for text in said if text.strip())) > 1:
            true = [alignment(task, dialogue, text) for text in texts]
            scores = [observed(score, dialogue.draws("observer", place)) for place, score in enumerate(true)]
            chat = tuple(dialogue.messages(dialogue.roles[0]))
            told = {**meta, "seed": dialogue.seed, "turn": dialogue.turn, "type": IMITATION}
            yield Ranking(chat, texts, tuple(scores), {"alignment": tuple(true)}, dialogue, told)


def make_data(
    folder: Path, env: str, env_kwargs: Mapping[str, Any], lm: str, questions: int, k: int, seed: int, progress: bool
) -> Rankings:
    """Write rated answers to the questions of seeds ``seed`` and following, unless they are there."""
    if folder.exists():
        return Rankings.load(folder)
    task: Any = task_of(env, env_kwargs, by_text=True)
    talkers = [talker(task, name, lm=lm) for name in ("lm-sampled", "random")]

    def rows() -> Iterator[Ranking]:
        with progress_bar("answers", questions, show=progress) as update:
            for first in range(0, questions, TOGETHER):
                numbers = range(first, min(first + TOGETHER, questions))
                dialogues = _reached(task, [begin(task, seed + number) for number in numbers], talkers)
                yield from rated(task, dialogues, talkers, k, {"env": env, "env_kwargs": dict(env_kwargs)})
                update(numbers.stop, {})

    return import_rows(Rankings, rows(), folder)


def make_society(folder: Path, worlds: int, agents: int, rounds: int, questions: int, seed: int) -> Rankings:
    """Simulate societies of the four initial settings by turns, and write their imitation data, unless it is there.

    Each has its own questions of the training split. Data of the other types are in plain words, which only some of
    the methods could learn from; they are left out, so that all learn from the same.
    """
    from dialog_gym.envs.society_grid import SETTINGS
    from dialog_gym.envs.society_settings import Settings
    from dialog_gym.envs.society_simulation import simulate

    if folder.exists():
        return Rankings.load(folder)
    rows: list[Ranking] = []
    for number in range(worlds):
        place, setting = folder.parent / "worlds" / f"{number}", sorted(SETTINGS)[number % len(SETTINGS)]
        simulate(place, Settings(agents, setting, seed=seed + number, questions=questions), rounds)
        rounds_ = rounds_of(Rankings.load(place / "rankings"), str(place))
        rows += build(rounds_, Ratios(0.0, 0.0))[0]
    return import_rows(Rankings, rows, folder)


def _reached(task: Any, dialogues: Sequence[Dialogue], talkers: Sequence[Talker]) -> list[Dialogue]:
    """Return every other dialogue after one answer of the model, where that is not its end."""
    said = talkers[0](dialogues)
    after = advance(task, dialogues, said).dialogues
    return [
        then if number % 2 and not then.stop_reason else now
        for number, (now, then) in enumerate(zip(dialogues, after, strict=True))
    ]


def misaligned(task: Any) -> Source:
    """Return who answers worst: of several random answers the one that does most harm, or is least aligned."""

    def answer(dialogue: Dialogue) -> str:
        draws = dialogue.draws("misaligned")
        copies = [replace(dialogue, seed=draws.bits() >> 11) for _ in range(WORST_OF)]
        texts = [task.policies()["random"](copy) for copy in copies]
        worst: str = min((text for text in texts if text.strip()), key=partial(_worth, task, dialogue))
        return worst

    return answer


def _worth(task: Any, dialogue: Dialogue, text: str) -> tuple[float, float]:
    """Return what orders answers from the worst: the harm where there is one, then what is good."""
    good, other = task.truth(dialogue, text)
    return (-other, good) if type(task).__name__ == HARMFUL else (good, 0.0)


def make_speaker(
    folder: Path, env: str, env_kwargs: Mapping[str, Any], dialogues: int, epochs: float, progress: bool
) -> str:
    """Fit a small language model on self-play of the world, unless it is there, and return its spec."""
    from dialog_gym.lm import speaker_corpus
    from dialog_gym.lm.speaker_build import Options, build

    task: Any = task_of(env, env_kwargs, by_text=True)
    played = folder / "self-play"
    if not played.exists():
        import_rows(Episodes, (_recorded(task, number) for number in range(dialogues)), played)
    told = json.loads(json.dumps(dict(env_kwargs)))
    options = Options(
        speaker_corpus.Source("", str(played)),
        folder / "model",
        env,
        told,
        epochs=epochs,
        context=256,
        progress=progress,
    )
    report = build(options)
    checkpoint.write_json(folder / "report.json", report)
    return f"hf:{folder / 'model'}"


def _recorded(task: Any, number: int) -> Recorded:
    dialogue = task.self_play(Draws(number, "self-play"))
    zeros = (0.0,) * dialogue.turn
    return Recorded(number, dialogue, zeros, zeros, policy="self-play")

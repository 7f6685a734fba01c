"""Data sets as a language-model policy is put them.

``read_data`` turns a data set into ``Told`` values: the prompt before each agent turn, what was said there, what it
earned. Sources are folders of ``Episodes`` or ``Rankings``, corpora (``corpus:NAME:PATH?OPTION=VALUE``), and files of
JSON lines (``dialog_gym.data.exchange``). Episodes of an environment are worded by its task (``Task.messages``), as
for a model that acts in it; all else in the words as they stand. ``dialog_gym.agents.lm_tokens`` makes tokens of them.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gymnasium.spaces import Text

from dialog_gym import baselines, rollout
from dialog_gym.data import used
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.corpora.spec import CORPUS, parse_corpus
from dialog_gym.data.episodes import Recorded
from dialog_gym.data.exchange import read_table
from dialog_gym.data.rankings import Ranking
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import Messages
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.lm.wording import Wording
from dialog_gym.task import Task

Words = Callable[[Dialogue], list[dict[str, str]]]
"""Puts a dialogue to a model."""


@dataclass(frozen=True)
class Told:
    """A dialogue as a model is put it.

    Attributes:
        prompts: The chat before each agent turn.
        replies: What the agent said there.
        rewards: What each of these turns earned.
        truncated: Whether the dialogue ran out of turns, and would have gone on.
        played: Whether it was played in an environment, where to say nothing is a turn too.
        group: Number of the context; what shares one (candidates of a ranking) is never half held out.
        ranked: Whether it is one candidate of a ranking: a reply, with a score, in a context that is only read.
        origin: Where it is from, for messages.
    """

    prompts: tuple[Messages, ...]
    replies: tuple[str, ...]
    rewards: tuple[float, ...]
    truncated: bool = False
    played: bool = False
    group: int = 0
    ranked: bool = False
    origin: str = ""

    @property
    def total(self) -> float:
        """The return, undiscounted."""
        return float(sum(self.rewards))


class Wordings:
    """Words dialogues for a model; each task is made once."""

    def __init__(self, lm: TransformersLM, task: Task | None) -> None:
        """Word for ``lm``; ``task`` words what tells no environment."""
        self.lm, self.task = lm, task
        self._wordings: dict[str, Wording] = {}

    def words(self, env: str, env_kwargs: Mapping[str, Any], dialogue: Dialogue) -> Words:
        """Return what puts ``dialogue``, and each beginning of it, to the model as its agent's role."""
        agent = dialogue.roles[0]
        if env:
            wording = self._of(env, env_kwargs)
        elif self.task is not None and self.task.roles == dialogue.roles and dialogue.state:
            wording = Wording(self.task, self.lm)
        else:
            return lambda part: part.messages(agent)
        return lambda part: wording.messages(part, agent)

    def _of(self, env: str, env_kwargs: Mapping[str, Any]) -> Wording:
        key = json.dumps([env, dict(env_kwargs)], sort_keys=True)
        if key not in self._wordings:
            self._wordings[key] = Wording(task_of(env, env_kwargs), self.lm)
        return self._wordings[key]


# --- reading -----------------------------------------------------------------------------------


def read_data(data: Iterable[str | Path], lm: TransformersLM, task: Task | None = None) -> Iterator[Told]:
    """Yield every dialogue of ``data`` as ``lm`` is put it; of a ranking each candidate, with its score as reward.

    Args:
        data: Folders, files of JSON lines, or ``corpus:NAME:PATH?OPTION=VALUE`` (options of the corpus' reader).
        lm: The model that is to learn; whether it knows a task's notation decides what it reads.
        task: Words rankings that do not tell their environment.

    Raises:
        DatasetError: Data cannot be read, a reward is no finite number, or there is not one for each agent turn.
    """
    reading, group = Wordings(lm, task), 0
    for source in data:
        for number, row in enumerate(read_rows(str(source))):
            origin = f"row {number} of {source}"
            yield from _told(row, reading, origin, group)
            group += 1


def data_files(data: Iterable[str]) -> tuple[str, ...]:
    """Return the data sets and files that ``data`` names, whose content a run notes in its configuration."""
    found: list[str] = []
    for source in data:
        path = Path(parse_corpus(source).path if source.startswith(CORPUS) else source)
        inside = source.startswith(CORPUS) and path.is_dir()
        found += sorted(str(file) for file in path.rglob("*") if file.is_file()) if inside else [str(path)]
    return tuple(found)


def task_of(env: str, env_kwargs: Mapping[str, Any], *, by_text: bool = False) -> Task:
    """Return the task that is played in an environment, text or prefix; ``by_text`` refuses prefix environments.

    Raises:
        ValueError: It is no environment of dialogues, does not take the arguments, or its actions are no text.
    """
    try:
        rows = rollout.make_rows(env, 1, env_kwargs)
    except TypeError as error:
        raise ValueError(f"{env} cannot be made with {dict(env_kwargs)}: {baselines.reason(error)}") from error
    try:
        if by_text and not isinstance(rows.single_action_space, Text):
            raise ValueError(
                f"{env}: expected actions that are text, got {rows.single_action_space}; a language model speaks "
                "itself, in the environment without 'Prefix' in its name"
            )
        return baselines.text_rows(rows).task
    finally:
        rows.close()


def agent_turns(dialogue: Dialogue, words: Words) -> tuple[list[Messages], list[str]]:
    """Return the prompt before each agent turn, and what was said there, both as ``words`` puts them."""
    places = [place for place, turn in enumerate(dialogue.turns) if turn.role == dialogue.roles[0]]
    prompts: list[Messages] = [words(_until(dialogue, place)) for place in places]
    return prompts, [words(_until(dialogue, place + 1))[-1]["content"] for place in places]


def returns_to_go(rewards: Sequence[float], gamma: float) -> list[float]:
    """Return what each turn and those after it earn, discounted per turn.

    >>> returns_to_go([1.0, 0.0, 4.0], 0.5)
    [2.0, 2.0, 4.0]
    """
    found: list[float] = []
    for reward in reversed(rewards):
        found.append(reward + gamma * (found[-1] if found else 0.0))
    return found[::-1]


def read_rows(source: str) -> Iterator[Recorded | Ranking]:
    """Yield the rows of a folder, a file of JSON lines or a corpus.

    Raises:
        DatasetError: There is no such data, or it cannot be read.
    """
    if source.startswith(CORPUS):
        from dialog_gym.data.corpora import read_corpus

        name, path, options = parse_corpus(source)
        yield from read_corpus(name, path, **options)
    elif Path(source).is_dir():
        yield from used.load(source)
    elif Path(source).is_file():
        with tempfile.TemporaryDirectory() as folder:
            yield from read_table(source, Path(folder) / "rows")
    else:
        raise DatasetError(
            f"there is no data {source!r}: give the folder of a data set (`dialog-gym collect` makes one), a file of "
            f"JSON lines, or {CORPUS}NAME:PATH"
        )


def _told(row: Recorded | Ranking, reading: Wordings, origin: str, group: int) -> Iterator[Told]:
    if isinstance(row, Ranking):
        yield from told_ranking(row, reading, origin, group)
        return
    dialogue = row.dialogue
    prompts, replies = agent_turns(dialogue, reading.words(row.env, row.env_kwargs, dialogue))
    origin = f"{origin} (seed {row.seed})"
    rewards = _checked(row.rewards, len(prompts), origin)
    truncated = dialogue.stop_reason == "max_turns"
    if prompts:
        yield Told(tuple(prompts), tuple(replies), rewards, truncated, bool(row.env), group, origin=origin)


def told_ranking(row: Ranking, reading: Wordings, origin: str, group: int) -> Iterator[Told]:
    """Yield each candidate of ``row``, its score as reward; arguments as in ``Told``.

    Raises:
        DatasetError: A score is no finite number.
    """
    scores = _checked(row.scores, len(row.candidates), origin)
    dialogue = row.dialogue
    for number, (text, score) in enumerate(zip(row.candidates, scores, strict=True)):
        if dialogue is None:
            prompt, reply = [dict(message) for message in row.messages], text
        else:
            words = reading.words(str(row.meta.get("env", "")), row.meta.get("env_kwargs", {}), dialogue)
            prompt = words(dialogue)
            reply = words(dialogue.said(dialogue.roles[0], text))[-1]["content"]
        yield Told((prompt,), (reply,), (score,), group=group, ranked=True, origin=f"candidate {number} in {origin}")


def _until(dialogue: Dialogue, place: int) -> Dialogue:
    """Return the dialogue as it was before turn ``place``; its state is the last one, which no notation may read."""
    return replace(dialogue, turns=dialogue.turns[:place], stop_reason="", success=False, turn=-1)


def _checked(rewards: Sequence[float], count: int, origin: str) -> tuple[float, ...]:
    numbers = tuple(float(reward) for reward in rewards)
    if len(numbers) != count:
        raise DatasetError(f"{origin}: expected {count} rewards, one for each agent turn, got {len(numbers)}")
    if not all(map(math.isfinite, numbers)):
        raise DatasetError(f"{origin}: expected rewards that are finite numbers, got {numbers}; mend or remove it")
    return numbers

"""A language model as judge: a reward by a rubric.

A judge never makes a number up. An answer that is not exactly what was asked for is shown to the model once more
with what was wrong; if the second answer fails too, ``LanguageModelError`` names the judge and the dialogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm import load
from dialog_gym.lm.answers import Retracting
from dialog_gym.lm.base import Generation, LanguageModel, Sampling, Schema
from dialog_gym.rewards.base import Floats, Reward, Scored
from dialog_gym.rewards.judge_prompt import Prompt, score_prompt
from dialog_gym.rewards.other import with_reward
from dialog_gym.rewards.rubric import AnswerError, Rubric, Verdict, find_rubric, unfenced
from dialog_gym.task import Task

T = TypeVar("T")


class Examiner:
    """Puts questions to a model, all in one call, and reads the answers strictly.

    Attributes:
        lm: The model.
        name: Of the judge, for errors.
    """

    def __init__(self, lm: LanguageModel | str, name: str, max_tokens: int) -> None:
        """Ask ``lm``, a model or its spec, greedily; an answer has at most ``max_tokens`` tokens."""
        self.lm = load(lm) if isinstance(lm, str) else lm
        self.name = name
        self.sampling = Sampling(max_tokens)

    def ask(self, prompts: Sequence[Prompt], schema: Schema, read: Callable[[str], T]) -> list[T]:
        """Return what ``read`` makes of the answer to each prompt.

        Args:
            prompts: One batched call of the model is made for all, and a second one for those that it answered badly.
            schema: Of the answers; held to where the model supports ``"json"``.
            read: Raises ``AnswerError`` where an answer is not what was asked for.

        Raises:
            LanguageModelError: The model failed, or answered badly twice.
        """
        found: dict[int, T] = {}
        asked = dict(enumerate(prompts))
        for _ in range(2):
            refused: dict[int, str] = {}
            again: dict[int, Prompt] = {}
            for index, answer in zip(asked, self._answers(list(asked.values()), schema), strict=True):
                try:
                    found[index] = self._read(answer, prompts[index], read)
                except AnswerError as error:
                    refused[index] = f"{error} (it said {answer.text!r:.200})"
                    again[index] = prompts[index].again(answer.text, error)
            if not refused:
                return [found[index] for index in range(len(prompts))]
            unusable = [asked[index] for index in refused]
            asked = again
        self._retract([*(prompts[index] for index in refused), *unusable], schema)
        raise self._no_verdict(prompts, refused)

    def _no_verdict(self, prompts: Sequence[Prompt], refused: Mapping[int, str]) -> LanguageModelError:
        index, why = next(iter(refused.items()))
        others = f"; so it was with {len(refused) - 1} others asked about at the same time" if len(refused) > 1 else ""
        return LanguageModelError(
            f"judge {self.name!r} ({self.lm.name}) gave no verdict on {prompts[index].about}, asked twice: "
            f"{why}{others}"
        )

    def _answers(self, prompts: Sequence[Prompt], schema: Schema) -> list[Generation]:
        try:
            return self.lm.generate(_chats(prompts), self.sampling, schema=self._held(schema))
        except LanguageModelError as error:
            about = f"one of {len(prompts)} dialogues" if error.prompt is None else prompts[error.prompt].about
            raise LanguageModelError(f"judge {self.name!r} could not judge {about}: {error}") from error

    def _retract(self, prompts: Sequence[Prompt], schema: Schema) -> None:
        """Let no cache keep what was of no use, or the same evaluation would fail for ever."""
        if isinstance(self.lm, Retracting):
            self.lm.retract(_chats(prompts), self.sampling, schema=self._held(schema))

    def _held(self, schema: Schema) -> Schema | None:
        return schema if "json" in self.lm.supports else None

    def _read(self, answer: Generation, prompt: Prompt, read: Callable[[str], T]) -> T:
        if answer.stop == "length":
            raise AnswerError(f"the answer was cut after {self.sampling.max_tokens} tokens; be shorter")
        verdict = read(answer.text)
        copy = _solid(unfenced(answer.text))
        if any(copy in _solid(text) for text in prompt.texts):
            raise AnswerError("the answer is a copy of what was said in the dialogue, not a verdict on it")
        return verdict


class Judge(Reward):
    """Score dialogues by a rubric: the mean of its dimensions, each reported in ``info["reward_terms"]``.

    The terms are ``NAME`` and ``NAME/DIMENSION``. Where nothing is to be judged yet, all are 0.

    Attributes:
        lm: The model that judges; ``lm.counts`` tells what it has cost.
        rubric: What is scored.
        when: See the constructor.
    """

    def __init__(
        self,
        lm: LanguageModel | str,
        rubric: Rubric | str = "goal",
        *,
        when: Literal["end", "turn"] = "end",
        name: str = "judge",
        max_tokens: int = 1024,
        reasoning_chars: int = 600,
    ) -> None:
        """Let ``lm`` judge.

        Args:
            lm: A language model or its spec. It answers greedily, so an answer cache saves every repetition.
            rubric: A rubric or the name of one in ``dialog_gym.rewards.rubric.RUBRICS``.
            when: ``"end"`` judges the whole dialogue at its last turn, ``"turn"`` every newest turn of the agent.
            name: Of this reward.
            max_tokens: Longest answer.
            reasoning_chars: Longest explanation, for models that hold to a JSON schema.

        Raises:
            KeyError: There is no such rubric.
            ValueError: ``when`` is unknown, or there is no such model.
        """
        if when not in ("end", "turn"):
            raise ValueError(f"when must be 'end' or 'turn', got {when!r}")
        self.rubric = find_rubric(rubric)
        self.when = when
        self.name = name
        # A dialogue that is not judged yet earns 0.
        self.low, self.high = self.rubric.low, self.rubric.high
        if when == "end":
            self.low, self.high = min(0.0, self.low), max(0.0, self.high)
        self._schema = self.rubric.schema(reasoning_chars)
        self._examiner = Examiner(lm, name, max_tokens)
        self.lm = self._examiner.lm

    @property
    def terms(self) -> tuple[str, ...]:
        """The score itself, and that of each dimension."""
        return (self.name, *(f"{self.name}/{dimension.name}" for dimension in self.rubric.dimensions))

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the mean score of each dialogue, 0 where nothing is to be judged yet."""
        return self.scored(dialogues).scores

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return the mean score and those of the dimensions.

        Raises:
            LanguageModelError: A dialogue could not be judged.
        """
        due = [i for i, dialogue in enumerate(dialogues) if self.when == "turn" or dialogue.stop_reason]
        table = np.zeros((len(self.terms), len(dialogues)), np.float32)
        for i, verdict in zip(due, self.verdicts([dialogues[i] for i in due]), strict=True):
            table[:, i] = (verdict.score, *verdict.scores.values())
        return Scored(table[0], dict(zip(self.terms, table, strict=True)))

    def verdicts(self, dialogues: Sequence[Dialogue]) -> list[Verdict]:
        """Return what the judge says of each dialogue, whether it is over or not; one batched call.

        Raises:
            LanguageModelError: A dialogue could not be judged.
            ValueError: The newest turn is to be judged where the agent has said nothing.
        """
        if self.when == "turn" and not all(dialogue.turn for dialogue in dialogues):
            raise ValueError("there is no newest turn to judge in a dialogue whose agent has said nothing yet")
        prompts = [score_prompt(dialogue, self.rubric, self.when) for dialogue in dialogues]
        return self._examiner.ask(prompts, self._schema, self.rubric.read) if prompts else []


def rewarded_by_judge(task: Task, judge: Reward | LanguageModel | str | None, rubric: Rubric | str | None) -> Task:
    """Return a copy of ``task`` whose reward is that of ``judge`` at the end; the task's own is still reported.

    Args:
        task: What is played.
        judge: A language model or its spec, or any reward.
        rubric: What a model judges; default: ``"goal"``.

    Raises:
        ValueError: There is no judge for the rubric, or the judge has a rubric already.
    """
    if judge is None or (isinstance(judge, Reward) and rubric is not None):
        have = "no judge" if judge is None else f"reward {judge.name!r} as judge, which knows what it scores"
        raise ValueError(f"a rubric goes with a language model that judges (judge='openai:MODEL@URL'), got {have}")
    return with_reward(task, judge if isinstance(judge, Reward) else Judge(judge, rubric or "goal"))


def _chats(prompts: Sequence[Prompt]) -> list[list[dict[str, str]]]:
    return [prompt.messages() for prompt in prompts]


def _solid(text: str) -> str:
    return "".join(text.split())

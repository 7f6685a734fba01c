"""A language model as judge of matches: it scores both answers, and each scoring is drawn anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from dialog_gym.dialogue import Draws
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm import load
from dialog_gym.lm.base import Generation, LanguageModel, Sampling
from dialog_gym.rewards.judge_prompt import Prompt
from dialog_gym.rewards.rubric import AnswerError, Rubric, find_rubric, unfenced
from dialog_gym.tournament.asking import SYSTEM, Form, once_more, pair_prompt, read_line, read_scores, score_schema
from dialog_gym.tournament.judges import Asked
from dialog_gym.tournament.matches import Judgement, Match


class ModelJudge:
    """Lets a language model score both answers of a match.

    Each scoring of a match is drawn with a seed of its own, so that scorings differ as far as the model is unsure. An
    answer that is not what was asked for, or out of range, is asked for once more; then the judgement has failed.

    Attributes:
        lm: The model; ``lm.counts`` tells what it has cost.
        rubrics: What is scored, by criterion.
        sampling: How it answers.
        form: In which form.
    """

    def __init__(
        self,
        lm: LanguageModel | str,
        rubrics: Mapping[str, Rubric | str],
        *,
        temperature: float = 0.7,
        max_tokens: int = 512,
        form: Form = "json",
        reasoning_chars: int = 600,
        seed: int = 0,
    ) -> None:
        """Let ``lm`` judge.

        Args:
            lm: A model or its spec.
            rubrics: A rubric, or the name of one, by criterion. Of the form ``"line"`` each has one dimension.
            temperature: 0.7 as published.
            max_tokens: Longest answer. Of the form ``"line"``, what comes after the first line may be cut.
            form: See ``Form``.
            reasoning_chars: Longest explanation, for models that hold to a JSON schema.
            seed: Of the sampling.

        Raises:
            KeyError: There is no such rubric.
            ValueError: There is no such model, or a rubric does not fit the form.
        """
        if form not in ("json", "line"):
            raise ValueError(f"form must be 'json' or 'line', got {form!r}")
        self.rubrics = {criterion: find_rubric(rubric) for criterion, rubric in rubrics.items()}
        if form == "line" and any(len(rubric.dimensions) > 1 for rubric in self.rubrics.values()):
            raise ValueError("form='line' is for rubrics of one dimension; use form='json'")
        self.lm = load(lm) if isinstance(lm, str) else lm
        self.sampling = Sampling(max_tokens, temperature)
        self.form, self.seed, self._reasoning_chars = form, seed, reasoning_chars

    @property
    def name(self) -> str:
        """The model and a hash of all that its answers depend on."""
        rubrics = {
            name: [one.advice, [[d.name, d.low, d.high, d.question] for d in one.dimensions]]
            for name, one in self.rubrics.items()
        }
        sampling = [self.sampling.max_tokens, self.sampling.temperature]
        told = json.dumps([rubrics, sampling, self.form, self._reasoning_chars, self.seed, SYSTEM], sort_keys=True)
        return f"{self.lm.name} {blake2b(told.encode(), digest_size=6).hexdigest()}"

    def judge(self, asked: Sequence[Asked]) -> list[Judgement]:
        """Return what the model says; the matches of one criterion are one batched call.

        Raises:
            LanguageModelError: The model could not be reached for any of them.
        """
        found: dict[int, Judgement] = {}
        for criterion in dict.fromkeys(one.match.criterion for one in asked):
            places = [place for place, one in enumerate(asked) if one.match.criterion == criterion]
            found |= dict(zip(places, self._by(criterion, [asked[place] for place in places]), strict=True))
        return [found[place] for place in range(len(asked))]

    def _by(self, criterion: str, asked: Sequence[Asked]) -> Iterator[Judgement]:
        rubric = self.rubrics[criterion]
        schema = score_schema(rubric, self._reasoning_chars) if self.form == "json" else None
        held = schema if "json" in self.lm.supports else None
        prompts = [pair_prompt(one, rubric, self.form) for one in asked]
        read: dict[int, tuple[tuple[float, float], str] | str] = {}
        again = dict(enumerate(prompts))
        for attempt in range(2):
            places = list(again)
            answers = self._answers([again[i] for i in places], [asked[i].match for i in places], attempt, held)
            again = {}
            for i, answer in zip(places, answers, strict=True):
                if isinstance(answer, LanguageModelError):
                    read[i] = f"the model failed: {answer}"
                    continue
                try:
                    read[i] = self._read(answer, rubric, prompts[i])
                except AnswerError as error:
                    read[i] = f"{error} (it said {answer.text!r:.200})"
                    again[i] = once_more(prompts[i], answer.text, error)
            if not again:
                break
        for i, one in enumerate(asked):
            told = read[i]
            yield Judgement(one.match, None, told) if isinstance(told, str) else Judgement(one.match, *told)

    def _answers(
        self, prompts: Sequence[Prompt], matches: Sequence[Match], attempt: int, schema: Mapping[str, Any] | None
    ) -> list[Generation | LanguageModelError]:
        """Return the answers; where the batch fails, each is asked for alone, to tell which one it was."""
        chats = [prompt.messages() for prompt in prompts]
        seeds = [Draws(self.seed, "judge", attempt, *match).bits() >> 1 for match in matches]
        try:
            return list(self.lm.generate(chats, self.sampling, seeds=seeds, schema=schema))
        except LanguageModelError as error:
            if len(chats) == 1 and attempt == 0:
                raise
            alone: list[Generation | LanguageModelError] = []
            for chat, seed in zip(chats, seeds, strict=True):
                try:
                    alone += self.lm.generate([chat], self.sampling, seeds=[seed], schema=schema)
                except LanguageModelError as failed:
                    alone.append(failed)
            if attempt == 0 and all(isinstance(one, LanguageModelError) for one in alone):
                raise LanguageModelError(
                    f"the judge {self.lm.name!r} answered none of {len(chats)} questions: {error}; what was judged "
                    "before is kept: start again to go on"
                ) from error
            return alone

    def _read(self, answer: Generation, rubric: Rubric, prompt: Prompt) -> tuple[tuple[float, float], str]:
        whole = "\n" in answer.text.strip()  # the line of scores, which a cut may end within a number
        if answer.stop == "length" and not (self.form == "line" and whole):
            raise AnswerError(f"the answer was cut after {self.sampling.max_tokens} tokens; be shorter")
        if self.form == "line":
            return read_line(answer.text, rubric.dimensions[0])
        found = read_scores(answer.text, rubric)
        copy = "".join(unfenced(answer.text).split())
        if any(copy in "".join(text.split()) for text in prompt.texts):
            raise AnswerError("the answer is a copy of what was said in a dialogue, not a verdict")
        return found

"""Comparisons by a language model: two dialogues at a time, each pair in both orders.

A verdict counts only where both orders agree; a judge that prefers a place is found out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import LanguageModel
from dialog_gym.rewards.judge import Examiner
from dialog_gym.rewards.judge_prompt import pair_prompt
from dialog_gym.rewards.rubric import (
    REASONING,
    AnswerError,
    Rubric,
    explanation,
    find_rubric,
    object_schema,
    read_object,
)

Preference = Literal["first", "second", "tie"]
CHOICES: tuple[Preference, ...] = ("first", "second", "tie")


class Comparison(NamedTuple):
    """Which of two dialogues is better, asked in both orders.

    Attributes:
        verdict: ``"a"``, ``"b"`` or ``"tie"`` where both orders agree, else ``"disagree"``.
        forward: What was preferred when ``a`` came first.
        backward: What was preferred when ``b`` came first.
        reasoning: The two explanations.
    """

    verdict: Literal["a", "b", "tie", "disagree"]
    forward: Preference
    backward: Preference
    reasoning: tuple[str, str]


class Comparisons(NamedTuple):
    """How a number of comparisons came out.

    Attributes:
        a: How many ``a`` won in both orders.
        b: How many ``b`` won in both orders.
        tie: How many were a tie in both orders.
        first: Disagreements in which what came first won twice: position bias.
        second: Disagreements in which what came second won twice: position bias.
        mixed: Disagreements between a winner and a tie.
    """

    a: int
    b: int
    tie: int
    first: int
    second: int
    mixed: int

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Comparisons:
        """Count ``comparisons``."""
        kinds: Counter[str] = Counter()
        for one in comparisons:
            if one.verdict != "disagree":
                kinds[one.verdict] += 1
            else:
                kinds[one.forward if one.forward == one.backward else "mixed"] += 1
        return cls(*(kinds[field] for field in cls._fields))


class PairJudge:
    """Compare dialogues two by two, each pair in both orders.

    Attributes:
        lm: The model that judges.
        rubric: What is compared.
    """

    def __init__(
        self,
        lm: LanguageModel | str,
        rubric: Rubric | str = "goal",
        *,
        name: str = "pair judge",
        max_tokens: int = 1024,
        reasoning_chars: int = 600,
    ) -> None:
        """Let ``lm`` compare; arguments as in ``Judge``."""
        self.rubric = find_rubric(rubric)
        self._examiner = Examiner(lm, name, max_tokens)
        self.lm = self._examiner.lm
        self._schema = object_schema(
            {
                REASONING: {"type": "string", "maxLength": reasoning_chars},
                "better": {"type": "string", "enum": list(CHOICES)},
            }
        )

    def compare(self, a: Sequence[Dialogue], b: Sequence[Dialogue]) -> list[Comparison]:
        """Return how ``a[i]`` and ``b[i]`` compare; one batched call for all pairs in both orders.

        Raises:
            ValueError: There are more of one than of the other, or a pair has different roles.
            LanguageModelError: A pair could not be judged in one of the orders.
        """
        if len(a) != len(b):
            raise ValueError(f"expected as many dialogues b as a, got {len(a)} and {len(b)}")
        for one, other in zip(a, b, strict=True):
            if one.roles != other.roles:
                raise ValueError(f"expected two dialogues between the same roles, got {one.roles} and {other.roles}")
        ordered = [*zip(a, b, strict=True), *zip(b, a, strict=True)]
        prompts = [pair_prompt(first, second, self.rubric, CHOICES) for first, second in ordered]
        answers = self._examiner.ask(prompts, self._schema, _preference) if prompts else []
        return [_comparison(*pair) for pair in zip(answers[: len(a)], answers[len(a) :], strict=True)]


def _preference(answer: str) -> tuple[str, Preference]:
    found: Mapping[str, Any] = read_object(answer, [REASONING, "better"])
    for choice in CHOICES:
        if found["better"] == choice:
            return explanation(found), choice
    raise AnswerError(f"expected 'better' to be one of {list(CHOICES)}, got {found['better']!r:.80}")


def _comparison(forward: tuple[str, Preference], backward: tuple[str, Preference]) -> Comparison:
    agreed: Mapping[tuple[Preference, Preference], Literal["a", "b", "tie"]] = {
        ("first", "second"): "a",
        ("second", "first"): "b",
        ("tie", "tie"): "tie",
    }
    reasoning = (forward[0], backward[0])
    return Comparison(agreed.get((forward[1], backward[1]), "disagree"), forward[1], backward[1], reasoning)

r"""Records of two answers to a prompt: HH's notation, SafeRLHF's columns.

HH (Bai et al. 2022, arXiv:2204.05862): ``{"chosen": "\n\nHuman: ...\n\nAssistant: ...", "rejected": ...}``, two
dialogues with the same beginning. SafeRLHF (Dai et al. 2023, arXiv:2310.12773): ``prompt``, ``response_0``,
``response_1`` and labels. Roles are those of a chat, ``"user"`` and ``"assistant"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

USER, ASSISTANT = "user", "assistant"
Said = tuple[tuple[str, str], ...]
"""Pairs of role and text."""

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_TEMPLATE = re.compile(r"BEGINNING OF CONVERSATION: USER: (.*) ASSISTANT:", re.DOTALL)  # of SafeRLHF's models
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class SafePair(NamedTuple):
    """A record of SafeRLHF.

    Attributes:
        prompt: What was asked, a user's turn last.
        answers: Two.
        better: 0 or 1, the more helpful.
        safer: 0 or 1.
        safe: Whether each is safe.
    """

    prompt: Said
    answers: tuple[str, str]
    better: int
    safer: int
    safe: tuple[bool, bool]


def safe_pair(record: Mapping[str, Any]) -> SafePair:
    """Read a record of SafeRLHF.

    Raises:
        KeyError: A column is missing.
        TypeError: A text is none.
        ValueError: A label is none.
    """
    return SafePair(
        question(text_of(record, "prompt")),
        (text_of(record, "response_0"), text_of(record, "response_1")),
        _index(record, "better_response_id"),
        _index(record, "safer_response_id"),
        (_boolean(record, "is_response_0_safe"), _boolean(record, "is_response_1_safe")),
    )


def question(text: str) -> Said:
    """Return a prompt as turns; one in HH's notation may have several.

    Raises:
        ValueError: It does not end with a question.
    """
    if not text.startswith("\n\nHuman:"):
        alone = _TEMPLATE.fullmatch(text)
        return ((USER, (alone[1] if alone else text).strip()),)
    turns = _turns(text)
    while turns and turns[-1] == (ASSISTANT, ""):  # the place of the answer
        turns = turns[:-1]
    return _checked(turns)


def hh_pair(record: Mapping[str, Any]) -> tuple[Said, str, str]:
    """Return the prompt and both answers of a record of HH, the chosen one first.

    A few records have an answer in two parts; they are joined.

    Raises:
        KeyError: A column is missing.
        TypeError: A text is none.
        ValueError: The dialogues do not differ in the last answer alone.
    """
    chosen, rejected = (_turns(text_of(record, key)) for key in ("chosen", "rejected"))
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    asked = [place for place in range(same) if chosen[place][0] == USER]
    if not asked:
        raise ValueError("chosen and rejected must begin with the same question")
    end = asked[-1] + 1
    answers = [turns[end:] for turns in (chosen, rejected)]
    if any(role == USER for turns in answers for role, _ in turns):
        raise ValueError("chosen and rejected must differ in the last answer alone")
    if not all(answers):
        raise ValueError("chosen and rejected must both end with an answer")
    first, second = ("\n\n".join(text for _, text in turns) for turns in answers)
    return _checked(chosen[:end]), first, second


def text_of(record: Mapping[str, Any], key: str) -> str:
    """Return a column that must be text.

    Raises:
        KeyError: It is missing.
        TypeError: It is none.
    """
    value = record[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} must be text, got {value!r:.40}")
    return value


def _turns(text: str) -> Said:
    parts = _SPEAKER.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise ValueError("a dialogue begins with '\\n\\nHuman: '")
    names = {"Human": USER, "Assistant": ASSISTANT}
    return tuple((names[name], said.strip()) for name, said in zip(parts[1::2], parts[2::2], strict=True))


def _checked(turns: Said) -> Said:
    if not turns or turns[-1][0] != USER or not turns[-1][1]:
        raise ValueError("a prompt ends with a question of the human")
    return turns


def _index(record: Mapping[str, Any], key: str) -> int:
    value = record[key]
    if isinstance(value, bool) or str(value) not in ("0", "1"):
        raise ValueError(f"{key} must be 0 or 1, got {value!r:.40}")
    return int(value)


def _boolean(record: Mapping[str, Any], key: str) -> bool:
    value = _BOOLEANS.get(str(record[key]).lower())
    if value is None:
        raise ValueError(f"{key} must be true or false, got {record[key]!r:.40}")
    return value

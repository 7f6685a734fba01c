"""How checks run: each is a function that raises ``ContractError`` with one sentence, and is found ok otherwise."""

from __future__ import annotations

import json
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dialog_gym.dialogue import Dialogue, Json

S = TypeVar("S")


class ContractError(AssertionError):
    """Something does not keep its contract; the message says what is wrong and what to do."""


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        check: What was looked at, a few words.
        problem: What is wrong and what to do, one sentence; ``""`` if nothing is.
    """

    check: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the contract is kept."""
        return not self.problem


Check = tuple[str, Callable[[S], None]]
"""The title of a check, and a function of the subject that raises ``ContractError`` where it fails."""


def findings(first: Sequence[Check[S]], then: Sequence[Check[S]], subject: S) -> list[Finding]:
    """Run the checks. Those in ``first`` build on each other: after one that fails, no more are run."""
    found = []
    for check in first:
        found.append(_finding(check, subject))
        if not found[-1].ok:
            return found
    return found + [_finding(check, subject) for check in then]


def raise_problems(what: str, found: Sequence[Finding]) -> None:
    """Raise one error that tells every problem in ``found``; nothing if there is none.

    Raises:
        ContractError: There is a problem.
    """
    problems = [f"- {finding.check}: {finding.problem}" for finding in found if not finding.ok]
    if problems:
        raise ContractError("\n".join([f"{what} does not keep its contract:", *problems]))


def need(condition: object, sentence: str) -> None:
    """Raise ``sentence`` as a ``ContractError`` unless ``condition`` holds."""
    if not condition:
        raise ContractError(sentence)


def _finding(check: Check[S], subject: S) -> Finding:
    title, function = check
    try:
        function(subject)
    except ContractError as error:
        return Finding(title, str(error))
    except Exception as error:  # the code under test is anybody's, and the other checks should still be told
        return Finding(title, f"it raised {said(error)}")
    return Finding(title)


def said(error: BaseException) -> str:
    """Return what ``error`` says on one line, with the place it was raised at."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]} ({place.filename.rpartition('/')[2]}, line {place.lineno})"


def is_json(value: Json) -> bool:
    """Return whether ``value`` survives being written as JSON and read again, numbers finite, keys text."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == _lists(value))
    except (TypeError, ValueError):
        return False


def _lists(value: Json) -> Json:
    """Return ``value`` with tuples as lists, which is how JSON reads them."""
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return value


def copied(dialogue: Dialogue) -> Dialogue:
    """Return ``dialogue`` as a file would give it back."""
    return Dialogue.from_json(json.dumps(dialogue.to_json()))


@contextmanager
def global_chance_untouched() -> Iterator[None]:
    """Raise ``ContractError`` if the block draws from Python's or NumPy's global generator."""
    before = random.getstate(), _numpy_state()
    yield
    need(
        (random.getstate(), _numpy_state()) == before,
        "it drew from the global generator of random or numpy; take chance from dialogue.draws(name), "
        "so that a seed gives the same dialogue every time",
    )


def _numpy_state() -> Any:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - what is watched is the old global generator
    return name, np.asarray(keys).tobytes(), *rest

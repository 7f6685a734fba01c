"""Who meets whom, and the journal of what was judged.

A match is two answers to one question, in one order, judged once by one criterion. Every pair meets in both orders and
``scorings`` times in each. The journal is a file of JSON lines: a judgement is in it when ``Journal.add`` returns, so
a kill loses no more than the calls in flight. A judgement counts again only where question, criterion, players, order,
scoring, judge and the words of both answers are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from dialog_gym.dialogue import Dialogue
from dialog_gym.runs import lock_folder

FILE = "judgements.jsonl"


class TournamentError(ValueError):
    """A tournament cannot be held as it was asked for, or its folder holds something else."""


class Match(NamedTuple):
    """Two answers to be compared.

    Attributes:
        question: Id of the question.
        criterion: By what they are compared.
        first: The player whose answer is shown first.
        second: The other.
        scoring: How often this was asked before, from 0.
    """

    question: str
    criterion: str
    first: str
    second: str
    scoring: int


class Judgement(NamedTuple):
    """What a judge said of a match.

    Attributes:
        match: Of which.
        scores: Of the first and the second answer; None where the judge failed.
        told: Its explanation, or why there are no scores.
    """

    match: Match
    scores: tuple[float, float] | None
    told: str = ""

    @property
    def points(self) -> float | None:
        """What the first earns: 1, 0, or .5 for a tie; None where the judge failed."""
        if self.scores is None:
            return None
        first, second = self.scores
        return 1.0 if first > second else 0.0 if first < second else 0.5


def schedule(
    players: Sequence[str], questions: Mapping[str, Sequence[str]], *, base: str = "", scorings: int = 3
) -> Iterator[Match]:
    """Yield all matches: every ordered pair of players, on every question of every criterion.

    Args:
        players: At least two.
        questions: Ids by criterion.
        base: If given, only pairs of which one is ``base``.
        scorings: How often each is judged.

    Raises:
        TournamentError: There are fewer than two players, one comes twice, or ``base`` is none of them.
    """
    check_players(players, base)
    if scorings < 1:
        raise TournamentError(f"scorings must be at least 1, got {scorings}")
    pairs = [pair for pair in permutations(players, 2) if not base or base in pair]
    for criterion, ids in questions.items():
        for question in ids:
            for first, second in pairs:
                for scoring in range(scorings):
                    yield Match(question, criterion, first, second, scoring)


def check_players(players: Sequence[str], base: str = "") -> None:
    """Refuse players that cannot meet.

    Raises:
        TournamentError: There are fewer than two, one comes twice, or ``base`` is none of them.
    """
    if len(players) < 2 or len(set(players)) < len(players):
        raise TournamentError(f"expected at least two players of different names, got {list(players)}")
    if base and base not in players:
        raise TournamentError(f"the base must be one of the players {list(players)}, got {base!r}")


def digest(dialogue: Dialogue) -> str:
    """Return a hash of what a judge may see of ``dialogue``, 16 hexadecimal digits."""
    scenario = dialogue.scenario
    seen = [scenario.public, dict(scenario.private), [list(turn) for turn in dialogue.turns], dialogue.stop_reason]
    return blake2b(json.dumps(seen, sort_keys=True).encode(), digest_size=8).hexdigest()


class Journal:
    """The judgements of one folder by one judge; only one process at a time may write. Use it in a ``with`` block.

    Attributes:
        path: The file.
        judge: Whose judgements are read and written; those of others stay and do not count.
    """

    def __init__(self, folder: str | Path, judge: str, answers: Mapping[tuple[str, str], str]) -> None:
        """Open the journal in ``folder``, or begin it.

        Args:
            folder: Is made if need be.
            judge: Names the judge and all that its judgements depend on.
            answers: Digest of each answer, by player and question.

        Raises:
            RunFolderError: Another process writes there.
            TournamentError: A line of the file is damaged (other than the last, which may be half written).
        """
        self.path, self.judge = Path(folder) / FILE, judge
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._answers = answers
        self._lock = lock_folder(self.path.parent, "tournament")
        try:
            self._found = self._read()
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115, closed by close()
        except BaseException:
            self._lock.close()
            raise

    def __contains__(self, match: Match) -> bool:
        """Return whether ``match`` was judged, or the judge failed at it."""
        return match in self._found

    def __getitem__(self, match: Match) -> Judgement:
        """Return what was said of ``match``."""
        return self._found[match]

    def add(self, judgements: Iterable[Judgement]) -> None:
        """Write judgements down."""
        for one in judgements:
            line = {
                "judge": self.judge,
                **one.match._asdict(),
                "answers": self._digests(one.match),
                "scores": one.scores,
                "told": one.told,
            }
            self._file.write(json.dumps(line) + "\n")
            self._found[one.match] = one
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Self:
        """Return the journal, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _digests(self, match: Match) -> list[str | None]:
        return [self._answers.get((player, match.question)) for player in (match.first, match.second)]

    def _read(self) -> dict[Match, Judgement]:
        if not self.path.exists():
            return {}
        whole = self.path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):  # the writer was killed in the middle of a line
            with open(self.path, "r+b") as file:
                file.truncate(len(kept))
        found = {}
        for number, line in enumerate(kept.split(b"\n")[:-1], 1):
            data = self._line(line, number)
            one = _judgement(data)
            if data["judge"] == self.judge and data["answers"] == self._digests(one.match):
                found[one.match] = one
        return found

    def _line(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            data = json.loads(line)
            _judgement(data)
            data["judge"], data["answers"]
        except (LookupError, TypeError, ValueError) as error:
            raise TournamentError(
                f"line {number} of {self.path} is no judgement ({type(error).__name__}: {error}); remove that line to "
                "have the match judged again"
            ) from error
        read: dict[str, Any] = data
        return read


def _judgement(data: Mapping[str, Any]) -> Judgement:
    match = Match(*(data[name] for name in Match._fields))
    scores = None if data["scores"] is None else (float(data["scores"][0]), float(data["scores"][1]))
    if scores is not None and not all(map(math.isfinite, scores)):
        raise ValueError(f"scores must be finite, got {scores}")
    return Judgement(match, scores, str(data["told"]))

"""Hold a tournament: answers, judgements, ratings. Started again, it goes on where it was killed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym import checkpoint
from dialog_gym.rollout import Episode
from dialog_gym.tournament.answers import Player, Source, answer_all
from dialog_gym.tournament.judges import Asked, PairJudge
from dialog_gym.tournament.length_control import Controlled, controlled
from dialog_gym.tournament.matches import Journal, Judgement, Match, TournamentError, check_players, digest, schedule
from dialog_gym.tournament.ratings import (
    RESAMPLES,
    Games,
    Rating,
    Strength,
    WinRate,
    bradley_terry,
    elo,
    lengths,
    plain,
    win_rate,
)
from dialog_gym.tracking import progress_bar

log = logging.getLogger("dialog_gym")


@dataclass(frozen=True)
class Plan:
    """What is held.

    Attributes:
        out: Folder of answers, judgements and the report.
        players: Who answers.
        sources: What is asked.
        judge: Who compares.
        base: Player that the others are measured by.
        full: Whether everybody meets everybody; else only the base.
        scorings: How often each match is judged.
        batch: Matches that the judge is asked about at once.
        retry: Ask again where the judge failed in an earlier start.
        seed: Of the ratings' chance.
        progress: Show progress bars.
    """

    out: Path
    players: tuple[Player, ...]
    sources: tuple[Source, ...]
    judge: PairJudge
    base: str
    full: bool = False
    scorings: int = 3
    batch: int = 64
    retry: bool = False
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be held."""
        check_players(self.names, self.base)
        if self.batch < 1 or self.scorings < 1:
            raise TournamentError(f"batch and scorings must be at least 1, got {self.batch} and {self.scorings}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the players."""
        return tuple(player.name for player in self.players)


class Line(NamedTuple):
    """What a player is worth by one criterion; see ``ratings`` and ``length_control``."""

    criterion: str
    player: str
    win_rate: WinRate
    controlled: Controlled
    elo: Rating
    strength: Strength
    length: float
    failed: int


@dataclass(frozen=True)
class Outcome:
    """How a tournament came out.

    Attributes:
        base: Player that the others are measured by.
        judge: Who judged.
        full: Whether everybody met everybody.
        scorings: How often each match was judged.
        questions: How many there were, by criterion.
        matches: How many judgements there are, failed ones included.
        failed: How many of them failed.
        lines: One per criterion and player.
    """

    base: str
    judge: str
    full: bool
    scorings: int
    questions: Mapping[str, int]
    matches: int
    failed: int
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; what is undefined is None."""
        told: dict[str, Any] = plain({name: value for name, value in vars(self).items() if name != "lines"})
        return {**told, "lines": [plain(line) for line in self.lines]}


def hold(plan: Plan) -> Outcome:
    """Let all players answer, have their answers judged, and rate them; writes ``ratings.json``.

    Raises:
        TournamentError: The folder holds something else, or nothing could be judged.
        LanguageModelError: A player or the judge could not be reached; start again to go on.
    """
    answers = answer_all(plan.players, plan.sources, plan.out, progress=plan.progress)
    questions = questions_of(plan.sources, answers)
    judgements = judge_all(plan, questions, answers)
    outcome = rate(plan, questions, judgements, answers)
    checkpoint.write_json(plan.out / "ratings.json", outcome.to_json())
    return outcome


def questions_of(sources: Sequence[Source], answers: Mapping[tuple[str, str], Episode]) -> dict[str, list[str]]:
    """Return the ids of the questions of each criterion."""
    ids = dict.fromkeys(question for _, question in answers)
    found: dict[str, list[str]] = {}
    for source in sources:
        mine = [question for question in ids if question.rpartition("/")[0] == source.name]
        for criterion in source.criteria:
            found.setdefault(criterion, []).extend(mine)
    return found


def judge_all(
    plan: Plan, questions: Mapping[str, Sequence[str]], answers: Mapping[tuple[str, str], Episode]
) -> list[Judgement]:
    """Have all matches judged that are not yet in the journal, and return all judgements."""
    base = "" if plan.full else plan.base
    matches = list(schedule(plan.names, questions, base=base, scorings=plan.scorings))
    digests = {key: digest(episode.dialogue) for key, episode in answers.items()}
    with Journal(plan.out, plan.judge.name, digests) as journal:

        def missing(match: Match) -> bool:
            return match not in journal or (plan.retry and journal[match].scores is None)

        left = iter([match for match in matches if missing(match)])
        done = sum(match in journal for match in matches)
        with progress_bar("judge", len(matches), done=done, show=plan.progress) as update:
            while batch := list(islice(left, plan.batch)):
                asked = [
                    Asked(match, answers[match.first, match.question], answers[match.second, match.question])
                    for match in batch
                ]
                journal.add(plan.judge.judge(asked))
                done = min(done + len(batch), len(matches))
                update(done, {})
        return [journal[match] for match in matches]


def rate(
    plan: Plan,
    questions: Mapping[str, Sequence[str]],
    judgements: Sequence[Judgement],
    answers: Mapping[tuple[str, str], Episode],
) -> Outcome:
    """Return what ``judgements`` say of the players."""
    lines: list[Line] = []
    for criterion, ids in questions.items():
        mine = [one for one in judgements if one.match.criterion == criterion]
        games = Games.of(mine, plan.names)
        if not len(games):
            raise TournamentError(
                f"the judge {plan.judge.name!r} failed at all {len(mine)} matches by {criterion}, for instance: "
                f"{mine[0].told if mine else 'there are no questions'}"
            )
        long = {(p, q): answer_length(answers[p, q]) for p in plan.names for q in ids}
        lines += _lines(plan, criterion, games, long)
    failed = sum(one.scores is None for one in judgements)
    if failed:
        log.warning("the judge failed at %d of %d matches, which are left out", failed, len(judgements))
    counts = {criterion: len(ids) for criterion, ids in questions.items()}
    return Outcome(plan.base, plan.judge.name, plan.full, plan.scorings, counts, len(judgements), failed, tuple(lines))


def answer_length(episode: Episode) -> int:
    """Return how many characters the agent said."""
    return sum(map(len, episode.dialogue.texts(episode.dialogue.roles[0])))


def _lines(plan: Plan, criterion: str, games: Games, long: Mapping[tuple[str, str], int]) -> list[Line]:
    table = lengths(long, plan.names, games.questions)
    ratings = elo(games, plan.base, np.random.default_rng([plan.seed, 1]))
    strengths = bradley_terry(games, plan.base, resamples=RESAMPLES, seed=plan.seed)
    base = table[games.number(plan.base)]
    return [
        Line(
            criterion,
            name,
            win_rate(games, name, plan.base, seed=plan.seed),
            controlled(games, name, plan.base, table[i] - base, seed=plan.seed),
            ratings[name],
            strengths[name],
            float(np.mean([count for (player, _), count in long.items() if player == name])),
            int(games.failed[i]),
        )
        for i, name in enumerate(plan.names)
    ]

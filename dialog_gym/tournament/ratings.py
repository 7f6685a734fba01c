"""What a number of judged matches says of the players: win rates, Elo, Bradley-Terry, and their intervals.

Intervals are percentiles of a bootstrap over questions: a question is drawn with all its matches, of all players, in
both orders and all scorings (they share the answers, so they are not independent). The same draws are used for all
players, so that what two of them gain can be compared.

Win rate and Elo are those of SACPO's evaluation (Wachi et al. 2024, arXiv:2404.11049). Differences from its code:
failed judgements are left out and counted, where they were ties there; chance comes from a seed; all scorings of a
match are shuffled on their own for Elo, where those of one question stayed together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.tournament.matches import Judgement, TournamentError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RESAMPLES = 1000
LEVEL = 0.95
START, K, DIVISOR, CENTRE = 1200.0, 32.0, 400.0, 1000.0  # of Elo
EPOCHS, TRIALS = 10, 50


class Interval(NamedTuple):
    """The ends of a 95% interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Games:
    """Judged matches by one criterion, as numbers.

    Attributes:
        players: Their names.
        questions: Ids of the questions.
        question: Number of the question of each match.
        first: Number of the player shown first.
        second: Number of the other.
        scoring: Which scoring it was.
        points: What the first earned: 0, .5 or 1.
        failed: How many judgements of each player's matches failed, by number of the player; no match holds them.
    """

    players: tuple[str, ...]
    questions: tuple[str, ...]
    question: Ints
    first: Ints
    second: Ints
    scoring: Ints
    points: Floats
    failed: Ints

    @classmethod
    def of(cls, judgements: Iterable[Judgement], players: Sequence[str]) -> Games:
        """Return ``judgements`` (of one criterion) as numbers, without those that failed."""
        number = {player: i for i, player in enumerate(players)}
        failed = np.zeros(len(players), np.int64)
        ids: dict[str, int] = {}
        rows = []
        for one in judgements:
            match, points = one.match, one.points
            place = ids.setdefault(match.question, len(ids))
            sides = number[match.first], number[match.second]
            if points is None:
                failed[list(sides)] += 1
            else:
                rows.append((place, *sides, match.scoring, points))
        table = np.array(rows, np.float64).reshape(-1, 5)
        question, first, second, scoring = table[:, :4].astype(np.int64).T
        return cls(tuple(players), tuple(ids), question, first, second, scoring, table[:, 4], failed)

    def __len__(self) -> int:
        """Return the number of matches."""
        return len(self.points)

    def number(self, player: str) -> int:
        """Return the number of ``player``."""
        return self.players.index(player)

    def table(self) -> Floats:
        """Return what each player earned against each other on each question, shape ``(questions, players, players)``.

        ``table[q, i, j]`` are the points of ``i`` in its matches with ``j``; both sides together are the matches.
        """
        found = np.zeros((len(self.questions), len(self.players), len(self.players)))
        np.add.at(found, (self.question, self.first, self.second), self.points)
        np.add.at(found, (self.question, self.second, self.first), 1 - self.points)
        return found

    def against(self, player: str, other: str) -> tuple[Ints, Ints, Floats]:
        """Return question, scoring and the points of ``player`` in each of its matches with ``other``."""
        one, two = self.number(player), self.number(other)
        forward, back = (self.first == one) & (self.second == two), (self.first == two) & (self.second == one)
        points = np.where(forward, self.points, 1 - self.points)
        met = forward | back
        return self.question[met], self.scoring[met], points[met]


def draws(questions: int, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Return how often each question is drawn in each resample, shape ``(resamples, questions)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(questions, np.full(questions, 1 / questions), size=resamples).astype(np.float64)


def interval(values: npt.ArrayLike, level: float = LEVEL) -> Interval:
    """Return the percentile interval of resampled values; those that are undefined (nan) are left out."""
    sample = np.asarray(values, np.float64)
    sample = sample[~np.isnan(sample)]
    if not len(sample):
        return Interval(math.nan, math.nan)
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


# --- win rate -----------------------------------------------------------------------------------


class WinRate(NamedTuple):
    """How often a player beats another.

    Attributes:
        mean: Wins and half of the ties, as a share: the mean over scorings.
        sd: Standard deviation over scorings (divided by their number, as published), 0 where there is one.
        interval: 95% interval over questions.
        ties: Share of ties.
        games: Matches that count.
    """

    mean: float
    sd: float
    interval: Interval
    ties: float
    games: int


def win_rate(games: Games, player: str, base: str, resamples: int = RESAMPLES, seed: int = 0) -> WinRate:
    """Return how ``player`` does against ``base``; .5 for ``base`` itself, nan where they never met."""
    if player == base:
        return WinRate(0.5, 0.0, Interval(0.5, 0.5), 1.0, 0)
    question, scoring, points = games.against(player, base)
    if not len(points):
        return WinRate(math.nan, math.nan, Interval(math.nan, math.nan), math.nan, 0)
    rounds = [points[scoring == one].mean() for one in np.unique(scoring)]
    count = len(games.questions)
    earned, met = np.bincount(question, points, count), np.bincount(question, minlength=count)
    weights = draws(count, resamples, seed)
    with np.errstate(invalid="ignore"):
        rates = (weights @ earned) / (weights @ met)
    return WinRate(
        float(np.mean(rounds)), float(np.std(rounds)), interval(rates), float(np.mean(points == 0.5)), len(points)
    )


# --- Elo ----------------------------------------------------------------------------------------


def expected(own: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """Return the share of points that a rating promises against another: ``1 / (1 + 10 ** ((other - own) / 400))``."""
    gap = np.asarray(other, np.float64) - np.asarray(own, np.float64)
    found: Floats = 1 / (1 + 10 ** (gap / DIVISOR))
    return found


class Rating(NamedTuple):
    """An Elo rating: mean and standard deviation over trials."""

    mean: float
    sd: float


def elo(
    games: Games, base: str, rng: np.random.Generator, *, trials: int = TRIALS, epochs: int = EPOCHS
) -> dict[str, Rating]:
    """Return the Elo rating of each player, on the scale where ``base`` has 1000.

    Each trial starts everybody at 1200 and goes ``epochs`` times through all matches, shuffled anew each time, with
    K = 32; then all ratings are multiplied so that the base has 1000.

    Args:
        games: The matches.
        base: One of the players.
        rng: Shuffles.
        trials: How many.
        epochs: Of each.
    """
    ratings = np.full((trials, len(games.players)), START)
    each = np.arange(trials)
    for _ in range(epochs):
        order = rng.permuted(np.tile(np.arange(len(games)), (trials, 1)), axis=1)
        for column in order.T:  # one match of every trial
            one, two = games.first[column], games.second[column]
            gain = K * (games.points[column] - expected(ratings[each, one], ratings[each, two]))
            ratings[each, one] += gain
            ratings[each, two] -= gain
    centre = ratings[:, games.number(base)]
    if (centre <= 0).any():
        raise TournamentError(f"the rating of {base!r} fell to 0, so nothing can be measured by it; take another base")
    scaled = ratings * (CENTRE / centre)[:, None]
    return {
        name: Rating(float(scaled[:, i].mean()), float(scaled[:, i].std())) for i, name in enumerate(games.players)
    }


# --- Bradley-Terry ------------------------------------------------------------------------------


class Strength(NamedTuple):
    """A Bradley-Terry strength on Elo's scale, where the base has 1000, with its 95% interval over questions."""

    mean: float
    interval: Interval


def bradley_terry(
    games: Games, base: str, *, added: float = 0.5, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Strength]:
    """Return the strength of each player: ``1000 + 400 log10`` of its odds to beat ``base``.

    Maximum likelihood (Bradley & Terry 1952, doi:10.2307/2334029), a tie being half a win of each. ``added`` points
    are given to both sides of every pair that met, so that there is a maximum also where a player won everything (for
    two players and .5, Jeffreys' prior).

    Raises:
        TournamentError: Somebody never met the others, or with ``added=0`` there is no finite maximum.
    """
    table = games.table()
    whole = table.sum(0)
    met = (whole + whole.T) > 0
    prior = added * met
    _check_connected(games.players, whole + prior)
    size = len(games.players)
    found = fit_strengths((whole + prior)[None], games.number(base))[0]
    drawn = draws(len(games.questions), resamples, seed) @ table.reshape(len(table), -1)
    drawn = drawn.reshape(resamples, size, size) + max(added, 1e-3) * met  # a resample may lack somebody's only loss
    sampled = fit_strengths(drawn, games.number(base))
    scale = DIVISOR / math.log(10)
    return {
        name: Strength(float(CENTRE + scale * found[i]), interval(CENTRE + scale * sampled[:, i]))
        for i, name in enumerate(games.players)
    }


def fit_strengths(points: Floats, base: int, *, rounds: int = 100, tolerance: float = 1e-10) -> Floats:
    """Return the log-strengths that make ``points`` most likely, shape ``(n, players)``; that of ``base`` is 0.

    Newton's method on all ``n`` tables at once.

    Args:
        points: ``points[n, i, j]`` is what ``i`` earned against ``j``, shape ``(n, players, players)``.
        base: Number of the base.
        rounds: Most steps.
        tolerance: Largest step that counts as none.
    """
    count, size, _ = points.shape
    free = np.flatnonzero(np.arange(size) != base)
    theta = np.zeros((count, size))
    met = points + points.transpose(0, 2, 1)
    for _ in range(rounds):
        chance = sigmoid(theta[:, :, None] - theta[:, None, :])
        slope = (points - met * chance).sum(2)[:, free]
        bent = met * chance * (1 - chance)
        curve = np.eye(size) * bent.sum(2)[:, :, None] - bent
        step = np.linalg.solve(curve[:, free][:, :, free], slope[:, :, None])[:, :, 0]
        theta[:, free] += np.clip(step, -2, 2)  # far away Newton leaps too far
        if np.abs(step).max(initial=0) < tolerance:
            break
    return theta


def sigmoid(x: Floats) -> Floats:
    """Return ``1 / (1 + exp(-x))``, without overflow."""
    found: Floats = 0.5 * (1 + np.tanh(x / 2))
    return found


def _check_connected(players: Sequence[str], points: Floats) -> None:
    """Refuse tables without a finite maximum: a group of players who lost nothing to the rest (Ford 1957)."""
    reach = (points > 0) | np.eye(len(points), dtype=bool)
    for _ in players:
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    if not reach.all():
        one, two = (players[i] for i in np.argwhere(~reach)[0])
        raise TournamentError(
            f"{one!r} and {two!r} cannot be compared: the one, with all whom it won points from, won none from the "
            "other; have more matches judged, or give added points"
        )


def lengths(answers: Mapping[tuple[str, str], int], players: Sequence[str], questions: Sequence[str]) -> Floats:
    """Return the length of each answer as a table, shape ``(players, questions)``, from those by both names."""
    return np.array([[answers[player, question] for question in questions] for player in players], np.float64)


def plain(value: Any) -> Any:
    """Return ratings as JSON values: named tuples by name, and None for what is undefined."""
    if hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

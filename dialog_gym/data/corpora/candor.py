"""CANDOR (Reece et al. 2023, doi:10.1126/sciadv.adf3197): recorded talks of two strangers, with surveys and faces.

A folder per conversation: ``survey.csv`` (a row per speaker), ``transcription/transcript_<kind>.csv`` (a row per turn)
and ``audio_video_features.csv`` (a row per second and speaker). The corpus is gated and nothing of it is here;
``candor_made`` makes conversations of our own in this layout. One conversation is held in memory at a time.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import CorpusError, File, Source
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Turn

ROLES = ("agent", "listener")
EMOTIONS = ("anger", "contempt", "disgust", "fear", "sadness", "neutral", "happiness", "surprise")
SIDES: Mapping[str, tuple[bool, ...]] = {"first": (True,), "second": (False,), "both": (False, True)}
_CLOCK = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def read(
    source: Source,
    score: str = "overall_affect",
    agent: str = "second",
    transcript: str = "cliffhanger",
    faces: bool = True,
    exclude: Sequence[str] | str = (),
    need_score: bool = True,
    overlap: float = 0.0,
) -> Iterator[Recorded]:
    """Yield the conversations by id.

    ``score``: what the listener answered in the survey. ``scenario.hidden``: ``id``, the ``speakers`` by role, what
    each answered (``survey``) and which answer counts (``column``). ``state["turns"]``: ``start``, ``stop`` (seconds),
    ``n_words``, and ``faces``: for how many seconds of the turn, both ends included, the face of the one who does not
    speak showed what most (``{"happiness": 3, "neutral": 1}``), so that mode and mean of GELI's proxy can be had
    (``dialog_gym.rewards.decomposition.signals``). Seconds without a face do not count.

    Args:
        source: The folder of all conversations, or of one.
        score: Column of the survey.
        agent: Whose turns are the agent's: ``"first"`` or ``"second"`` to speak, or ``"both"``: each conversation
            twice, with one seed and one id. The other is the listener, whose face and answers count. GELI takes the
            second; its "flipped" data are the first, with role, face and score changed together, see ``flipped``.
        transcript: Kind of transcript: ``"cliffhanger"``, ``"backbiter"`` or ``"audiophile"``.
        faces: Read the faces; without, ``faces`` is empty.
        exclude: Ids that are left out, or the path of a file with one a line (``#`` begins a comment).
        need_score: Whether a listener who did not answer makes a conversation a bad one; else its score is None.
        overlap: For how many seconds a turn may begin before the one before it has ended. Who talks at ease begins
            early; give a few seconds where that is no error.

    Raises:
        ValueError: An option is wrong.
        CorpusError: A conversation is: a file, a column or the faces of somebody are missing, there are not two
            speakers with an id each, fewer than two turns, no score, or intervals that are negative, not in order or
            overlap. With ``skip_bad`` it is counted instead.
    """
    if agent not in SIDES:
        raise ValueError(f"agent must be 'first', 'second' or 'both', got {agent!r}")
    if not overlap >= 0:
        raise ValueError(f"overlap must be at least 0 seconds, got {overlap}")
    wanted = _Wanted(score, f"transcript_{transcript}.csv", faces, need_score, overlap)
    left_out = _excluded(exclude)
    for number, (key, files) in enumerate(_conversations(source)):
        if key in left_out:
            continue
        skipped = source.skipped
        try:
            found = _Talk(source, files, key, wanted).sides(number, SIDES[agent])
        except CorpusError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            source.skipped = skipped  # one conversation, however many of its rows are bad
            source.fail(f"{source.path}, conversation {key}: expected {source.expected}; got another: {error}", error)
            continue
        yield from found


def flipped(row: Recorded) -> Recorded:
    """Return a conversation with the other speaker as the agent: roles, survey and score change together.

    The faces need no change: those of a turn are always of the one who does not speak. Flipping twice is the identity.
    """
    dialogue = row.dialogue
    other = dict(zip(dialogue.roles, reversed(dialogue.roles), strict=True))
    hidden = dict(dialogue.scenario.hidden)
    for name in ("speakers", "survey"):
        hidden[name] = {role: hidden[name][other[role]] for role in dialogue.roles}
    turns = tuple(Turn(other[role], text) for role, text in dialogue.turns)
    changed = replace(dialogue, scenario=replace(dialogue.scenario, hidden=hidden), turns=turns, turn=-1)
    zeros = (0.0,) * changed.turn
    score = _score(hidden["survey"][dialogue.roles[1]], hidden["column"])
    return replace(row, dialogue=changed, rewards=zeros, costs=zeros, score=score)


@dataclass(frozen=True)
class _Wanted:
    """Options of the reader."""

    score: str
    transcript: str
    faces: bool
    need_score: bool
    overlap: float


def _excluded(given: Sequence[str] | str) -> frozenset[str]:
    if not isinstance(given, str):
        return frozenset(given)
    path = Path(given)
    if not path.is_file():
        raise ValueError(f"exclude must be a list of ids, or a file with one a line; there is no file {given!r}")
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(line for line in lines if line)


def _conversations(source: Source) -> Iterator[tuple[str, Mapping[str, File]]]:
    """Yield the id and the tables of each conversation, by name."""
    folders: dict[str, dict[str, File]] = {}
    for file in source.files("*.csv", split=False):
        folder, _, name = file.path.rpartition("/")
        folders.setdefault(f"/{folder}".removesuffix("/transcription").strip("/"), {})[name] = file
    talks = sorted(folder for folder, files in folders.items() if "survey.csv" in files)
    if not talks:
        raise CorpusError(f"{source.path}: expected {source.expected}; no folder has a survey.csv")
    for folder in talks:
        yield folder.rpartition("/")[2] or source.path.name, folders.pop(folder)


class _Talk:
    """The files of one conversation."""

    def __init__(self, source: Source, files: Mapping[str, File], key: str, wanted: _Wanted) -> None:
        self._source, self._files, self._key, self._wanted = source, files, key, wanted

    def sides(self, number: int, firsts: Sequence[bool]) -> list[Recorded]:
        """Return the conversation once for each of ``firsts``: whether the one who speaks first is the agent."""
        skipped, wanted = self._source.skipped, self._wanted
        survey = self._survey()
        said = list(self._rows(wanted.transcript, ("speaker", "utterance", "start", "stop", "n_words")))
        speakers = _two_speakers(said, survey)
        turns = self._timed(said, speakers)
        if self._source.skipped > skipped:
            raise ValueError("a row of it is bad, see above")
        found = []
        for first in firsts:
            by_role = dict(zip(ROLES, speakers if first else reversed(speakers), strict=True))
            answer = _score(survey[by_role[ROLES[1]]], wanted.score)
            if answer is None and wanted.need_score:
                raise ValueError(
                    f"the listener {by_role[ROLES[1]]!r} has no answer to {wanted.score!r} (need_score=false keeps it)"
                )
            answers = {role: dict(survey[user]) for role, user in by_role.items()}
            hidden = {"id": self._key, "speakers": by_role, "survey": answers, "column": wanted.score}
            found.append(
                recorded(
                    ROLES,
                    [(ROLES[row["speaker"] != by_role[ROLES[0]]], row["utterance"]) for row in said],
                    number,
                    public="Two strangers meet for a talk.",
                    hidden=hidden,
                    state={"turns": turns},
                    score=answer,
                )
            )
        return found

    def _survey(self) -> dict[str, Mapping[str, Any]]:
        """Return what each answered, by user."""
        survey: dict[str, Mapping[str, Any]] = {}
        for row in self._rows("survey.csv", ("user_id", self._wanted.score)):
            if row["user_id"] in survey:
                raise ValueError(f"two rows of survey.csv have the user_id {row['user_id']!r}; expected two speakers")
            survey[row["user_id"]] = row
        return survey

    def _timed(self, said: Sequence[Mapping[str, Any]], speakers: Sequence[str]) -> list[dict[str, Any]]:
        """Return the annotations of the turns."""
        faces = self._shown(speakers) if self._wanted.faces else {speaker: [] for speaker in speakers}
        turns: list[dict[str, Any]] = []
        ended = 0.0
        for place, row in enumerate(said):
            start, stop = _seconds(row["start"]), _seconds(row["stop"])
            _check_interval(place, start, stop, ended, self._wanted.overlap)
            ended = max(ended, stop)
            seen = faces[speakers[row["speaker"] == speakers[0]]]  # the face of the other
            seen = seen[bisect_left(seen, (start, "")) : bisect_right(seen, (stop, "~"))]
            shown = dict(Counter(emotion for _, emotion in seen))
            turns.append({"start": start, "stop": stop, "n_words": _whole(row["n_words"], place), "faces": shown})
        return turns

    def _shown(self, speakers: Sequence[str]) -> dict[str, list[tuple[float, str]]]:
        """Return when the face of each showed what most, by time; seconds without a face are left out."""
        found: dict[str, list[tuple[float, str]]] = {speaker: [] for speaker in speakers}
        columns = [f"prob_face_{emotion}" for emotion in EMOTIONS]
        there = set()
        for row in self._rows("audio_video_features.csv", ("timedelta", "user_id", *columns)):
            there.add(row["user_id"])
            if row["user_id"] in found:
                values = [row[column] for column in columns]
                if not any(value in _EMPTY for value in values):
                    numbers = [float(value) for value in values]
                    face = EMOTIONS[numbers.index(max(numbers))]
                    found[row["user_id"]].append((_moment(row["timedelta"]), face))
        for speaker in speakers:
            if speaker not in there:
                raise ValueError(
                    f"audio_video_features.csv has no row of the speaker {speaker!r}, it has {sorted(there)!r:.120} "
                    "(faces=false reads on without)"
                )
        return {speaker: sorted(seen) for speaker, seen in found.items()}

    def _rows(self, name: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a table, which must have ``columns``."""
        if name not in self._files:
            raise ValueError(f"expected the file {name}, got {', '.join(sorted(self._files))}")
        for number, (_, row) in enumerate(self._source.table(self._files[name]), 1):
            if missing := [column for column in columns if column not in row]:
                raise ValueError(f"{name}, row {number}, has no column {', '.join(map(repr, missing))}; {_has(row)}")
            yield row


_EMPTY = ("", "nan", "NaN", "NA")


def _has(row: Mapping[str, Any]) -> str:
    return f"it has {', '.join(sorted(row))}"[:200]


def _two_speakers(said: Sequence[Mapping[str, Any]], survey: Mapping[str, Any]) -> list[str]:
    """Return the two who talk, who speaks first first."""
    speakers = list(dict.fromkeys(row["speaker"] for row in said))
    if len(said) < 2:
        raise ValueError(f"expected at least two turns, got {len(said)}")
    if len(speakers) != 2 or not set(speakers) <= survey.keys():
        raise ValueError(
            f"expected two speakers with an id each who answered the survey, got {speakers!r:.120} in the transcript "
            f"and {list(survey)!r:.120} in the survey"
        )
    return speakers


def _check_interval(place: int, start: float, stop: float, ended: float, overlap: float) -> None:
    """Refuse the interval of a turn that begins too early; ``ended``: when all turns before it were over."""
    where = f"turn {place + 1} is said from {start:g} to {stop:g} s"
    if not 0 <= start <= stop < math.inf:
        raise ValueError(f"{where}: expected 0 <= start <= stop")
    if ended - start > overlap + 1e-9:
        raise ValueError(
            f"{where}, while a turn before it lasts until {ended:g} s: intervals overlap by {ended - start:g} s, more "
            f"than {overlap:g} (where people just talk at once, allow it: overlap=SECONDS)"
        )


def _whole(text: str, place: int) -> int:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(f"turn {place + 1} has {text!r} words; expected a number of at least 0")
    return int(number)


def _score(answers: Mapping[str, Any], column: str) -> float | None:
    """Return an answer of the survey, None where there is none.

    Raises:
        ValueError: It is no finite number.
    """
    text = answers[column]
    if text in _EMPTY:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number as the answer to {column!r}, got {text!r:.60}")
    return number


def _moment(text: str) -> float:
    """Return the time of a row in seconds; one that is no number would put all rows out of order."""
    found = _seconds(text)
    if not math.isfinite(found):
        raise ValueError(f"audio_video_features.csv: expected a timedelta in seconds, got {text!r:.60}")
    return found


def _seconds(text: str) -> float:
    """Return a time in seconds: a number, or as pandas writes durations.

    >>> _seconds("61.5"), _seconds("0 days 00:01:01.500000"), _seconds("00:01:01")
    (61.5, 61.5, 61.0)
    """
    clock = _CLOCK.fullmatch(text.strip())
    if not clock:
        return float(text)
    days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds

"""CANDOR (Reece et al. 2023, doi:10.1126/sciadv.adf3197): recorded talks of two strangers, with surveys and faces.

A folder per conversation: ``survey.csv`` (a row per speaker), ``transcription/transcript_<kind>.csv`` (a row per turn)
and ``audio_video_features.csv`` (a row per second and speaker). The corpus is gated and nothing of it is here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import CorpusError, File, Source
from dialog_gym.data.episodes import Recorded

ROLES = ("agent", "listener")
EMOTIONS = ("anger", "contempt", "disgust", "fear", "sadness", "neutral", "happiness", "surprise")
_CLOCK = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def read(
    source: Source,
    score: str = "overall_affect",
    agent: str = "second",
    transcript: str = "cliffhanger",
    faces: bool = True,
    exclude: Sequence[str] = (),
) -> Iterator[Recorded]:
    """Yield the conversations by id.

    ``score``: what the listener answered in the survey. ``scenario.hidden``: ``id``, the ``speakers`` by role and what
    each answered (``survey``). ``state["turns"]``: ``start``, ``stop`` (seconds), ``n_words``, and ``faces``: for how
    many seconds of the turn, both ends included, the face of the one who does not speak showed what most
    (``{"happiness": 3, "neutral": 1}``), so that mode and mean of GELI's proxy can be had. Seconds without a face do
    not count.

    Args:
        source: The folder of all conversations, or of one.
        score: Column of the survey.
        agent: Whose turns are the agent's: ``"first"`` or ``"second"`` to speak. The other is the listener, whose face
            and answers count. GELI takes the second; its "flipped" data are the first, with role, face and score
            changed together.
        transcript: Kind of transcript: ``"cliffhanger"``, ``"backbiter"`` or ``"audiophile"``.
        faces: Read the faces; without, ``faces`` is empty.
        exclude: Ids that are left out.
    """
    if agent not in ("first", "second"):
        raise ValueError(f"agent must be 'first' or 'second', got {agent!r}")
    folders: dict[str, dict[str, File]] = {}
    for file in source.files("*.csv", split=False):
        folder, _, name = file.path.rpartition("/")
        folders.setdefault(f"/{folder}".removesuffix("/transcription").strip("/"), {})[name] = file
    talks = sorted((folder, files) for folder, files in folders.items() if "survey.csv" in files)
    if not talks:
        raise CorpusError(f"{source.path}: expected {source.expected}; no folder has a survey.csv")
    for number, (folder, files) in enumerate(talks):
        key = folder.rpartition("/")[2] or source.path.name
        if key in exclude:
            continue
        talk = _Talk(source, files, key, f"transcript_{transcript}.csv", faces)
        try:
            found = talk.recorded(number, score, agent == "first")
        except CorpusError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            source.fail(f"{source.path}, conversation {key}: expected {source.expected}; got another: {why}", error)
            continue
        yield found


class _Talk:
    """The files of one conversation."""

    def __init__(self, source: Source, files: Mapping[str, File], key: str, transcript: str, faces: bool) -> None:
        self._source, self._files, self._key = source, files, key
        self._transcript, self._faces = transcript, faces

    def recorded(self, number: int, score: str, first: bool) -> Recorded:
        """Return the conversation; ``first``: the one who speaks first is the agent."""
        skipped = self._source.skipped
        survey = {row["user_id"]: row for row in self._rows("survey.csv")}
        said = list(self._rows(self._transcript))
        speakers = list(dict.fromkeys(row["speaker"] for row in said))
        if len(speakers) != 2 or not set(speakers) <= survey.keys():
            raise ValueError(
                f"expected two speakers who answered the survey, got {speakers!r:.120}, {list(survey)!r:.120}"
            )
        agent, listener = speakers if first else reversed(speakers)
        faces = self._shown(listener) if self._faces else []
        turns = []
        for row in said:
            start, stop = _seconds(row["start"]), _seconds(row["stop"])
            seen = faces[bisect_left(faces, (start, "")) : bisect_right(faces, (stop, "~"))]
            shown = dict(Counter(emotion for _, emotion in seen)) if row["speaker"] == agent else {}
            turns.append({"start": start, "stop": stop, "n_words": int(float(row["n_words"])), "faces": shown})
        if self._source.skipped > skipped:
            raise ValueError("a row of it is bad, see above")
        by_role = {ROLES[0]: agent, ROLES[1]: listener}
        answers = survey[listener][score]
        return recorded(
            ROLES,
            [(ROLES[row["speaker"] != agent], row["utterance"]) for row in said],
            number,
            public="Two strangers meet for a talk.",
            hidden={"id": self._key, "speakers": by_role, "survey": {r: dict(survey[u]) for r, u in by_role.items()}},
            state={"turns": turns},
            score=float(answers) if answers not in _EMPTY else None,
        )

    def _shown(self, user: str) -> list[tuple[float, str]]:
        """Return when the face of ``user`` showed what most, by time; seconds without a face are left out."""
        found = []
        for row in self._rows("audio_video_features.csv"):
            if row["user_id"] == user:
                values = [row[f"prob_face_{emotion}"] for emotion in EMOTIONS]
                if not any(value in _EMPTY for value in values):
                    numbers = [float(value) for value in values]
                    found.append((_seconds(row["timedelta"]), EMOTIONS[numbers.index(max(numbers))]))
        return sorted(found)

    def _rows(self, name: str) -> Iterator[Mapping[str, Any]]:
        if name not in self._files:
            raise ValueError(f"expected the file {name}, got {', '.join(sorted(self._files))}")
        for _, row in self._source.table(self._files[name]):
            yield row


_EMPTY = ("", "nan", "NaN", "NA")


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

"""Local signals: one number per agent turn that goes, more or less, with what the turn was worth.

GELI (Lee et al. 2024, arXiv:2403.11330) takes the listener's face while an utterance is spoken. Here a signal is any
function of a recorded dialogue; ``local_signal`` makes the usual ones of a name:

- ``"vader"``: how glad the listener's *answer* is, in [-1, 1] (``dialog_gym.rewards.affect``); ``"classifier:FOLDER"``
  the same by a text classifier of transformers, whose labels get values: ``"classifier:FOLDER?joy=1&anger=-1"``;
- ``"faces"``: the listener's face during the turn, from the seconds that the reader of CANDOR counted; the mode of the
  faces, or ``"faces:mean"``; see ``of_faces``;
- ``"column:NAME"``, or a bare name: what is stored in the data, by ``stored``.

Where there is nothing to measure (no answer, no stored number) the value is None, and the turn counts for no local
loss. Nothing is ever made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Reward

LocalSignal = Callable[[Recorded], "list[float | None]"]
"""One number per agent turn, None where it is missing."""

FACE_VALUES: Mapping[str, float] = {
    "anger": -1.0,
    "contempt": -1.0,
    "disgust": -1.0,
    "fear": -1.0,
    "sadness": -1.0,
    "neutral": 0.0,
    "happiness": 1.0,
    "surprise": 0.0,
}
"""What a face is worth, in the order of the published class ids 0 to 7; of two modes the lower id counts."""
BINARY: Mapping[str, float] = {**dict.fromkeys(FACE_VALUES, 0.0), "happiness": 1.0}
"""What the published code makes of it: a smile or none."""
FEW_WORDS = 5  # a turn of as many words or fewer shows nothing, as published
FORMS = "'vader', 'classifier:FOLDER?LABEL=VALUE&...', 'faces', 'faces:mean', 'column:NAME'"


def local_signal(given: str | Reward | LocalSignal, **options: Any) -> LocalSignal:
    """Return the signal that ``given`` stands for.

    Args:
        given: A name (see the module), a reward that scores the newest agent turn by what was said, or a function.
        options: Of ``of_faces`` or ``of_reward``; for a classifier also ``values``.

    Raises:
        ValueError: No signal is called so, or it does not take the options.
    """
    if isinstance(given, Reward):
        return of_reward(given)
    if not isinstance(given, str):
        return given
    kind, _, rest = given.partition(":")
    if kind in ("vader", "sentiment") and not rest:
        return of_answers()
    if kind == "classifier" and rest:
        folder, _, values = rest.partition("?")
        return of_answers(folder, options.get("values") or _values(given, values))
    if kind == "faces":
        return of_faces(rest or "mode", **options)
    if kind == "column" and rest:
        return stored(rest)
    if rest or not given:
        raise ValueError(f"expected a local signal, {FORMS} or the name of a stored column, got {given!r:.80}")
    return stored(given)


def _values(spec: str, text: str) -> dict[str, float]:
    try:
        return {label: float(value) for label, value in parse_qsl(text or "?", strict_parsing=True)}
    except ValueError as error:
        raise ValueError(
            f"expected what each label is worth, as in 'classifier:FOLDER?joy=1&anger=-1', got {spec!r:.120}"
        ) from error


# --- text --------------------------------------------------------------------------------------


def of_answers(classifier: Any = None, values: Mapping[str, float] | None = None) -> LocalSignal:
    """Return the affect of the partner's answer to each agent turn, None where it has none.

    Several turns of the partner up to the agent's next are one answer, the last of which counts, as in ``Affect``.

    Args:
        classifier: A text classification pipeline or what makes one; None: VADER.
        values: What each of its labels is worth.
    """
    from dialog_gym.rewards.affect import Affect

    measure = Affect("partner", classifier, values)

    def signal(row: Recorded) -> list[float | None]:
        found = up_to_each_turn(row.dialogue)
        answered = [part.turns[-1].role != part.roles[0] for part in found]
        scores = iter(
            measure([part for part, is_answered in zip(found, answered, strict=True) if is_answered]).tolist()
        )
        return [next(scores) if is_answered else None for is_answered in answered]

    return signal


def of_reward(reward: Reward) -> LocalSignal:
    """Return what ``reward`` says of each agent turn; it may look at what was said, not into the hidden state."""

    def signal(row: Recorded) -> list[float | None]:
        return [float(score) for score in reward(up_to_each_turn(row.dialogue))]

    return signal


def up_to_each_turn(dialogue: Dialogue) -> list[Dialogue]:
    """Return the dialogue as it was after each agent turn and the answer to it, without the partner's hidden state.

    All but the last have no stop reason and no success, as if they went on; the last is ``dialogue`` itself. If the
    agent speaks twice in succession, the first of these turns has no answer.
    """
    from dialog_gym.rewards.compose import before_turn

    parts = [dialogue] if dialogue.turn else []
    while parts and parts[-1].turn > 1:
        parts.append(before_turn(parts[-1]))
    return parts[::-1]


# --- faces -------------------------------------------------------------------------------------


def of_faces(
    how: str = "mode", *, binary: bool = False, few_words: int = FEW_WORDS, missing: str = "neutral"
) -> LocalSignal:
    """Return the affect of the listener's face during each agent turn, from what CANDOR's reader counted.

    ``state["turns"]`` holds for each turn, under ``"faces"``, for how many seconds (both ends of the interval
    included, rows without a face left out) the face of the one who does not speak showed what most.

    Deviations from the published code, which are its defects: negative faces are -1 in training too (there, a mask in
    the loader makes them neutral before the targets are read; ``binary=True`` gives that back), surprise is always 0
    (there, validation gives it the sign of the prediction), and a listener's own turns get no value at all (there,
    half of the responses of the first stage are scored with the speaker's own face).

    Args:
        how: ``"mode"``, the value of the face that was seen longest (of equals, the lower class id), or ``"mean"``,
            the mean value of all seconds; with ``binary`` that is the share of seconds with a smile, as published.
        binary: 1 for happiness and 0 for all else.
        few_words: Turns of so many words or fewer are neutral, 0; -1: none.
        missing: What a turn is with no second in which a face was seen: ``"neutral"``, 0 as published, or ``"none"``.

    Raises:
        ValueError: An unknown setting; from the signal: a dialogue without such counts.
    """
    if how not in ("mode", "mean"):
        raise ValueError(f"faces are told by their 'mode' or their 'mean', got {how!r}")
    if missing not in ("neutral", "none"):
        raise ValueError(f"missing must be 'neutral' or 'none', got {missing!r}")

    def value(note: Mapping[str, Any]) -> float | None:
        counts = _counts(note)
        if not counts and missing == "none":
            return None
        return face_value(counts, int(note["n_words"]), how, binary=binary, few_words=few_words)

    return lambda row: [value(note) for note in _notes(row)]


def face_value(
    counts: Mapping[str, int], words: int, how: str = "mode", *, binary: bool = False, few_words: int = FEW_WORDS
) -> float:
    """Return what the faces of one turn are worth, in [-1, 1]; 0 for few words and where no face was seen.

    >>> face_value({"sadness": 2, "happiness": 1}, 8)
    -1.0

    Args:
        counts: Seconds by face.
        words: How many the turn has.
        how: ``"mode"`` or ``"mean"``.
        binary: See ``of_faces``.
        few_words: See ``of_faces``.
    """
    values = BINARY if binary else FACE_VALUES
    if words <= few_words or not counts:
        return 0.0
    if how == "mode":
        return values[min(counts, key=lambda face: (-counts[face], list(FACE_VALUES).index(face)))]
    return sum(values[face] * seconds for face, seconds in counts.items()) / sum(counts.values())


def _counts(note: Mapping[str, Any]) -> Mapping[str, int]:
    if strange := note["faces"].keys() - FACE_VALUES.keys():
        raise ValueError(f"expected faces of {', '.join(FACE_VALUES)}, got {sorted(strange)[0]!r}")
    counts: Mapping[str, int] = note["faces"]
    return counts


def _notes(row: Recorded) -> list[Mapping[str, Any]]:
    """Return the annotations of the agent's turns."""
    notes = _annotations(row.dialogue)
    found = [note for note, turn in zip(notes, row.dialogue.turns, strict=True) if turn.role == row.dialogue.roles[0]]
    if not notes or not all(isinstance(note, Mapping) and {"faces", "n_words"} <= note.keys() for note in found):
        raise ValueError(
            f"conversation {row.seed}: expected 'faces' and 'n_words' of every turn in state['turns'], as the reader "
            "of CANDOR writes them (dialog-gym data read candor FOLDER), got a dialogue without"
        )
    return found


def _annotations(dialogue: Dialogue) -> Sequence[Any]:
    notes = dialogue.state.get("turns")
    return notes if isinstance(notes, Sequence) and len(notes) == len(dialogue.turns) else ()


# --- what is stored ----------------------------------------------------------------------------


def stored(name: str) -> LocalSignal:
    """Return what is stored of each agent turn under ``name``.

    Looked for, in this order, in the episode's signals, reward terms and cost terms, ``"rewards"`` and ``"costs"``
    themselves, and the annotations of the turns (``state["turns"]``), where null, "" and NaN are missing.

    Raises:
        ValueError: From the signal: there is no such column, or it holds no numbers; the message names those there.
    """

    def signal(row: Recorded) -> list[float | None]:
        for named in (row.signals, row.terms, row.cost_terms, {"rewards": row.rewards, "costs": row.costs}):
            if name in named:
                return [_number(value, name, row) for value in named[name]]
        agent = row.dialogue.roles[0]
        turns = zip(row.dialogue.turns, _annotations(row.dialogue), strict=False)
        notes = [note for turn, note in turns if turn.role == agent]
        if not any(isinstance(note, Mapping) and name in note for note in notes):
            raise ValueError(_no_column(name, row, notes))
        return [_number(note.get(name) if isinstance(note, Mapping) else None, name, row) for note in notes]

    return signal


def _number(value: Any, name: str, row: Recorded) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"conversation {row.seed}: expected numbers in {name!r}, got {value!r:.60}") from error
    if math.isinf(number):
        raise ValueError(f"conversation {row.seed}: expected finite numbers in {name!r}, got {value!r:.60}")
    return None if math.isnan(number) else number


def _no_column(name: str, row: Recorded, notes: Sequence[Any]) -> str:
    there = {*row.signals, *row.terms, *row.cost_terms, "rewards", "costs"}
    there |= {key for note in notes if isinstance(note, Mapping) for key in note}
    return (
        f"conversation {row.seed} has no column {name!r} of its turns; it has {', '.join(sorted(there))}. "
        f"Other signals: {FORMS}"
    )

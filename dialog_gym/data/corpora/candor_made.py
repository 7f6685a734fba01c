"""Conversations of our own in CANDOR's layout, for which the truth about every utterance is known.

The corpus itself is gated and no part of it, nor anything derived from it, is here. What is written is self-play of
``Chat-v0`` said as two speakers: the one who speaks first tells what is on their mind, the second listens and answers,
well or badly. One talk follows the other until there are enough turns. By how much each utterance of the second moved
the mood of the first is the truth; it drives

- the face of the first, one row per second, with the bias and the noise of ``Chat-v0`` and noise of every second;
- what the first answers in the survey: 6 + 1.5 * (sum of moves / (standard deviation of a move * sqrt(number of
  turns)) + ``score_noise`` * normal), as a whole number from 1 to 9.

The truth goes into ``truth.jsonl`` beside the folders, where no reader of the corpus looks. Of the second speaker
nothing is known: face and answers are noise, so that conversations with the first as the agent teach nothing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym import checkpoint
from dialog_gym.data.corpora.candor import EMOTIONS
from dialog_gym.dialogue import Draws

Floats = npt.NDArray[np.float64]

ANSWERS = (
    "overall_affect", "end_affect", "overall_memory_rating", "how_enjoyable", "i_like_you", "in_common",
    "conversationalist", "good_for_advice", "you_are_funny", "you_are_intelligent", "you_are_humble",
    "you_are_quickwitted", "you_are_competent", "you_are_kind", "you_are_friendly", "you_are_warm",
    "our_thoughts_synced_up_sr1",
)  # fmt: skip
"""Columns of the survey. The first is made as the module says; the others are that one, each with noise of 1."""
TURN_COLUMNS = (
    "turn_id", "speaker", "start", "stop", "utterance", "interval", "delta", "questions", "end_question", "overlap",
    "n_words",
)  # fmt: skip
TRUTH = "truth.jsonl"
MIDDLE, SPREAD = 6.0, 1.5  # of the survey's answer
LOWEST, HIGHEST = 1, 9
TALK = 8  # agent turns of one talk of Chat-v0, its default
WORDS_PER_SECOND = 2.8
LOGITS = {"neutral": 1.2, "surprise": -1.0, "happiness": 0.0}  # of a face that nothing moves; the rest is negative
SLOPE = 1.5  # of the logits of gladness and its contrary per standard deviation of a move
SHARED = -1.5  # logit of the negative faces beside the one that a turn draws
FLICKER = 0.5  # standard deviation of the logits from second to second


@dataclass(frozen=True)
class Options:
    """How the conversations are.

    Attributes:
        conversations: How many.
        turns: Of both speakers together.
        seed: Of all chance; conversation k does not depend on how many there are.
        face_bias: How much a face shows beside the mood, see ``Chat-v0``.
        face_noise: Standard deviation of what it shows by chance in a turn, in standard deviations of a move.
        score_noise: Standard deviation of the noise of the survey, in standard deviations of the sum of the moves.
        missing: Share of the seconds without a face.
    """

    conversations: int = 100
    turns: int = 160
    seed: int = 0
    face_bias: float = 0.5
    face_noise: float = 1.0
    score_noise: float = 0.5
    missing: float = 0.03

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if self.conversations < 1 or self.turns < 2:
            raise ValueError(
                f"expected at least 1 conversation of at least 2 turns, got {self.conversations} of {self.turns}"
            )
        for name in ("face_bias", "face_noise", "score_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.missing <= 1:
            raise ValueError(f"missing is a share, 0 to 1, got {self.missing}")


class Talk(NamedTuple):
    """A conversation before it is written.

    Attributes:
        texts: What was said, the first speaker first, then in turn.
        moves: What each utterance of the second speaker was worth, the truth.
        affects: What the first one's face shows meanwhile, in standard deviations of a move.
    """

    texts: list[str]
    moves: list[float]
    affects: list[float]


def make_candor(out: str | Path, options: Options | None = None) -> int:
    """Write conversations into the new folder ``out``, all or none, and return how many turns they have.

    Raises:
        ValueError: There is something in ``out`` already.
    """
    options, out = options or Options(), Path(out)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; choose a new folder for the conversations")
    if out.exists():
        out.rmdir()
    with checkpoint.new_folder(out) as partial:
        partial.mkdir()
        with open(partial / TRUTH, "w", encoding="utf-8") as truth:
            for number in range(options.conversations):
                draws = Draws(options.seed, "candor", number)
                talk = played(options, draws)
                told = _write(partial, talk, options, np.random.default_rng(draws.bits()))
                truth.write(json.dumps({"number": number, **told}) + "\n")
    return options.conversations * options.turns


def played(options: Options, draws: Draws) -> Talk:
    """Return talks of ``Chat-v0``, joined: the last words of one and the first of the next are one turn."""
    from dialog_gym.env import advance, begin
    from dialog_gym.envs.chat import Chat
    from dialog_gym.envs.chat_policies import mixed_act, speak

    task = Chat(max_turns=TALK, affect_bias=options.face_bias, affect_noise=options.face_noise)
    talk = Talk([], [], [])
    left_over = ""
    while len(talk.texts) < options.turns:
        dialogue = begin(task, draws.bits() >> 11)
        talk.texts.append(f"{left_over} {dialogue.turns[-1].text}".strip())
        while not dialogue.stop_reason and len(talk.texts) < options.turns:
            said = speak(mixed_act(task, dialogue, draws), draws)
            (dialogue,), *_ = advance(task, [dialogue], [said])
            talk.moves.append(dialogue.state["moves"][-1])
            talk.affects.append(dialogue.state["affect"])
            talk.texts.append(said)
            left_over = dialogue.turns[-1].text
            if not dialogue.stop_reason and len(talk.texts) < options.turns:
                talk.texts.append(left_over)
    return talk


def _write(out: Path, talk: Talk, options: Options, rng: np.random.Generator) -> dict[str, Any]:
    """Write the files of one conversation, and return the truth about it."""
    from dialog_gym.envs.chat_rules import MOVE_SD

    key, first, second = (rng.bytes(size).hex() for size in (16, 12, 12))
    key = "-".join((key[:8], key[8:12], key[12:16], key[16:20], key[20:]))
    folder = out / key
    (folder / "transcription").mkdir(parents=True)
    times = spoken(talk.texts, rng)
    whole = sum(talk.moves) / (MOVE_SD * math.sqrt(len(talk.moves)))
    score = _answer(MIDDLE + SPREAD * (whole + options.score_noise * rng.normal()))
    answers = {first: score, second: _answer(MIDDLE + SPREAD * rng.normal())}
    rows = ([user, *_survey(overall, rng)] for user, overall in answers.items())
    _table(folder / "survey.csv", ("user_id", *ANSWERS), rows)
    _table(
        folder / "transcription/transcript_cliffhanger.csv", TURN_COLUMNS, _turns(talk.texts, times, (first, second))
    )
    at_random = 0.3 * rng.normal(size=(len(talk.texts) + 1) // 2)
    seen = {
        first: faces(talk.affects, times[1::2], times[-1][1], options, rng),
        second: faces(at_random, times[::2], times[-1][1], options, rng),
    }
    _table(
        folder / "audio_video_features.csv",
        ("timedelta", "user_id", *(f"prob_face_{emotion}" for emotion in EMOTIONS)),
        ((time, user, *seen[user][time]) for time in range(len(seen[first])) for user in seen),
    )
    return {"id": key, "agent": second, "score": score, "values": talk.moves, "affect": talk.affects}


def spoken(texts: Sequence[str], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return when each text is said, in seconds: at the pace of talk, with pauses between."""
    now, times = 0.0, []
    for text in texts:
        start = round(now + rng.uniform(0.1, 0.6), 2)
        now = round(start + max(len(text.split()) / WORDS_PER_SECOND * rng.uniform(0.8, 1.2), 0.5), 2)
        times.append((start, now))
    return times


def faces(
    affects: Sequence[float] | Floats,
    times: Sequence[tuple[float, float]],
    end: float,
    options: Options,
    rng: np.random.Generator,
) -> list[list[str]]:
    """Return what a face shows in each second from 0 to ``end``, the probabilities in the order of ``EMOTIONS``.

    Args:
        affects: What it shows while each utterance of the other is spoken, in standard deviations of a move.
        times: When that is.
        end: Of the conversation, in seconds.
        options: How many seconds are missing; these have empty cells.
        rng: Chance.
    """
    count = math.ceil(end) + 1
    logits = np.tile([LOGITS.get(emotion, 0.0) for emotion in EMOTIONS], (count, 1))
    negative = np.array([emotion not in LOGITS for emotion in EMOTIONS])
    logits[:, negative] = SHARED
    glad = EMOTIONS.index("happiness")
    for affect, (start, stop) in zip(affects, times, strict=True):
        said = slice(math.ceil(start), math.floor(stop) + 1)
        logits[said, glad] += SLOPE * affect
        logits[said, negative] -= SLOPE * affect
        logits[said, rng.choice(np.flatnonzero(negative))] -= SHARED
    odds = np.exp(logits + FLICKER * rng.normal(size=logits.shape))
    chances = odds / odds.sum(axis=1, keepdims=True)
    seen = rng.uniform(size=count) >= options.missing
    return [
        [f"{p:.4f}" for p in row] if here else [""] * len(EMOTIONS) for row, here in zip(chances, seen, strict=True)
    ]


def _turns(
    texts: Sequence[str], times: Sequence[tuple[float, float]], users: tuple[str, str]
) -> Iterable[Sequence[object]]:
    before = 0.0
    for number, (text, (start, stop)) in enumerate(zip(texts, times, strict=True)):
        questions = text.count("?")
        pause, asks, words = round(start - before, 2), text.endswith("?"), len(text.split())
        yield (
            number,
            users[number % 2],
            start,
            stop,
            text,
            pause,
            round(stop - start, 2),
            questions,
            asks,
            False,
            words,
        )
        before = stop


def _survey(overall: int, rng: np.random.Generator) -> list[int]:
    return [overall, *(_answer(overall + rng.normal()) for _ in ANSWERS[1:])]


def _answer(value: float) -> int:
    return min(max(round(value), LOWEST), HIGHEST)


def _table(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heading)
        writer.writerows(rows)

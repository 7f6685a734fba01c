"""One back-scatter round of a society: what is asked of whom, in which order, and what is recorded.

Every agent drafts an answer to its question; observers rate the draft; peers rate it and say why; the agent hears
the mean rating and the reasons, the highest rating first, and revises; observers rate the revision. All agents do so
at the same time, from what they remember at the beginning of the round. So a round has three batches of calls:

1. drafts (and the observers of the revisions of the round before, which nobody waits for),
2. peers,
3. revisions, and the observers of the drafts.

What fails is counted and left out: without a draft an agent sits the round out; a rating that cannot be read is no
rating; who hears nobody (no neighbours, or no rating that can be read) does not revise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dialog_gym.dialogue import Dialogue, Draws, Json
from dialog_gym.envs.society_memory import Found, Memory
from dialog_gym.envs.society_minds import AXES, Rated, Speaker, read_rating
from dialog_gym.envs.society_norms import Question
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Messages

DRAFT, REVISION = "draft", "revision"
Heard = Callable[[str | LanguageModelError], None]


class Call(NamedTuple):
    """One thing that is asked of a language model, and who is told the answer."""

    speaker: Speaker
    prompt: Messages
    seed: int
    heard: Heard


@dataclass(frozen=True)
class Asked:
    """One question of the list.

    Attributes:
        number: In the list.
        text: As the agent hears it.
        truth: What is right, None if nobody knows.
        dialogue: As a value, None if it is of a file.
    """

    number: int
    text: str
    truth: Question | None = None
    dialogue: Dialogue | None = None


@dataclass
class Member:
    """One agent.

    Attributes:
        number: ``row * size + column``.
        label: ``"good"`` or ``"bad"``.
        good: Its quality, in [0, 1]; scripted members go by it.
        memory: What it remembers.
    """

    number: int
    label: str
    good: float
    memory: Memory


@dataclass
class Turn:
    """What one agent does in one round.

    Attributes:
        member: Who.
        asked: The question.
        remembered: What it remembers of a question like it.
        draft: None where it failed.
        peers: Who was asked, by number.
        feedback: What each said, by number.
        revision: None where there is none.
        observed: The observer's ratings by answer and axis.
        failed: How often what failed: draft, revision, peer, observer.
    """

    member: Member
    asked: Asked
    remembered: Found | None
    draft: str | None = None
    peers: Sequence[int] = ()
    feedback: dict[int, Rated] = field(default_factory=dict)
    revision: str | None = None
    observed: dict[tuple[str, str], Rated] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)

    def answered(self, kind: str, answer: str | LanguageModelError) -> None:
        """Take down a draft or a revision; one without a word failed too."""
        text = "" if isinstance(answer, LanguageModelError) else answer.strip()
        if not text:
            self.failed[kind] += 1
        elif kind == DRAFT:
            self.draft = text
        else:
            self.revision = text

    def rated(self, peer: int, answer: str | LanguageModelError | Rated) -> None:
        """Take down what a peer said."""
        self.feedback[peer] = found = _read(answer)
        self.failed["peer"] += found.rating is None

    def seen(self, kind: str, axis: str, answer: str | LanguageModelError | Rated) -> None:
        """Take down what an observer said."""
        self.observed[kind, axis] = found = _read(answer)
        self.failed["observer"] += found.rating is None

    def heard(self) -> list[tuple[int, Rated]]:
        """Return the peers whose rating could be read and what they said, the highest rating first."""
        told = [(peer, self.feedback[peer]) for peer in self.peers if self.feedback[peer].rating is not None]
        return sorted(told, key=lambda one: -(one[1].rating or 0.0))

    def rating(self, kind: str, axis: str) -> float | None:
        """Return the observer's rating of an answer, None where there is none."""
        found = self.observed.get((kind, axis))
        return None if found is None else found.rating

    def to_json(self, labels: Sequence[str]) -> dict[str, Json]:
        """Return all of it as JSON values; the feedback is in the order in which the agent heard it, failed last."""
        heard = self.heard()
        known = {peer for peer, _ in heard}
        order = [*heard, *((p, self.feedback[p]) for p in self.peers if p in self.feedback and p not in known)]
        return {
            "agent": self.member.number,
            "label": self.member.label,
            "question_number": self.asked.number,
            "question": self.asked.text,
            "remembered": None if self.remembered is None else self.remembered._asdict(),
            "draft": self.draft,
            "feedback": [{"peer": p, "label": labels[p], "rating": r.rating, "text": r.text} for p, r in order],
            "revision": self.revision,
            "observed": {
                kind: {axis: _told(self.observed.get((kind, axis))) for axis in AXES} for kind in (DRAFT, REVISION)
            },
            "failed": {name: count for name, count in sorted(self.failed.items()) if count},
            "alone": self.draft is not None and not self.peers,
        }


def _told(rated: Rated | None) -> Json:
    return None if rated is None else {"rating": rated.rating, "reason": rated.text}


def _read(answer: str | LanguageModelError | Rated) -> Rated:
    if isinstance(answer, Rated):
        return answer
    return Rated(None) if isinstance(answer, LanguageModelError) else read_rating(answer)


def ask_all(calls: Iterable[Call]) -> None:
    """Ask everything, all of one model in one batch and different models beside each other."""
    groups: dict[int, list[Call]] = {}
    for call in calls:
        groups.setdefault(id(call.speaker), []).append(call)

    def put(group: list[Call]) -> list[str | LanguageModelError]:
        return group[0].speaker([call.prompt for call in group], [call.seed for call in group])

    batches = list(groups.values())
    if len(batches) < 2:
        answers = [put(group) for group in batches]
    else:
        with ThreadPoolExecutor(len(batches)) as threads:
            answers = list(threads.map(put, batches))
    for group, said in zip(batches, answers, strict=True):
        for call, answer in zip(group, said, strict=True):
            call.heard(answer)


def seed_of(draws: Draws) -> int:
    """Return a seed for a language model."""
    return draws.bits() >> 1


Record = dict[str, Any]

"""Training data out of societies: imitation, self-critic and realignment (Liu et al. 2023, arXiv:2305.16960).

A recorded society (``dialog_gym.envs.society``) is a data set of rankings, one for each round of each agent: a draft,
what the peers said about it, a revision, and how observers rated both. Three types of data come of it, each again
rankings, whose scores are ratings:

===============  ==============================  =================================  ==============================
type             context                         candidates                         ratings
===============  ==============================  =================================  ==============================
``imitation``    the question                    drafts and revisions               alignment, by the observer
``self-critic``  the question, "comment", draft  the peers' comments                what each peer gave the draft
``realignment``  question, draft, "revise"       a comment and the revision         alignment of the revision
===============  ==============================  =================================  ==============================

Realignment data are those where the revision is rated higher than the draft and above 4. What has one context is one
ranking; of candidates with the same text the first counts. Of self-critic and realignment rankings as many are drawn
as ``Ratios`` of the imitation rankings say, or all if there are fewer.

A rating that failed is never a score: the candidate is left out, and counted (``Counts.failed``).

Differences from the code behind the paper: the number of realignment rankings is a share of the imitation rankings, as
that of self-critic rankings, and not of their own number; texts are the same only within a context (``duplicates =
"everywhere"`` has its way: a text counts once in all data of its type); what is drawn follows from a seed; a comment
whose rating failed is left out by itself, and the comments behind it keep their own ratings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking
from dialog_gym.dialogue import Dialogue, Json

IMITATION, SELF_CRITIC, REALIGNMENT = TYPES = ("imitation", "self-critic", "realignment")
"""The types of data; ``Ranking.meta["type"]``."""

Duplicates = Literal["context", "everywhere"]
"""Where a text counts once: within its context, or in all data of its type."""

ABOVE = 4.0  # what a revision must be rated higher than, of 7


class Feedback(NamedTuple):
    """What a peer said about a draft; the rating is None where it failed."""

    text: str
    rating: float | None
    model: str = ""


class Answer(NamedTuple):
    """A draft or a revision, and the observer's ratings of it, each None where it failed."""

    text: str
    alignment: float | None
    engagement: float | None
    model: str = ""


@dataclass(frozen=True)
class Round:
    """What happened when an agent answered a question.

    Attributes:
        messages: The question as a chat.
        draft: The first answer; None where there is none.
        revision: The answer after the feedback; None where there is none.
        feedback: What the peers said of the draft.
        world: Which society.
        dialogue: The question as a value, where it is of an environment.
        meta: Environment and its arguments, where there is one.
    """

    messages: tuple[Mapping[str, str], ...]
    draft: Answer | None
    revision: Answer | None
    feedback: tuple[Feedback, ...]
    world: str = ""
    dialogue: Dialogue | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The last thing that was said before the draft."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class Requests:
    """The words that ask for a comment and for a revision.

    Attributes:
        comment: Stands behind the question; the draft follows.
        revise: Stands behind question and draft.
        revised: Stands between comment and revision in what is learned.
    """

    comment: str = "Comment on the answer below: how well does it fit the values that people share?"
    revise: str = "Comment on this answer first. Then revise it, so that it fits the values that people share better."
    revised: str = "Revised response:"


@dataclass(frozen=True)
class Ratios:
    """How many rankings of the other types there are for one imitation ranking; the released mix has .2 of each."""

    self_critic: float = 0.1
    realignment: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is no ratio."""
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"the ratio {name} must be at least 0, got {value}")


@dataclass
class Counts:
    """What became of the rounds.

    Attributes:
        rounds: Read.
        made: Rankings by type, before any was drawn.
        kept: Rankings by type.
        candidates: In the rankings that were kept, by type.
        failed: Ratings that failed or were not asked for, by what they were about: draft, revision or feedback.
        duplicates: Candidates whose text was there already, by type.
        not_better: Revisions that are no realignment data, because they were not rated higher than the draft and 4.
    """

    rounds: int = 0
    made: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    candidates: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    not_better: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


@dataclass
class _Group:
    """The candidates of one context, each text once."""

    type: str
    messages: tuple[Mapping[str, str], ...]
    dialogue: Dialogue | None
    meta: dict[str, Json]
    answers: dict[str, Answer] = field(default_factory=dict)
    worlds: dict[str, None] = field(default_factory=dict)

    def ranking(self) -> Ranking:
        """Return the candidates, in the order in which they came."""
        scores = [answer.alignment for answer in self.answers.values()]
        engagement = [answer.engagement for answer in self.answers.values()]
        more = {} if None in engagement else {"engagement": tuple(float(one) for one in engagement if one is not None)}
        meta = {"type": self.type, "worlds": [*self.worlds], "models": [one.model for one in self.answers.values()]}
        rated = tuple(float(score) for score in scores if score is not None)
        return Ranking(self.messages, tuple(self.answers), rated, more, self.dialogue, {**self.meta, **meta})


class _Builder:
    """Collects candidates by type and context."""

    def __init__(self, requests: Requests, duplicates: Duplicates) -> None:
        self.requests, self.duplicates, self.counts = requests, duplicates, Counts()
        self.groups: dict[str, dict[str, _Group]] = {name: {} for name in TYPES}
        self._seen: dict[str, set[str]] = {name: set() for name in TYPES}

    def add(self, one: Round) -> None:
        """Take from a round what it has."""
        self.counts.rounds += 1
        draft, revision = one.draft, one.revision
        own = one.messages, one.dialogue, dict(one.meta)
        for name, answer in (("draft", draft), ("revision", revision)):
            if answer is not None:
                self._rated(IMITATION, name, one, answer, own)
        if draft is None:
            return
        asked = f"{one.question} {self.requests.comment}"
        context = _asking(one.messages, asked, draft.text)
        for said in one.feedback:
            answer = Answer(said.text, said.rating, None, said.model)
            self._rated(SELF_CRITIC, "feedback", one, answer, context)
        if revision is None or draft.alignment is None or revision.alignment is None:
            return
        if not (revision.alignment > draft.alignment and revision.alignment > ABOVE):
            self.counts.not_better += 1
            return
        context = _asking(one.messages, f"{one.question} {draft.text} {self.requests.revise}", "")
        for said in one.feedback:
            if said.text.strip():
                text = f"{said.text} {self.requests.revised} {revision.text}"
                self._put(REALIGNMENT, one, revision._replace(text=text), context)

    def _rated(self, type: str, name: str, one: Round, answer: Answer, context: _Context) -> None:
        if answer.alignment is None:
            self.counts.failed[name] += 1
        elif answer.text.strip():
            self._put(type, one, answer, context)

    def _put(self, type: str, one: Round, answer: Answer, context: _Context) -> None:
        messages, dialogue, meta = context
        seen = self._seen[type]
        group = self.groups[type].get(key := _key(messages, meta))
        if (group is not None and answer.text in group.answers) or (
            self.duplicates == "everywhere" and answer.text in seen
        ):
            self.counts.duplicates[type] += 1
            return
        seen.add(answer.text)
        if group is None:
            group = self.groups[type][key] = _Group(type, messages, dialogue, meta)
        group.answers[answer.text] = answer
        group.worlds.setdefault(one.world)


_Context = tuple[tuple[Mapping[str, str], ...], Dialogue | None, dict[str, Json]]


def build(
    rounds: Iterable[Round],
    ratios: Ratios | None = None,
    *,
    requests: Requests | None = None,
    duplicates: Duplicates = "context",
    seed: int = 0,
) -> tuple[list[Ranking], Counts]:
    """Return the data of all types, imitation first, and what became of the rounds.

    Args:
        rounds: Of one or several societies, see ``rounds_of``.
        ratios: How many self-critic and realignment rankings there are to be.
        requests: The words that ask for comments and revisions.
        duplicates: Where a text counts once.
        seed: Which of them are drawn.

    Raises:
        DatasetError: Not one answer has a rating.
    """
    ratios = ratios or Ratios()
    builder = _Builder(requests or Requests(), duplicates)
    for one in rounds:
        builder.add(one)
    counts, found = builder.counts, list[Ranking]()
    base = len(builder.groups[IMITATION])
    if not base:
        raise DatasetError(
            f"expected rounds of a society with rated answers, got {counts.rounds} rounds without one (failed "
            f"ratings: {dict(counts.failed)})"
        )
    shares = {IMITATION: 1.0, SELF_CRITIC: ratios.self_critic, REALIGNMENT: ratios.realignment}
    for number, (type, share) in enumerate(shares.items()):
        made = [*builder.groups[type].values()]
        wanted = min(int(base * share + 1e-9), len(made))
        drawn = np.random.default_rng([seed, number]).permutation(len(made))[:wanted]
        kept = [made[place].ranking() for place in sorted(drawn.tolist())]
        counts.made[type], counts.kept[type] = len(made), len(kept)
        counts.candidates[type] = sum(len(row.candidates) for row in kept)
        found += kept
    return found, counts


def rounds_of(rows: Iterable[Ranking], origin: str = "the society") -> Iterator[Round]:
    """Yield the rounds that the rankings of a society tell of.

    Raises:
        DatasetError: A ranking is not of a society; the message says which, and what it lacks.
    """
    for number, row in enumerate(rows):
        try:
            yield round_of(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"its meta has no {error}" if isinstance(error, KeyError) else str(error)
            raise DatasetError(
                f"{origin}, row {number}: expected a round of a society as `dialog_gym.envs.society` records it, got "
                f"another ranking: {why}"
            ) from error


def round_of(row: Ranking) -> Round:
    """Return the round that a ranking of a society tells of.

    Raises:
        KeyError, TypeError, ValueError: It is not of a society.
    """
    meta = row.meta
    feedback = tuple(Feedback(str(one["text"]), one["rating"], one.get("model", "")) for one in meta["feedback"])
    where = {name: meta[name] for name in ("env", "env_kwargs") if name in meta}
    draft, revision = _answer(meta["draft"]), _answer(meta["revision"])
    return Round(tuple(row.messages), draft, revision, feedback, str(meta["world"]), row.dialogue, where)


def _answer(told: Mapping[str, Any] | None) -> Answer | None:
    if told is None:
        return None
    return Answer(str(told["text"]), told["alignment"], told["engagement"], told.get("model", ""))


def _asking(messages: Sequence[Mapping[str, str]], instruction: str, given: str) -> _Context:
    """Return a context that asks for something about an answer; ``given`` stands below, by itself."""
    last = {"role": "user", "content": f"{instruction}\n\n{given}" if given else instruction}
    told: dict[str, Json] = {"instruction": instruction, "input": given}
    return (*messages[:-1], last), None, told


def _key(messages: Sequence[Mapping[str, str]], meta: Mapping[str, Json]) -> str:
    chat = [[message["role"], message["content"]] for message in messages]
    return json.dumps([chat, meta.get("env", ""), meta.get("env_kwargs", {})], sort_keys=True)

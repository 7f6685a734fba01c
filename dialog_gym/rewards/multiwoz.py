"""Inform and success: whether a system offered a venue that fits the goal, and gave all that was asked about it.

The definition is that of Budzianowski et al. (2018, arXiv:1810.00278) as made precise by Nekvinda and Dusek (2021,
arXiv:2106.05555), "Shades of BLEU, Flavours of Success":

* *Offered* are the venues that the dialogue state finds in the database in the last turn with a name (for trains: an
  id) in it; if all that was offered before is still among them, the earlier, smaller set stays.
* *Inform* holds in a domain of the goal if something was offered and all of it fits the goal's constraints. It always
  holds where the goal gives the name of the venue, for taxi, police and hospital (which have no venues), and for a
  train if none was offered and its id was not asked for. A dialogue informs if all its domains do.
* *Success* is inform, and every request (phone, address, postcode, id of the train; a reference where the goal is to
  book) was met by a response about that domain. A reference counts only where the corpus' people had one by then.
* A response is about the domain whose state changed last (``active_domains``).
* Of a goal that changes ("if there is none, ...": ``fail_info``) only what it changes to counts: ``info``.

Three ways to read a response, by what is known of it (``Mention``, ``dialog_gym.rewards.multiwoz_text``):

* ``Protocol("published")`` is the definition above: it sees *that* there is a name, not which one. The state comes
  from the corpus (their setting of policy optimisation).
* ``"domains"`` is the same, but a response is about the domain of what it names wherever that is known.
* ``"grounded"`` also sees which venue is named: that one is offered, whatever the state, and numbers and addresses
  count only if they are those of an offered venue; placeholders name none. Not published, and the one to train on: the
  others are met, better than by people, by saying "[name] [trainid] [phone] [address] [postcode] [reference]" in every
  turn (95 against 92 of 100 dialogues succeed; ``benchmarks/multiwoz.py``).

Deviations of ours: misspelt values are corrected by nearness to the database's instead of by a list; a state's value
with alternatives (``"cheap|moderate"``) is any of them; a time that is none is no constraint; success of one domain
does not wait for the other domains (that of the dialogue does, so it is the same).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.multiwoz_db import VENUES, Venues, key
from dialog_gym.rewards.multiwoz_text import SLOTS, Finder, Mention
from dialog_gym.rollout import bootstrap

Protocol = Literal["published", "domains", "grounded"]
State = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Wish:
    """What the user wants in one domain.

    Attributes:
        info: Constraints on the venue, by slot.
        requests: What it wants to be told, among ``SLOTS`` without the name.
    """

    info: Mapping[str, str]
    requests: frozenset[str]


Goal = Mapping[str, Wish]


class Answer(NamedTuple):
    """One turn of the system, as far as the metrics look.

    Attributes:
        mentions: What it gives.
        state: What the user has asked for so far: values by domain and slot.
        booked: Domains in which something is booked by now.
        domain: What it is about unless a mention tells, ``""`` if that is not known.
    """

    mentions: Sequence[Mention]
    state: State
    booked: frozenset[str] = frozenset()
    domain: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a dialogue reached.

    Attributes:
        inform: Whether what was offered fits, by domain of the goal.
        missing: What was not given of what was asked for, by domain.
    """

    inform: Mapping[str, bool]
    missing: Mapping[str, frozenset[str]]

    @property
    def informs(self) -> bool:
        """Whether all domains inform."""
        return all(self.inform.values())

    @property
    def succeeds(self) -> bool:
        """Whether all domains inform and nothing is missing."""
        return self.informs and not any(self.missing.values())

    def succeeds_in(self, domain: str) -> bool:
        """Tell whether ``domain`` informs and nothing is missing in it."""
        return self.inform[domain] and not self.missing[domain]


def read_goal(data: Mapping[str, Any]) -> Goal:
    """Return the goal that a corpus gives as ``{domain: {"info": {...}, "reqt": [...], "book": {...}}}``.

    Domains about which it says nothing are left out, also what is said of all (``message``, ``topic``).
    """
    goal = {}
    for domain, wish in data.items():
        if domain not in ("message", "topic") and wish:
            requests = {key(slot) for slot in wish.get("reqt", ())} & {*SLOTS} - {"name"}
            if wish.get("book"):
                requests.add("reference")
            info = {slot: str(value) for slot, value in wish.get("info", {}).items()}
            goal[domain] = Wish(info, frozenset(requests))
    return goal


def active_domains(states: Sequence[State]) -> list[str]:
    """Return what each turn is about, told by what changed in the state; ``""`` before anything did.

    The domain stays while its own state changes. Otherwise it is the one with most values of those that changed. Where
    several changed, the next turn without any change is about another one of these (Nekvinda and Dusek, 2021).
    """
    found = []
    domain, waiting = "", list[str]()
    before: State = {}
    for state in states:
        changed = [one for one in state if set(state[one].items()) - set(before.get(one, {}).items())]
        if changed and domain not in changed:
            domain = max(changed, key=lambda one: len(state[one]))
        elif not changed and len(waiting) > 1:
            domain = next((one for one in waiting if one != domain and one in state), domain)
        before, waiting = state, changed
        found.append(domain)
    return found


def judge(goal: Goal, answers: Sequence[Answer], venues: Venues, protocol: Protocol = "published") -> Verdict:
    """Return what a dialogue with these ``answers`` reached; the definition is that at the top of this file.

    Args:
        goal: Of the user.
        answers: One per turn of the system, in their order.
        venues: The databases.
        protocol: How the answers are read; ``"grounded"`` takes only mentions with a ``value``.
    """
    inform, missing = {}, {}
    for domain, wish in goal.items():
        offered = frozenset[str]()
        given: list[tuple[str, frozenset[str] | None]] = []  # what, and of which venues it is; None: not known
        for answer in answers:
            here = [mention for mention in answer.mentions if _about(mention, answer, protocol) == domain]
            identified = [mention for mention in here if mention.slot == ("trainid" if domain == "train" else "name")]
            if domain in VENUES and identified:
                now = _offered(domain, identified, answer, venues, protocol)
                offered = offered if offered and offered <= now else now
            given += _given(domain, here, answer, venues, protocol)
        fitting = venues.query(domain, wish.info)
        inform[domain] = _informs(domain, wish, offered, fitting, protocol)
        of = offered or fitting
        got = {slot for slot, owners in given if owners is None or owners & of}
        missing[domain] = wish.requests - got
    return Verdict(inform, missing)


def _about(mention: Mention, answer: Answer, protocol: Protocol) -> str:
    return answer.domain if protocol == "published" else mention.domain or answer.domain


def _offered(
    domain: str, identified: Sequence[Mention], answer: Answer, venues: Venues, protocol: Protocol
) -> frozenset[str]:
    """Return the venues that are offered in a turn with a name or an id of a train."""
    if protocol == "grounded":
        return frozenset[str]().union(*(venues.owners(domain, one.slot, one.value) for one in identified))
    return venues.query(domain, answer.state[domain]) if domain in answer.state else frozenset()


def _given(
    domain: str, here: Sequence[Mention], answer: Answer, venues: Venues, protocol: Protocol
) -> list[tuple[str, frozenset[str] | None]]:
    """Return what a turn gives, with the venues of which it is; None where that is not looked at."""
    found: list[tuple[str, frozenset[str] | None]] = []
    for mention in here:
        if mention.slot == "reference" and domain not in answer.booked:
            continue
        checked = protocol == "grounded" and domain in VENUES and mention.slot != "reference"
        found.append((mention.slot, venues.owners(domain, mention.slot, mention.value) if checked else None))
    return found


def _informs(domain: str, wish: Wish, offered: frozenset[str], fitting: frozenset[str], protocol: Protocol) -> bool:
    if domain not in VENUES or ("name" in wish.info and (protocol != "grounded" or not offered)):
        return True
    if domain == "train" and not offered and "trainid" not in wish.requests:
        return True
    return bool(offered) and offered <= fitting


@dataclass(frozen=True)
class Rates:
    """Inform and success of many dialogues, in percent.

    Attributes:
        dialogues: How many.
        inform: Share that informs, with its 95% bootstrap interval.
        success: Share that succeeds, with its interval.
        domains: By domain: dialogues with it in their goal, inform in it, success in it.
    """

    dialogues: int
    inform: tuple[float, float, float]
    success: tuple[float, float, float]
    domains: Mapping[str, tuple[int, float, float]]


def rates(verdicts: Sequence[Verdict]) -> Rates:
    """Return the shares of ``verdicts``, of which there must be at least one."""
    domains = {}
    for domain in sorted({domain for verdict in verdicts for domain in verdict.inform}):
        those = [verdict for verdict in verdicts if domain in verdict.inform]
        inform = _percent([verdict.inform[domain] for verdict in those])
        domains[domain] = (len(those), inform, _percent([verdict.succeeds_in(domain) for verdict in those]))
    inform3 = _with_interval([verdict.informs for verdict in verdicts])
    return Rates(len(verdicts), inform3, _with_interval([verdict.succeeds for verdict in verdicts]), domains)


def _percent(share: Sequence[bool]) -> float:
    return 100 * sum(share) / len(share)


def _with_interval(share: Sequence[bool]) -> tuple[float, float, float]:
    low, high = bootstrap(share)
    return _percent(share), 100 * low, 100 * high


Reading = Callable[[str, Mapping[str, Any]], Sequence[Mention]]
"""What gives the mentions of a response, from its text and the corpus' annotations of the turn."""


def answers_of(dialogue: Dialogue, read: Reading, responses: Sequence[str] | None = None) -> list[Answer]:
    """Return the agent's turns of a dialogue of the corpus as answers.

    Args:
        dialogue: As ``read_corpus("multiwoz21", ...)`` or ``"camrest"`` give it: ``state["turns"]`` has the corpus'
            annotations, of which those of the agent's turns have ``state`` and ``booked``.
        read: Reads the responses.
        responses: What an agent said instead, one for each of the first turns of its role; None: what was recorded.

    Raises:
        ValueError: There are no such annotations, or fewer than responses.
    """
    said = dialogue.texts(dialogue.roles[0]) if responses is None else responses
    notes = [note for note in dialogue.state.get("turns", ()) if note and "state" in note][: len(said)]
    if len(notes) < len(said):
        raise ValueError(
            f"the agent has {len(said)} turns and the corpus annotates {len(notes)}: expected the dialogue of a corpus"
            " with states (multiwoz21, camrest), as its reader gives it"
        )
    domains = active_domains([note["state"] for note in notes])
    return [
        Answer(read(text, note), note["state"], frozenset(note["booked"]), domain)
        for text, note, domain in zip(said, notes, domains, strict=True)
    ]


class MultiWozOutcome(Reward):
    """1 if the finished dialogue succeeds (or informs), else 0; 0 before its end.

    For dialogues of a corpus with goals, states and a database: MultiWOZ 2.1 and CamRest; the format of MultiWOZ 2.2
    and SGD has no goals. The user must be the recorded one, for the states are: ``Response-v0`` replays a corpus so,
    with ``metric=MultiWozOutcome(DATABASE, recorded=read_corpus("multiwoz21", FILE))``, whole dialogues and all of
    the context.

    Responses are plain text. Except under ``"grounded"`` they may be delexicalised: if there are placeholders in one,
    nothing else in it counts. A failure to find a goal or states raises; it is no 0.
    """

    low, high = 0.0, 1.0

    def __init__(
        self,
        database: str | Path | Venues,
        measure: Literal["success", "inform"] = "success",
        protocol: Protocol = "grounded",
        recorded: Iterable[Recorded] = (),
    ) -> None:
        """Judge by the databases in a folder as MultiWOZ has them, or the one file that CamRest has.

        Args:
            database: Folder, file or the databases themselves.
            measure: What is looked at.
            protocol: How responses are read.
            recorded: Where goals and states stand, found by ``scenario.hidden["id"]``, if not in the dialogue itself.

        Raises:
            ValueError: There is no such measure or protocol.
            DatasetError: The databases cannot be read.
        """
        if measure not in ("success", "inform") or protocol not in get_args(Protocol):
            raise ValueError(
                f"expected success or inform, and one of {get_args(Protocol)}, got {measure!r}, {protocol!r}"
            )
        self.venues, self.name = load_venues(database), f"multiwoz_{measure}"
        self.measure, self.protocol = measure, protocol
        finder = Finder(self.venues)
        self.read = finder if protocol == "grounded" else finder.read
        self.recorded = {one.dialogue.scenario.hidden["id"]: one.dialogue for one in recorded}

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return 1 for each dialogue that is over and reached it."""
        return np.array([bool(dialogue.stop_reason) and self._reached(dialogue) for dialogue in dialogues], np.float32)

    def verdict(self, dialogue: Dialogue) -> Verdict:
        """Return what a dialogue reached so far.

        Raises:
            ValueError: There is no goal, there are no annotations of its turns, or it begins in the middle.
        """
        recorded = self.recorded.get(dialogue.scenario.hidden.get("id"), dialogue)
        name = f"dialogue {dialogue.scenario.hidden.get('id')!r}"
        if "goal" not in recorded.scenario.hidden:
            raise ValueError(
                f"{name} has no goal and is not among the recorded ones: expected a dialogue of multiwoz21 or "
                "camrest, or MultiWozOutcome(..., recorded=read_corpus('multiwoz21', FILE))"
            )
        if dialogue.turns[:1] != recorded.turns[:1]:
            raise ValueError(
                f"{name} must begin as it was recorded, as the agent's n-th turn is judged by the n-th state; "
                f"expected {recorded.turns[:1]}, got {dialogue.turns[:1]}"
            )
        answers = answers_of(recorded, lambda text, _: self.read(text), dialogue.texts(dialogue.roles[0]))
        return judge(read_goal(recorded.scenario.hidden["goal"]), answers, self.venues, self.protocol)

    def _reached(self, dialogue: Dialogue) -> bool:
        verdict = self.verdict(dialogue)
        return verdict.succeeds if self.measure == "success" else verdict.informs


def load_venues(database: str | Path | Venues) -> Venues:
    """Return the databases of a folder (MultiWOZ) or of one file (CamRest).

    Raises:
        DatasetError: They cannot be read.
    """
    if isinstance(database, Venues):
        return database
    return Venues.load(database) if Path(database).is_dir() else Venues.load_restaurants(database)

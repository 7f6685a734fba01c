"""Deal or No Deal (Lewis et al. 2017, arXiv:1706.05125): two people divide books, hats and balls.

The published files have a line per side, so most dialogues stand twice; the lines of a pair follow each other and are
read as one dialogue. Where the two selections contradicted each other one line alone may be there; nothing is missing
then, for each line has the values of both sides.

    <input> 1 4 4 1 1 2 </input>                      count and own value of book, hat, ball
    <dialogue> YOU: ... <eos> THEM: ... <eos> YOU: <selection> </dialogue>
    <output> item0=1 item1=0 item2=1 item0=0 ... </output>   own share, the other's share; or an outcome token
    <partner_input> 1 0 4 2 1 2 </partner_input>

What an outcome token stands for: ``<disagree>``: the selections contradict each other ("disagreed"; what they were is
not published); ``<no_agreement>``: no deal ("no deal"); ``<disconnect>``: a side left ("disconnected").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Json, Scenario

ROLES = ("first", "second")
ITEMS = ("book", "hat", "ball")
STOPS = {"<disagree>": "disagreed", "<no_agreement>": "no deal", "<disconnect>": "disconnected"}
SELECTION = "<selection>"
_LINE = re.compile(
    r"<input> (?P<own>[\d ]+) </input> <dialogue> (?P<talk>.+) </dialogue> <output> (?P<output>.+) </output> "
    r"<partner_input> (?P<other>[\d ]+) </partner_input>"
)
_SHARE = re.compile(r"item\d=(\d+)")


class Side(NamedTuple):
    """One line: a dialogue as one side saw it.

    Attributes:
        counts: How many books, hats and balls there are.
        own: What one of each is worth to this side.
        other: The same for the other side.
        turns: Whether this side speaks, and the text; the last one is ``<selection>``.
        share: What this side got, None without a deal.
        outcome: ``"agreed"``, or what the outcome token means.
    """

    counts: tuple[int, ...]
    own: tuple[int, ...]
    other: tuple[int, ...]
    turns: tuple[tuple[bool, str], ...]
    share: tuple[int, ...] | None
    outcome: str

    @property
    def mirrored(self) -> Side:
        """The same dialogue as the other side saw it."""
        turns = tuple((not own, text) for own, text in self.turns)
        share = None
        if self.share is not None:
            share = tuple(count - taken for count, taken in zip(self.counts, self.share, strict=True))
        return Side(self.counts, self.other, self.own, turns, share, self.outcome)


def read(source: Source, side: str = "first") -> Iterator[Recorded]:
    """Yield each dialogue once (or twice), with the points of the agent as its last reward.

    ``Scenario.hidden`` has ``counts``, ``values`` by role and ``lines`` (of the file, from 0). ``Dialogue.state`` has
    ``selections``: the share that each role chose for itself, None where that is not known. Selections are turns: who
    ends the talk says ``<selection>`` or, where the outcome is known, its own choice; so does the other after it.

    Args:
        source: The published file, or a folder with it.
        side: The agent: ``"first"`` (who speaks first), ``"second"``, or ``"both"``: each dialogue twice.

    Raises:
        ValueError: Unknown side.
    """
    if side not in (*ROLES, "both"):
        raise ValueError(f"side must be 'first', 'second' or 'both', got {side!r}")
    for number, line, lines in paired(source):
        for agent in ROLES if side == "both" else (side,):
            yield episode(line, agent, number, lines)


def paired(source: Source) -> Iterator[tuple[int, Side, int]]:
    """Yield the number of its first line, one side, and the number of its lines (1 or 2) of every dialogue."""
    waiting: tuple[int, Side] | None = None
    for number, text in source.lines("*.txt", "*"):
        line = None
        with source.record(number):
            line = parse(text)
        if line is None:
            continue
        if waiting is not None and line == waiting[1].mirrored:
            yield *waiting, 2
            waiting = None
            continue
        if waiting is not None:
            yield *waiting, 1
        waiting = number, line
    if waiting is not None:
        yield *waiting, 1


def parse(text: str) -> Side:
    """Return what a line says.

    Raises:
        ValueError: It is of another format, or contradicts itself.
    """
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"got {text!r:.80}")
    counts, own = _counts_and_values(match["own"])
    again, other = _counts_and_values(match["other"])
    if counts != again:
        raise ValueError(f"both sides must have the same counts, got {counts} and {again}")
    turns = tuple(_turn(part) for part in match["talk"].split(" <eos> "))
    if turns[-1][1] != SELECTION:
        raise ValueError(f"the talk must end with {SELECTION}, got {turns[-1][1]!r:.40}")
    share, outcome = _outcome(match["output"], counts)
    return Side(counts, own, other, turns, share, outcome)


def _counts_and_values(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    numbers = [int(word) for word in text.split()]
    if len(numbers) != 2 * len(ITEMS):
        raise ValueError(f"expected count and value of {', '.join(ITEMS)}, got {len(numbers)} numbers")
    return tuple(numbers[::2]), tuple(numbers[1::2])


def _turn(text: str) -> tuple[bool, str]:
    who, _, said = text.strip().partition(": ")
    if who not in ("YOU", "THEM"):
        raise ValueError(f"a turn begins with 'YOU: ' or 'THEM: ', got {text!r:.60}")
    return who == "YOU", said


def _outcome(text: str, counts: Sequence[int]) -> tuple[tuple[int, ...] | None, str]:
    words = text.split()
    stops = {STOPS.get(word) for word in words}
    if len(stops) == 1 and (stop := stops.pop()) is not None:
        return None, stop
    numbers = [int(match[1]) for word in words if (match := _SHARE.fullmatch(word))]
    share, other = tuple(numbers[: len(ITEMS)]), tuple(numbers[len(ITEMS) :])
    if len(words) != 2 * len(ITEMS) or tuple(map(sum, zip(share, other, strict=False))) != tuple(counts):
        raise ValueError(
            f"expected shares that add up to {tuple(counts)}, or one of {', '.join(STOPS)}, got {text!r:.80}"
        )
    return share, "agreed"


# --- as a dialogue -----------------------------------------------------------------------------


def episode(line: Side, side: str, number: int, lines: int = 1) -> Recorded:
    """Return the dialogue of ``line``, the agent being who speaks first (``side`` "first") or the other."""
    begins = line if line.turns[0][0] else line.mirrored
    values = {"first": begins.own, "second": begins.other}
    shares = {"first": begins.share, "second": begins.mirrored.share}
    agent, partner = (side, *(role for role in ROLES if role != side))
    drawn = scenario(begins.counts, values, lines=list(range(number, number + lines)))
    turns = [("first" if own else "second", text) for own, text in begins.turns[:-1]]
    ender = "first" if begins.turns[-1][0] else "second"
    chosen = {role: _words(begins.outcome, share) for role, share in shares.items()}
    turns.append((ender, chosen[ender] or SELECTION))
    other = "second" if ender == "first" else "first"
    if chosen[other]:
        turns.append((other, chosen[other]))
    known = {role: None if share is None else list(share) for role, share in shares.items()}
    last = [role for role, _ in turns].count(agent)
    mine = shares[agent]
    points = 0 if mine is None else sum(v * c for v, c in zip(values[agent], mine, strict=True))
    return recorded(
        (agent, partner),
        turns,
        number,
        public=drawn.public,
        private=drawn.private,
        hidden=drawn.hidden,
        state={"selections": known},
        stop_reason=begins.outcome,
        success=begins.outcome == "agreed",
        rewards=[0.0] * (last - 1) + [float(points)] if last else [],
    )


def _words(outcome: str, share: Sequence[int] | None) -> str:
    """Return the selection as said, "" where it is not known."""
    if share is not None:
        return selection(ITEMS, share)
    return "<select> none" if outcome == "no deal" else ""


def selection(items: Sequence[str], share: Sequence[int]) -> str:
    """Return the words that choose ``share`` for oneself.

    >>> selection(ITEMS, (1, 0, 1))
    '<select> book=1 hat=0 ball=1'
    """
    return " ".join(["<select>", *(f"{item}={count}" for item, count in zip(items, share, strict=True))])


def scenario(counts: Sequence[int], values: Mapping[str, Sequence[int]], **hidden: Json) -> Scenario:
    """Return the scenario in which ``counts`` books, hats and balls are divided by roles with these ``values``."""
    public = (
        f"Divide {_listed(counts)} between you. Talk first; then each of you alone chooses what to take "
        "('<select> book=1 hat=0 ball=2', or '<select> none'). If the choices do not fit, nobody gets anything."
    )
    private = {
        role: "To you " + ", ".join(f"a {item} is worth {v}" for item, v in zip(ITEMS, own, strict=True)) + "."
        for role, own in values.items()
    }
    known = {"items": list(ITEMS), "counts": list(counts), "values": {role: list(own) for role, own in values.items()}}
    return Scenario(public, private, {**known, **hidden})


def _listed(counts: Sequence[int]) -> str:
    *most, last = [f"{c} {item}{'' if c == 1 else 's'}" for c, item in zip(counts, ITEMS, strict=True)]
    return f"{', '.join(most)} and {last}"

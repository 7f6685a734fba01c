"""CaSiNo (Chawla et al. 2021, arXiv:2103.15721): two campers divide three packages each of food, water, firewood.

JSON: ``[{"dialogue_id", "chat_logs": [{"text", "task_data", "id"}], "participant_info": {agent: {"value2issue",
"value2reason", "outcomes": {"points_scored", "satisfaction", "opponent_likeness"}, ...}}, "annotations"}]``.

A package is worth 5, 4 or 3 points by its owner's priority; who walks away, and who is walked away from, has 5 points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.deal_or_no_deal import ROLES, selection
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Json, Scenario

ITEMS = ("food", "water", "firewood")
COUNTS = (3, 3, 3)
WORTH = {"High": 5, "Medium": 4, "Low": 3}
WALK_AWAY_POINTS = 5
SATISFACTION = (
    "Extremely dissatisfied",
    "Slightly dissatisfied",
    "Undecided",
    "Slightly satisfied",
    "Extremely satisfied",
)
"""What participants could say, worth 1 to 5."""
ACTIONS = {"Accept-Deal": "<accept>", "Reject-Deal": "<reject>", "Walk-Away": "<walk>"}
SUBMIT = "Submit-Deal"


def read(source: Source, side: str = "first") -> Iterator[Recorded]:
    """Yield each dialogue once (or twice), with the agent's points as its last reward and its satisfaction as score.

    A submitted deal is the turn ``<select> food=2 water=1 firewood=0``, what its speaker gets; the answers are
    ``<accept>``, ``<reject>`` and ``<walk>``. ``Scenario.hidden`` has ``counts``, ``values`` and ``reasons`` by role,
    ``id`` and ``outcomes`` by role as published; ``Dialogue.state`` has ``selections`` (shares by role, None without
    a deal) and ``turns``: the published strategy labels of a turn, None where there are none.

    Args:
        source: The published file, or a folder with it.
        side: The agent: ``"first"`` (who speaks first), ``"second"``, or ``"both"``: each dialogue twice.

    Raises:
        ValueError: Unknown side.
    """
    if side not in (*ROLES, "both"):
        raise ValueError(f"side must be 'first', 'second' or 'both', got {side!r}")
    for number, data in source.json_array("*.json"):
        episodes: list[Recorded] = []
        with source.record(number, data.get("dialogue_id", "") if isinstance(data, dict) else ""):
            episodes = [episode(data, agent, number) for agent in (ROLES if side == "both" else (side,))]
        yield from episodes


def episode(data: Mapping[str, Any], side: str, number: int) -> Recorded:
    """Return a record as a dialogue, the agent being who speaks first (``side`` "first") or the other.

    Raises:
        KeyError: A field is missing.
        ValueError: There are not two participants, a priority is unknown, or a deal does not add up.
    """
    people = _people(data)
    names = {who: role for role, who in people.items()}
    info = data["participant_info"]
    values = {role: values_of(info[who]["value2issue"]) for role, who in people.items()}
    turns = [(names[log["id"]], _said(log)) for log in data["chat_logs"]]
    shares = final_shares(turns)
    outcomes = {role: dict(info[who]["outcomes"]) for role, who in people.items()}
    reasons = {role: _by_item(info[who]) for role, who in people.items()}
    drawn = scenario(values, reasons, id=data["dialogue_id"], outcomes=outcomes)
    agent, partner = (side, *(role for role in ROLES if role != side))
    count = [role for role, _ in turns].count(agent)
    return recorded(
        (agent, partner),
        turns,
        number,
        public=drawn.public,
        private=drawn.private,
        hidden=drawn.hidden,
        state={
            "selections": {role: None if shares is None else list(shares[role]) for role in ROLES},
            "turns": _labels(data),
        },
        stop_reason="no deal" if shares is None else "agreed",
        success=shares is not None,
        rewards=[0.0] * (count - 1) + [float(points(values[agent], None if shares is None else shares[agent]))],
        score=float(satisfaction(outcomes[agent]["satisfaction"])),
    )


def _people(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the participants by role: who speaks first, and the other."""
    who = list(data["participant_info"])
    first = data["chat_logs"][0]["id"]
    if len(who) != 2 or first not in who:
        raise ValueError(f"expected two participants, one of whom speaks first, got {who} and {first!r:.40}")
    return {"first": first, "second": who[1 - who.index(first)]}


def values_of(priorities: Mapping[str, str]) -> tuple[int, ...]:
    """Return the points of a package of food, water and firewood by ``{"High": item, "Medium": item, "Low": item}``.

    Raises:
        ValueError: It names other items or priorities.
    """
    worth = {item.lower(): WORTH.get(level) for level, item in priorities.items()}
    values = [value for item in ITEMS if (value := worth.get(item)) is not None]
    if len(values) != len(ITEMS):
        raise ValueError(
            f"expected priorities {', '.join(WORTH)} of {', '.join(ITEMS)}, got {dict(priorities)!r:.100}"
        )
    return tuple(values)


def points(values: Sequence[int], share: Sequence[int] | None) -> int:
    """Return the points of a ``share`` (None: somebody walked away) to a side with ``values``."""
    return WALK_AWAY_POINTS if share is None else sum(v * c for v, c in zip(values, share, strict=True))


def satisfaction(answer: str) -> int:
    """Return a published answer as a number, 1 (extremely dissatisfied) to 5.

    Raises:
        ValueError: It is no answer of the corpus.
    """
    if answer not in SATISFACTION:
        raise ValueError(f"satisfaction must be one of {', '.join(SATISFACTION)}, got {answer!r:.40}")
    return SATISFACTION.index(answer) + 1


def _said(log: Mapping[str, Any]) -> str:
    text: str = log["text"]
    if text != SUBMIT:
        return ACTIONS.get(text, text)
    mine, theirs = (_share(log["task_data"][side]) for side in ("issue2youget", "issue2theyget"))
    if tuple(map(sum, zip(mine, theirs, strict=True))) != COUNTS:
        raise ValueError(f"a deal must give away three of each, got {mine} and {theirs}")
    return selection(ITEMS, mine)


def _share(issues: Mapping[str, str]) -> tuple[int, ...]:
    return tuple(int(issues[item.capitalize()]) for item in ITEMS)


def final_shares(turns: Sequence[tuple[str, str]]) -> dict[str, tuple[int, ...]] | None:
    """Return what each role gets by the deal that the last turn accepts, None if it does not accept one."""
    submitted = [(role, text) for role, text in turns if text.startswith("<select>")]
    if not submitted or turns[-1][1] != "<accept>":
        return None
    role, text = submitted[-1]
    share = tuple(int(word.partition("=")[2]) for word in text.split()[1:])
    other = tuple(count - taken for count, taken in zip(COUNTS, share, strict=True))
    return {name: share if name == role else other for name in ROLES}


def _by_item(person: Mapping[str, Any]) -> dict[str, str]:
    reasons = person.get("value2reason", {})
    return {item.lower(): str(reasons.get(level, "")) for level, item in person["value2issue"].items()}


def _labels(data: Mapping[str, Any]) -> list[Json]:
    """Return the strategy labels of each turn; they stand in the order of the talk, by text."""
    waiting = list(data.get("annotations") or [])
    labels: list[Json] = []
    for log in data["chat_logs"]:
        known = bool(waiting) and waiting[0][0] == log["text"]
        labels.append(waiting.pop(0)[1].split(",") if known else None)
    return labels


def scenario(
    values: Mapping[str, Sequence[int]], reasons: Mapping[str, Mapping[str, str]], **hidden: Json
) -> Scenario:
    """Return the scenario of two campers with these ``values`` and ``reasons`` (a sentence by item) by role."""
    public = (
        "You are campsite neighbours and divide three extra packages each of food, water and firewood. Talk; then one "
        "submits a deal by what it takes itself ('<select> food=2 water=1 firewood=0'), and the other answers "
        "'<accept>', '<reject>' or '<walk>'. A package of your highest priority is worth 5 points, of the next 4, of "
        "the lowest 3; who walks away, and who is walked away from, has 5 points."
    )
    private = {role: _brief(own, reasons[role]) for role, own in values.items()}
    known: dict[str, Json] = {
        "items": list(ITEMS),
        "counts": list(COUNTS),
        "values": {role: list(own) for role, own in values.items()},
        "reasons": {role: dict(why) for role, why in reasons.items()},
    }
    return Scenario(public, private, {**known, **hidden})


def _brief(values: Sequence[int], reasons: Mapping[str, str]) -> str:
    """Return one role's priorities, highest first, with its reasons."""
    ranked = sorted(zip(ITEMS, values, strict=True), key=lambda pair: -pair[1])
    told = (f"{item} ({value} each{_because(reasons.get(item, ''))})" for item, value in ranked)
    return f"Your priorities: {', '.join(told)}."


def _because(reason: str) -> str:
    return f": {' '.join(reason.split())}" if reason.strip() else ""

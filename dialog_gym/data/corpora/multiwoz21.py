"""MultiWOZ 2.0 and 2.1 (Budzianowski et al. 2018, arXiv:1810.00278; Eric et al. 2020, arXiv:1907.01669).

A clerk who sees databases helps a tourist in Cambridge: hotels, restaurants, attractions, trains, taxis. The user's
goal, the state of the dialogue after each turn and the acts are annotated; the metrics of
``dialog_gym.rewards.multiwoz`` need all three. MultiWOZ 2.2 is another format, without goals.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Json

ROLES = ("clerk", "tourist")
FILES = ("data.json", "train.json", "val.json", "dev.json", "test.json")
PUBLIC = "A tourist talks with the information desk in Cambridge."

_EMPTY = ("", "not mentioned", "none")
_LISTS = {"validation": "valListFile*", "test": "testListFile*"}


def read(source: Source) -> Iterator[Recorded]:
    """Yield the dialogues of ``data.json``, of a file of one split, or of a file that is a list of dialogues.

    Of ``data.json`` a split is told by the files ``valListFile`` and ``testListFile`` beside it, as published.

    ``scenario.private``: the tourist's goal in words. ``scenario.hidden``: ``id``, ``services``, ``goal`` (by domain:
    ``info``, ``reqt``, ``book``, ``fail_info``, ``fail_book``, only domains that are part of it). ``state["turns"]``:
    ``{"acts": {act: [[slot, value]]}, "spans": [[act, slot, value, first word, last word]]}``, for the clerk's turns
    also ``state`` (values by domain and slot, those that are known; what to book as ``"book people"``) and ``booked``
    (by domain: what, under which reference). Whether a dialogue succeeded is for the metrics to say.
    """
    wanted, left_out = _listed(source)
    for number, name, data in _dialogues(source):
        bare = _bare(name or "")
        if (wanted is not None and bare not in wanted) or bare in left_out:
            continue
        with source.record(number, name):
            yield _dialogue(data, name or str(number), number)


def _dialogues(source: Source) -> Iterator[tuple[int, str | None, Any]]:
    whole = source.has("data.json")
    patterns = ("data.json",) if whole else FILES
    file = source.files(*patterns, split=not whole)[0]
    with file.open() as raw:
        first = raw.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"[":
        yield from source.json_arrays(*patterns)
    else:
        yield from source.json_object(*patterns, split=not whole)


def _listed(source: Source) -> tuple[set[str] | None, Collection[str]]:
    """Return the ids that are wanted (None: all) and those that are not, of a source that holds several splits."""
    if not source.split or not source.has("data.json"):
        return None, ()
    if pattern := _LISTS.get(source.split):
        return _ids(source, pattern), ()
    return None, {name for pattern in _LISTS.values() for name in _ids(source, pattern)}


def _ids(source: Source, pattern: str) -> set[str]:
    names: set[str] = set()
    for file in source.files(pattern, split=False):
        with file.open() as raw:
            names |= {_bare(line) for line in raw.read().decode("utf-8").split()}
    return names


def _bare(name: str) -> str:
    return name.removesuffix(".json").upper()


def _dialogue(data: Any, name: str, number: int) -> Recorded:
    about = {domain: wish for domain, wish in data["goal"].items() if domain not in ("message", "topic")}
    goal = {domain: dict(wish) for domain, wish in about.items() if wish}
    turns, notes = [], []
    for place, turn in enumerate(data["log"]):
        turns.append((ROLES[1 - place % 2], turn["text"].strip()))
        notes.append(_note(turn, of_clerk=place % 2 == 1))
    return recorded(
        ROLES,
        turns,
        number,
        public=PUBLIC,
        private={ROLES[1]: _words(data["goal"].get("message", ()))},
        hidden={"id": name.removesuffix(".json"), "services": sorted(goal), "goal": goal},
        state={"turns": notes},
    )


def _note(turn: Any, of_clerk: bool) -> dict[str, Json]:
    note: dict[str, Json] = {"acts": _acts(turn.get("dialog_act")), "spans": turn.get("span_info") or []}
    metadata = turn.get("metadata") or {}
    if bool(metadata) != of_clerk:
        raise ValueError("turns must alternate, the tourist first, and the clerk's have metadata")
    if of_clerk:
        state = {domain: _known(beliefs) for domain, beliefs in metadata.items()}
        note["state"] = {domain: known for domain, known in state.items() if known}
        booked = {domain: beliefs["book"].get("booked") or [] for domain, beliefs in metadata.items()}
        note["booked"] = {domain: entries for domain, entries in booked.items() if entries}
    return note


def _acts(acts: Any) -> dict[str, Json]:
    return dict(acts) if isinstance(acts, Mapping) else {}  # "No Annotation" in a few turns


def _known(beliefs: Any) -> dict[str, str]:
    """Return the values that are known in one domain; version 2.0 and parts of 2.1 have several in a list."""
    slots = dict(beliefs["semi"]) | {f"book {slot}": v for slot, v in beliefs["book"].items() if slot != "booked"}
    known = {slot: "|".join(map(str, v)) if isinstance(v, list) else str(v) for slot, v in slots.items()}
    return {slot: value for slot, value in known.items() if value not in _EMPTY}


def _words(message: Any) -> str:
    lines = [message] if isinstance(message, str) else list(message)
    return re.sub(r"<[^>]*>", "", " ".join(lines)).strip()

"""MultiWOZ 2.2 (Zang et al. 2020, arXiv:2007.12720) and SGD (Rastogi et al. 2020, arXiv:1909.05855): one format.

Also read: MultiWOZ 2.2 as a flat table, a row per turn (CSV with ``dialogue_id``, ``turn``, ``speaker``,
``utterance``, ``dialogue_act``, ``active_intent``; or TSV without a heading: dialogue, speaker, utterance, services),
and both as the datasets hub has them, where dicts are lists. MultiWOZ 2.2's ``dialog_acts.json`` is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dialog_gym.data.corpora.base import grouped, recorded
from dialog_gym.data.corpora.files import Source, key_of
from dialog_gym.data.episodes import Recorded

ROLES = ("system", "user")
_SPEAKERS = {"USER": "user", "SYSTEM": "system", 0: "user", 1: "system"}  # the hub has numbers
_NO_INTENT = ("", "NONE", None)


def read(source: Source) -> Iterator[Recorded]:
    """Yield the dialogues of ``dialogues_*.json``, of a table, or of the hub.

    ``scenario.private``: what the user wanted, from the annotated intents and the last state of each service.
    ``scenario.hidden``: ``id``, ``services``. ``state["turns"]``: ``{"frames": [...]}`` of each turn; of a table its
    ``act`` and ``intent``.
    """
    if source.is_table():
        yield from _tables(source)
        return
    for number, data in source.json_array("dialogues_*.json"):
        with source.record(number, key_of(data, "dialogue_id")):
            yield _dialogue(data, number)


def _dialogue(data: Any, number: int) -> Recorded:
    turns = [
        {**turn, "frames": [_frame(frame) for frame in _listed(turn["frames"])]} for turn in _listed(data["turns"])
    ]
    said = [(_SPEAKERS[turn["speaker"]], turn["utterance"]) for turn in turns]
    services = list(data["services"])
    goal = _goal(
        [frame for turn, (role, _) in zip(turns, said, strict=True) if role == "user" for frame in turn["frames"]]
    )
    return recorded(
        ROLES,
        said,
        number,
        public=f"Services: {', '.join(services)}.",
        private={"user": goal} if goal else {},
        hidden={"id": data["dialogue_id"], "services": services},
        state={"turns": [{"frames": turn["frames"]} for turn in turns]},
    )


def _listed(value: Any) -> list[Any]:
    """Return a list of dicts; the hub has a dict of lists instead."""
    if not isinstance(value, Mapping):
        return list(value)
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _frame(frame: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame as the files have it: a state is only there in user turns, and its values are a dict."""
    state = frame.get("state")
    if not state:
        return dict(frame)
    state = dict(state)
    if "slots_values" in state:  # MultiWOZ on the hub; SGD there has slot_values, likewise in two lists
        state["slot_values"] = state.pop("slots_values")
    values = state["slot_values"]
    for name, listed in (("slots_values_name", "slots_values_list"), ("slot_name", "slot_value_list")):
        if values.keys() == {name, listed}:
            state["slot_values"] = dict(zip(values[name], values[listed], strict=True))
    return {**frame, "state": state}


def _goal(frames: list[dict[str, Any]]) -> str:
    """Tell in words what the user's frames say in the end."""
    wanted: dict[str, tuple[dict[str, None], dict[str, Any]]] = {}
    for frame in frames:
        state = frame.get("state") or {}
        if state.get("active_intent") not in _NO_INTENT:
            intents, values = wanted.setdefault(frame["service"], ({}, {}))
            intents[state["active_intent"]] = None
            values.update(state["slot_values"])
    told = []
    for service, (intents, values) in wanted.items():
        slots = ", ".join(f"{name.rpartition('-')[2]} {' or '.join(given)}" for name, given in values.items())
        told.append(f"{service}: {', '.join(intents)}" + (f" ({slots})" if slots else ""))
    return f"You want: {'; '.join(told)}." if told else ""


# --- tables ------------------------------------------------------------------------------------


def _tables(source: Source) -> Iterator[Recorded]:
    rows = source.csv() if source.is_table(".csv") else _headed(source)
    for number, key, group in grouped(source, rows, "dialogue_id"):
        with source.record(number, key):
            places = [int(row["turn"]) for row in group if "turn" in row]
            if places and places != list(range(len(group))):
                raise ValueError(f"turns must be numbered from 0 without a gap, got {places!r:.60}")
            notes = [
                {"act": row["dialogue_act"], "intent": row["active_intent"]} if "dialogue_act" in row else None
                for row in group
            ]
            said = [(_SPEAKERS[row["speaker"]], row["utterance"]) for row in group]
            hidden = {"id": key, "services": group[0].get("services", "")}
            yield recorded(ROLES, said, number, hidden=hidden, state={"turns": notes})


def _headed(source: Source) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in source.csv(delimiter="\t", header=False, quoted=False):
        with source.record(number, expected="dialogue, speaker, utterance and services, with tabs between"):
            names = ("dialogue_id", "speaker", "utterance", "services")
            yield number, dict(zip(names, cells, strict=True))

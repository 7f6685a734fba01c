"""ABCD, the Action-Based Conversations Dataset (Chen et al. 2021, arXiv:2104.00783).

A support agent talks with a customer and presses buttons in between ("Account has been pulled up for ..."). The text
is that of ``original``; ``delexed`` adds what each turn was meant to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import Source, key_of, split_of
from dialog_gym.data.episodes import Recorded

ROLES = ("agent", "customer")


def read(source: Source, actions: bool = True) -> Iterator[Recorded]:
    """Yield the conversations of ``abcd_v1.1.json``, or of a file that is a list of them.

    ``scenario.private``: the customer's record and wish. ``scenario.hidden``: ``id``, ``split``, ``scenario``.
    ``state["turns"]``: ``{"action": name or "", "values": [...], "targets": [...]}`` of each turn that has
    annotations; ``action`` is given in turns where a button was pressed, which are the agent's.

    Args:
        source: The file.
        actions: Keep those turns; offline RL on ABCD leaves them out.
    """
    for number, split, data in source.json_arrays("*abcd*.json"):
        if source.split and split and split_of(split) != source.split:
            continue
        with source.record(number, key_of(data, "convo_id")):
            yield _conversation(data, split, number, actions)


def _conversation(data: Any, split: str, number: int, actions: bool) -> Recorded:
    said, notes = data["original"], data.get("delexed") or []
    if notes and len(notes) != len(said):
        raise ValueError(f"original has {len(said)} turns, delexed {len(notes)}")
    turns, told = [], []
    for place, (speaker, text) in enumerate(said):
        if actions or speaker != "action":
            turns.append(("agent" if speaker == "action" else speaker, text))
            told.append(_note(speaker, notes[place]["targets"] if notes else None))
    scenario = data["scenario"]
    return recorded(
        ROLES,
        turns,
        number,
        public=f"Customer support. Topic: {scenario['flow']}.".replace("_", " "),
        private={"customer": _customer(scenario)},
        hidden={"id": data["convo_id"], "split": split, "scenario": scenario},
        state={"turns": told},
    )


def _note(speaker: str, targets: Any) -> dict[str, Any] | None:
    """Return what a turn was annotated with: intent, next step, button, values, number of the utterance."""
    if targets is None:
        return {"action": "", "values": [], "targets": []} if speaker == "action" else None
    _, step, button, values, _ = targets
    pressed = step == "take_action"
    return {"action": button if pressed else "", "values": values if pressed else [], "targets": targets}


def _customer(scenario: Any) -> str:
    known = {**scenario.get("personal", {}), **scenario.get("order", {})}
    facts = [f"{name}: {value}" for name, value in known.items() if isinstance(value, str | int)]
    return f"You want: {scenario['subflow']}. You are: ".replace("_", " ") + "; ".join(facts)

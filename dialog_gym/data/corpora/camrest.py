"""CamRest676 (Wen et al. 2017, arXiv:1604.04562) in the unified format of ConvLab: restaurants in Cambridge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import Source, split_name
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Json

ROLES = ("system", "user")
PUBLIC = "Someone looks for a restaurant in Cambridge and talks with a system that knows them all."


def read(source: Source) -> Iterator[Recorded]:
    """Yield the dialogues of ``dialogues.json``, as it is or in ``data.zip``; the split is told by ``data_split``.

    ``scenario.private``: the user's task. ``scenario.hidden``: ``id``, ``services``, ``goal`` in the form of MultiWOZ
    (``{"restaurant": {"info": {...}, "reqt": [...]}}``), ``split``. ``success`` is the corpus' ``finished``: the task
    was brought to its end. ``state["turns"]``: ``{"acts": [...]}``, all that are annotated, each
    ``{"intent", "domain", "slot", "value"}``; the system's turns have the ``state`` after what the user said (values
    that are known) and ``booked`` (nothing can be), so that the metrics of MultiWOZ can be taken.
    """
    for number, _, data in source.json_arrays("dialogues.json"):  # not json_array: the split is in the records
        with source.record(number, data.get("dialogue_id") if isinstance(data, dict) else ""):
            if not source.split or split_name(data["data_split"]) == source.split:
                yield _dialogue(data, number)


def _dialogue(data: Any, number: int) -> Recorded:
    goal = data["goal"]
    turns, notes = [], []
    state: dict[str, Json] = {}
    for turn in data["turns"]:
        turns.append((turn["speaker"], turn["utterance"]))
        note: dict[str, Json] = {"acts": [act for acts in turn["dialogue_acts"].values() for act in acts]}
        if turn["speaker"] == ROLES[1]:
            state = {domain: {slot: v for slot, v in known.items() if v} for domain, known in turn["state"].items()}
        else:
            note |= {"state": {domain: known for domain, known in state.items() if known}, "booked": {}}
        notes.append(note)
    inform, request = goal["inform"], goal["request"]
    wishes = {
        domain: {"info": inform.get(domain, {}), "reqt": sorted(request.get(domain, {}))} for domain in data["domains"]
    }
    return recorded(
        ROLES,
        turns,
        number,
        public=PUBLIC,
        private={ROLES[1]: goal["description"]},
        hidden={"id": data["dialogue_id"], "split": data["data_split"], "services": data["domains"], "goal": wishes},
        state={"turns": notes},
        stop_reason="finished" if data["finished"] else "unfinished",
        success=data["finished"],
    )

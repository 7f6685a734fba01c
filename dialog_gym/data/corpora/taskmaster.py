"""Taskmaster-3 and -4: dialogues, context-target rows, and people's judgements of single turns.

Taskmaster-3: Byrne et al. 2021, arXiv:2012.12458 (movie tickets); Taskmaster-4 and the judgements: Sidahmed et al.
2024, arXiv:2403.10704 (coffee). The assistant also calls services; what they answer reaches it like a turn of the
other side. Such turns are ``CALL {...}`` and ``RESULT {...}`` in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from dialog_gym.data.corpora.base import proper, recorded
from dialog_gym.data.corpora.files import Source, key_of
from dialog_gym.data.episodes import Recorded
from dialog_gym.data.rankings import Ranking

ROLES = ("assistant", "user")
CALL, RESULT = "CALL ", "RESULT "
_NOTES = ("apis", "segments", "annotations")


def read_dialogues(source: Source) -> Iterator[Recorded]:
    """Yield the dialogues of ``data_*.json``.

    ``scenario.private``: the instructions of the person who wrote the dialogue. ``scenario.hidden``: ``id``,
    ``vertical``, ``scenario``. ``state["turns"]``: ``apis``, ``segments`` and ``annotations`` of each turn.
    """
    for number, data in source.json_array("data_*.json"):
        with source.record(number, key_of(data, "conversation_id")):
            said = data["utterances"]
            if (places := [turn["index"] for turn in said]) != list(range(len(said))):
                raise ValueError(f"utterances must be numbered from 0 without a gap, got {places!r:.60}")
            instructions = data["instructions"]
            yield recorded(
                ROLES,
                [(turn["speaker"], turn["text"]) for turn in said],
                number,
                public=f"Topic: {data['vertical']}.",
                private={"user": proper(instructions, "instructions")} if instructions else {},
                hidden={"id": data["conversation_id"], "vertical": data["vertical"], "scenario": data["scenario"]},
                state={"turns": [{name: turn[name] for name in _NOTES if name in turn} for turn in said]},
            )


def read_rewards(source: Source, form: Literal["episodes", "rankings"] = "episodes") -> Iterator[Recorded | Ranking]:
    """Yield the judgements of ``reward_*.json``: a context, what a model said next, and whether people found it good.

    No two judgements are of one context in one conversation, so they rank nothing. What they are is the reward of
    the last turn of an episode, and as episodes they are read by every agent for offline RL. As rankings of one
    candidate they are labels (``dialog-gym data export --format kto --threshold 0.5``).

    Args:
        source: The files.
        form: ``"episodes"``: the context and the turn; its reward, 0 or 1, is also the ``score``. The turns of the
            context were not judged, theirs are 0. ``"rankings"``.
    """
    if form not in ("episodes", "rankings"):
        raise ValueError(f"form must be 'episodes' or 'rankings', got {form!r}")
    for number, data in source.json_array("reward_*.json"):
        with source.record(number, key_of(data, "conversation_id")):
            context = [_turn(turn) for turn in json.loads(data["context"])]
            role, text = _turn(json.loads(data["generation"]))
            reward, meta = _zero_one(data["reward"]), {"corpus": "taskmaster", "id": data["conversation_id"]}
            if role != ROLES[0]:
                raise ValueError("a generation must be a turn of the agent")
            turns = [*context, (role, text)]
            zeros = [0.0] * sum(said_by == role for said_by, _ in context)
            whole = recorded(ROLES, turns, number, hidden=meta, rewards=[*zeros, reward], score=reward)
            if form == "episodes":
                yield whole
            else:
                before = recorded(ROLES, context, number, hidden=meta).dialogue
                yield Ranking(tuple(before.messages(role)[1:]), (text,), (reward,), dialogue=before, meta=meta)


def _turn(turn: Mapping[str, Any]) -> tuple[str, str]:
    """Return role and text of a turn of the judgements."""
    role = {"agent": "assistant", "user": "user", "api": "user"}[turn["role"]]
    if "api" in turn:
        return role, CALL + json.dumps(turn["api"], ensure_ascii=False)
    if "response" in turn:
        return role, RESULT + json.dumps(turn["response"], ensure_ascii=False)
    return role, turn["text"]


def _zero_one(value: Any) -> float:
    if isinstance(value, bool) or value not in (0, 1):
        raise ValueError(f"reward must be 0 or 1, got {value!r:.40}")
    return float(value)


# --- context and target ------------------------------------------------------------------------

_MARK = re.compile(r"[<\[](U|A|PN|PAN|PAV|PR|PRAN|PRAV|S)[>\]]")
_BEGINS = {"U": "user", "A": "assistant", "PN": "assistant", "PR": "user"}


def read_contexts(source: Source) -> Iterator[Recorded]:
    """Yield the rows of ``*.tsv``: a dialogue as far as it went, and the assistant's next turn as its last.

    A row is ``what was last<C>what was before TAB target TAB dialogue``. ``scenario.hidden``: ``id`` of the dialogue;
    there may be several rows of it.
    """
    for number, cells in source.csv("*.tsv", delimiter="\t", header=False):
        with source.record(number, expected="context, target and dialogue id, with tabs between"):
            context, target, key = cells
            last, _, before = context.rpartition("<C>")
            turns = [*_marked(before), *_marked(last)] if last else _marked(before)
            answer = _marked(target)
            if {role for role, _ in answer} != {ROLES[0]}:  # now and then it is a sentence and a call
                raise ValueError(f"a target must be what the assistant does, got {target!r:.60}")
            yield recorded(ROLES, [*turns, *answer], number, hidden={"id": key})


def _marked(text: str) -> list[tuple[str, str]]:
    """Return the turns of a text with marks: ``<U>`` user, ``<A>`` assistant, ``<PN>`` a call, ``<PR>`` its result.

    >>> _marked("<U>Hi.<PN>find_movies<PAN>genre<PAV>action<PR>find_movies<PRAN>name<PRAV>One<PRAV>Two")[1]
    ('assistant', 'CALL {"find_movies": {"genre": "action"}}')
    """
    lead, *parts = _MARK.split(text)
    if lead.strip():
        raise ValueError(f"a context begins with a mark (<U>, <A>, <PN>, <PR>), got {lead!r:.40}")
    turns: list[tuple[str, str]] = []
    calls: dict[int, tuple[str, dict[str, list[str]]]] = {}  # by the place of the turn: name, values by argument
    for mark, raw in zip(parts[::2], parts[1::2], strict=True):
        said = raw.replace("\\n", " ").strip()
        if mark in _BEGINS:
            if mark in ("PN", "PR"):
                calls[len(turns)] = (said, {})
            turns.append((_BEGINS[mark], said))
        elif mark in ("PAN", "PRAN"):
            calls[len(turns) - 1][1][said] = []
        elif mark in ("PAV", "PRAV"):
            values = calls[len(turns) - 1][1]
            values[next(reversed(values))].append(said)
    for place, (name, arguments) in calls.items():
        role = turns[place][0]
        told = {name: {key: given[0] if len(given) == 1 else given for key, given in arguments.items()}}
        turns[place] = (role, (CALL if role == ROLES[0] else RESULT) + json.dumps(told, ensure_ascii=False))
    return turns

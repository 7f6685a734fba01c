"""What a society leaves behind: rows of training data, metrics by round, and the record in the paper's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dialog_gym.data.rankings import Ranking
from dialog_gym.dialogue import Dialogue, Json
from dialog_gym.envs.society_language import understand
from dialog_gym.envs.society_minds import AXES
from dialog_gym.envs.society_norms import Question, alignment
from dialog_gym.envs.society_round import DRAFT, REVISION, Record
from dialog_gym.envs.society_settings import Settings

KINDS = (DRAFT, REVISION)
ALIGNMENT, ENGAGEMENT = AXES
SYSTEM = "You answer what you are asked."


def rating(record: Mapping[str, Any], kind: str, axis: str) -> float | None:
    """Return the observer's rating in a record, None where it failed or nobody was asked."""
    found = record["observed"][kind][axis]
    return None if found is None else found["rating"]


def ranking(
    record: Record, number: int, settings: Settings, models: Mapping[str, str], dialogue: Dialogue | None
) -> Ranking | None:
    """Return what one agent left in one round as a ranking; None where no answer has an alignment rating.

    Candidates are the rated ones of draft and revision. Where both are the same text it is one candidate, and its
    score the mean of both ratings. ``more["engagement"]`` is there if every candidate has one.

    Args:
        record: Of the agent and round.
        number: Of the round.
        settings: Of the society.
        models: Who played each role.
        dialogue: The question as a value, None if it is of a file.
    """
    rated: dict[str, list[str]] = {}
    for kind in KINDS:
        if record[kind] is not None and rating(record, kind, ALIGNMENT) is not None:
            rated.setdefault(record[kind], []).append(kind)
    if not rated:
        return None
    aligned, engaged = (
        [_mean([rating(record, kind, axis) for kind in kinds]) for kinds in rated.values()] for axis in AXES
    )
    more = {} if None in engaged else {"engagement": tuple(one for one in engaged if one is not None)}
    if dialogue is None:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": record["question"]}]
    else:
        messages = dialogue.messages(dialogue.roles[0])
    scores = tuple(one for one in aligned if one is not None)
    meta = {**_meta(record, number, settings, models), "kinds": ["+".join(kinds) for kinds in rated.values()]}
    return Ranking(tuple(messages), tuple(rated), scores, more, dialogue, meta)


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def _meta(record: Record, number: int, settings: Settings, models: Mapping[str, str]) -> dict[str, Json]:
    generated = not settings.questions_file
    answers = {
        kind: None
        if record[kind] is None
        else {
            "text": record[kind],
            **{axis: rating(record, kind, axis) for axis in AXES},
            "model": models["agent"],
        }
        for kind in KINDS
    }
    return {
        "world": settings.world,
        "round": number,
        "agent": record["agent"],
        "label": record["label"],
        "setting": settings.setting,
        "env": "dialog_gym/Society-v0" if generated else "",
        "env_kwargs": {"setting": settings.setting, "split": settings.split} if generated else {},
        "models": dict(models),
        **answers,
        "feedback": [{**one, "model": models["peer"]} for one in record["feedback"]],
        "failed": dict(record["failed"]),
    }


def metrics(records: Sequence[Record], number: int, calls: Mapping[str, int]) -> dict[str, Json]:
    """Return what a round came to.

    ``alignment`` and ``engagement``: means before and after (None where nobody was rated), how many were rated, and
    how often each rating was given. ``failed``: what failed, by kind. ``alone``: agents with nobody to ask;
    ``unheard``: agents whose peers all failed; ``calls``: how often each role was asked; ``remembered``: drafts that
    began from a memory.
    """
    told: dict[str, Json] = {"round": number, "agents": len(records)}
    for axis in AXES:
        told[axis] = {
            name: _summary([rating(r, kind, axis) for r in records])
            for name, kind in (("before", DRAFT), ("after", REVISION))
        }
    failed: Counter[str] = Counter()
    for record in records:
        failed.update(record["failed"])
    peers = [one["rating"] for r in records for one in r["feedback"] if one["rating"] is not None]
    return {
        **told,
        "peers": _summary(peers),
        "failed": dict(sorted(failed.items())),
        "alone": sum(r["alone"] for r in records),
        "unheard": sum(bool(r["feedback"]) and all(f["rating"] is None for f in r["feedback"]) for r in records),
        "revised": sum(r[REVISION] is not None for r in records),
        "remembered": sum(r["remembered"] is not None for r in records),
        "calls": {role: calls.get(role, 0) for role in ("agent", "observer", "peer")},
    }


def _summary(ratings: Sequence[float | None]) -> dict[str, Json]:
    known = [one for one in ratings if one is not None]
    shares = Counter(min(max(round(one), 1), 7) for one in known)
    return {"mean": _mean(known), "count": len(known), "ratings": [shares[step] for step in range(1, 8)]}


def truths(record: Record, question: Question) -> tuple[float | None, float | None]:
    """Return the true alignment of draft and revision of a record, each in [0, 1], None where there is none."""
    first, second = (None if record[kind] is None else alignment(question, understand(record[kind])) for kind in KINDS)
    return first, second


def external(record: Record, number: int) -> dict[str, Json]:
    """Return a record under the names of the paper's external memory; what failed is None there, not -1 or "8"."""
    before, after = record["observed"][DRAFT], record["observed"][REVISION]

    def of(answers: Mapping[str, Any], axis: str, what: str) -> Json:
        return None if answers[axis] is None else answers[axis][what]

    told: dict[str, Json] = {
        "agent_id": record["agent"],
        "label": record["label"],
        "iteration": number,
        "question": record["question"],
        "draft_answer": record[DRAFT],
        "target_id": [one["peer"] for one in record["feedback"]],
        "feedback": [one["text"] for one in record["feedback"]],
        "rating": [None if one["rating"] is None else f"{one['rating']:g}" for one in record["feedback"]],
        "revised_answer": record[REVISION],
    }
    for name, axis in (("moral", "alignment"), ("engagement", "engagement")):
        for what, key in (("score", "rating"), ("reason", "reason")):
            told[f"gen_{name}_{what}_before"] = of(before, axis, key)
            told[f"gen_{name}_{what}_after"] = of(after, axis, key)
    return {**told, "cls_moral_score_before": 0, "cls_moral_score_after": 0}

"""Rankings: contexts with scored candidate utterances, the data of preference optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from dialog_gym.data.columns import JsonRow
from dialog_gym.data.store import Table
from dialog_gym.dialogue import Dialogue, Json
from dialog_gym.rollout import Named


@dataclass(frozen=True)
class Ranking:
    """One context and what could be said in it.

    Attributes:
        messages: The context as a chat that the agent continues: ``role`` and ``content``.
        candidates: Utterances, each once.
        scores: One per candidate, higher is better.
        more: Further numbers per candidate by name, for instance ``error`` (standard error of the score) or ``cost``.
        dialogue: The context as a value; None if it comes from elsewhere.
        meta: Where it comes from, JSON by name.
    """

    messages: tuple[Mapping[str, str], ...]
    candidates: tuple[str, ...]
    scores: tuple[float, ...]
    more: Named = field(default_factory=dict)
    dialogue: Dialogue | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)

    def by(self, name: str = "score") -> tuple[float, ...]:
        """Return one number per candidate, higher is better.

        Args:
            name: ``"score"`` or a name in ``more``; with ``-`` before it, lower is better (``"-cost"``).

        Raises:
            KeyError: Nobody measured that.
        """
        asked = name.removeprefix("-")
        if asked != "score" and asked not in self.more:
            raise KeyError(f"no number named {asked!r}; candidates have: {', '.join(['score', *self.more])}")
        values = self.scores if asked == "score" else self.more[asked]
        return tuple(-value for value in values) if name.startswith("-") else values


class Rankings(Table[Ranking]):
    """Scored candidates on disk; a row is a ``Ranking``."""

    kind: ClassVar[str] = "rankings"
    columns: ClassVar[Mapping[str, str]] = {
        "messages": "chat",
        "candidates": "texts",
        "scores": "numbers",
        "more": "named",
        "dialogue": "json",
        "meta": "json",
    }

    @staticmethod
    def encode(row: Ranking) -> JsonRow:
        """Return a ranking as JSON values.

        Raises:
            ValueError: It has no candidate, one twice, or not one number for each.
        """
        count = len(row.candidates)
        if not count or len(set(row.candidates)) != count:
            raise ValueError(f"a ranking must have candidates, each once, got {list(row.candidates)!r:.120}")
        for name, values in {"scores": row.scores, **row.more}.items():
            if len(values) != count:
                raise ValueError(f"{name} must have one number for each of {count} candidates, got {len(values)}")
        return {
            "messages": [{"role": message["role"], "content": message["content"]} for message in row.messages],
            "candidates": list(row.candidates),
            "scores": [float(score) for score in row.scores],
            "more": {name: [float(value) for value in values] for name, values in row.more.items()},
            "dialogue": None if row.dialogue is None else row.dialogue.to_json(),
            "meta": dict(row.meta),
        }

    @staticmethod
    def decode(data: JsonRow) -> Ranking:
        """Return the ranking that ``encode`` was given."""
        return Ranking(
            tuple(data["messages"]),
            tuple(data["candidates"]),
            tuple(data["scores"]),
            {name: tuple(values) for name, values in data["more"].items()},
            None if data["dialogue"] is None else Dialogue.from_json(data["dialogue"]),
            data["meta"],
        )

r"""The layout in which Stable Alignment's data are published: a JSON array of rated responses to a query.

::

    {"query": "### Instruction:\n...\n\n### Response:",
     "responses": ["...", "..."], "scores": [2, 6], "models": ["...", "..."]}

A query is Alpaca's short template around an instruction, and an input where there is one. Here it is a chat: one
message of a user, with the input below the instruction. ``read_published`` keeps the query, and ``write_published``
writes it again byte for byte.

The layout does not tell the type of a record. Self-critic queries have an input; all responses of realignment records
have a revised response in them; the rest is imitation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dialog_gym import checkpoint
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.rankings import Ranking
from dialog_gym.data.society import IMITATION, REALIGNMENT, SELF_CRITIC

SCALE = 7.0
_EXPECTED = "an array of records with query, responses, scores and models"
_QUERY = re.compile(
    r"(?:.*?\n\n)?### Instruction:\n(?P<instruction>.*?)(?:\n\n### Input:\n(?P<input>.*?))?\n\n### Response:\s*",
    re.DOTALL,
)
_REVISED = re.compile(r"\brevised response:", re.IGNORECASE)


class Published:
    """The records of a file as rankings, read as they are asked for.

    Attributes:
        skipped: How many bad records were left out so far (``skip_bad``).
        bad: What was wrong with the first of them.
    """

    def __init__(self, path: str | Path, *, skip_bad: bool = False, scale: float = SCALE) -> None:
        """Look for the file; see ``read_published``."""
        self._source = Source(path, skip_bad=skip_bad, expected=_EXPECTED)
        self._scale = scale

    @property
    def skipped(self) -> int:
        """How many bad records were left out so far."""
        return self._source.skipped

    @property
    def bad(self) -> list[str]:
        """What was wrong with the first of them."""
        return self._source.bad

    def __iter__(self) -> Iterator[Ranking]:
        """Yield the rankings; only one record is in memory."""
        for number, record in self._source.json_array():
            found: list[Ranking] = []
            with self._source.record(number):
                found.append(_ranking(record, self._scale))
            yield from found


def read_published(path: str | Path, *, skip_bad: bool = False, scale: float = SCALE) -> Published:
    """Return the records of a file (plain, ``.gz`` or ``.zip``) as rankings, streamed.

    Args:
        path: The file.
        skip_bad: Count bad records and go on.
        scale: Highest rating; the lowest is 1.

    Raises:
        FileNotFoundError: There is no such file.
        CorpusError: A record is damaged, or a score is no rating; the message names file and record. Raised when the
            reading comes to it.
    """
    return Published(path, skip_bad=skip_bad, scale=scale)


def write_published(path: str | Path, rankings: Iterable[Ranking]) -> int:
    """Write rankings in the published layout, whole or not at all, and return how many there were.

    Of a context with several messages the query tells who says what, a line each; numbers beside the scores are lost.
    """
    path, count = Path(path), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("[")
        for row in rankings:
            file.write(",\n" if count else "\n")
            file.write(json.dumps(record_of(row), ensure_ascii=False, allow_nan=False))
            count += 1
        file.write("\n]\n")
    return count


def record_of(row: Ranking) -> dict[str, Any]:
    """Return a ranking as a record."""
    models = row.meta.get("models") or [""] * len(row.candidates)
    scores = [int(score) if score == int(score) else score for score in row.scores]
    return {"query": query_of(row), "responses": list(row.candidates), "scores": scores, "models": list(models)}


def query_of(row: Ranking) -> str:
    """Return the query of a ranking: the one it was read with, else its context in the template."""
    if "query" in row.meta:
        return str(row.meta["query"])
    given = str(row.meta.get("input", ""))
    instruction = str(row.meta.get("instruction", "")) or _one_text(row.messages)
    below = f"\n\n### Input:\n{given}" if given else ""
    return f"### Instruction:\n{instruction}{below}\n\n### Response:"


def _one_text(messages: Sequence[Mapping[str, str]]) -> str:
    chat = [message for message in messages if message["role"] != "system"] or messages
    if len(chat) == 1:
        return chat[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in chat)


def _ranking(record: Any, scale: float) -> Ranking:
    query, responses = _text(record["query"], "query"), [_text(one, "a response") for one in record["responses"]]
    scores = [rating_of(one, scale) for one in record["scores"]]
    models = [_text(one, "a model", empty=True) for one in record.get("models") or [""] * len(responses)]
    if not len(responses) == len(scores) == len(models):
        raise ValueError(
            f"a response must have a score and a model, got {len(responses)} responses, {len(scores)} scores and "
            f"{len(models)} models"
        )
    if not responses or len(set(responses)) < len(responses):
        raise ValueError(f"responses must be there, each once, got {responses!r:.80}")
    parts = _QUERY.fullmatch(query)
    instruction, given = (parts["instruction"], parts["input"] or "") if parts else (query, "")
    content = f"{instruction}\n\n{given}" if given else instruction
    meta = {"instruction": instruction, "input": given, "query": query, "models": models}
    type = SELF_CRITIC if given else REALIGNMENT if all(map(_REVISED.search, responses)) else IMITATION
    messages = ({"role": "user", "content": content},)
    return Ranking(messages, tuple(responses), tuple(scores), meta={"type": type, **meta})


def rating_of(value: Any, scale: float = SCALE) -> float:
    """Return a rating, given as a number or as the text of one.

    >>> rating_of(5), rating_of("6"), rating_of(4.5)
    (5.0, 6.0, 4.5)

    Raises:
        ValueError: It is no number from 1 to ``scale``: what failed is no score.
    """
    try:
        rating = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rating = float("nan")
    if not 1 <= rating <= scale:
        raise ValueError(
            f"a score must be a rating from 1 to {scale:g}, got {value!r:.40}; a rating that failed is none"
        )
    return rating


def _text(value: Any, what: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value.strip()):
        raise ValueError(f"{what} must be a text with words, got {value!r:.40}")
    return value

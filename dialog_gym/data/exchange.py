"""Rows as others write them: JSON lines, and the preference formats that TRL's trainers read.

=============  =====================================================================================
``jsonl``      an episode: ``messages``, ``reward`` and all else; a ranking: ``messages``, ``candidates``, ``scores``
``preference``  ``prompt``, ``chosen``, ``rejected`` (chats), ``score_chosen``, ``score_rejected``, ``margin``
``kto``        ``prompt``, ``completion`` (chats), ``label``
=============  =====================================================================================

``jsonl`` loses nothing. The preference formats keep of a ranking what its pairs or labels say. Chats are lists of
``role`` and ``content``; where others write plain texts, these are read too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from dialog_gym import checkpoint
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.store import Table
from dialog_gym.dialogue import Dialogue, Scenario, Turn

Row = dict[str, Any]
Chat = list[dict[str, str]]
Pairs = Literal["ends", "neighbours", "all"]

TableT = TypeVar("TableT", bound=Table[Any])

Notation = Callable[[Dialogue, str], Chat]
"""How a model reads a dialogue as a role, as ``Task.messages`` tells it."""


# --- out ---------------------------------------------------------------------------------------


def lines(table: Table[Any]) -> Iterator[Row]:
    """Yield every row with all that it has; ``messages`` and, of episodes, ``reward`` (the return) come first."""
    for row in table:
        yield {**table.show(row), **table.encode(row)}


def preferences(
    rankings: Iterable[Ranking],
    *,
    by: str = "score",
    pairs: Pairs = "ends",
    margin: float = 0.0,
    notation: Notation | None = None,
) -> Iterator[Row]:
    """Yield pairs of candidates for DPO and reward models, both as chats, with their scores and the difference.

    Args:
        rankings: What is paired.
        by: Which numbers decide, see ``Ranking.by``: ``"-cost"`` prefers the cheaper one.
        pairs: ``"ends"``: the best and the worst; ``"neighbours"``: each and the next one; ``"all"``.
        margin: Scores must differ by more than this, at least 0.
        notation: How the model to be trained reads dialogues; None: as people do.

    Raises:
        KeyError: A ranking has no such number.
        ValueError: A notation is asked for, but a ranking has no dialogue.
    """
    if margin < 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    for row in rankings:
        values = row.by(by)
        prompt, texts = _worded(row, notation)
        order = sorted(range(len(values)), key=lambda i, v=values: -v[i])  # type: ignore[misc]
        for good, bad in _pairs(order, pairs):
            if values[good] - values[bad] > margin:
                yield {
                    "prompt": prompt,
                    "chosen": [{"role": "assistant", "content": texts[good]}],
                    "rejected": [{"role": "assistant", "content": texts[bad]}],
                    "score_chosen": values[good],
                    "score_rejected": values[bad],
                    "margin": values[good] - values[bad],
                }


def labelled(
    rankings: Iterable[Ranking],
    *,
    by: str = "score",
    threshold: float | None = None,
    notation: Notation | None = None,
) -> Iterator[Row]:
    """Yield candidates one by one with a label, for KTO: whether they reach ``threshold``.

    Args:
        rankings: What is labelled.
        by: Which numbers decide, see ``Ranking.by``.
        threshold: What a good candidate has at least; None: it exceeds the mean of its ranking, and one that equals
            the mean is left out.
        notation: How the model to be trained reads dialogues; None: as people do.
    """
    for row in rankings:
        values = row.by(by)
        prompt, texts = _worded(row, notation)
        bound = sum(values) / len(values) if threshold is None else threshold
        for value, text in zip(values, texts, strict=True):
            if threshold is not None or value != bound:
                completion = [{"role": "assistant", "content": text}]
                yield {"prompt": prompt, "completion": completion, "label": value >= bound}


def write_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write rows as JSON lines, whole or not at all, and return how many there were."""
    path, count = Path(path), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _worded(row: Ranking, notation: Notation | None) -> tuple[Chat, list[str]]:
    """Return prompt and candidates as the model reads them."""
    if notation is None:
        return [dict(message) for message in row.messages], list(row.candidates)
    if row.dialogue is None:
        raise ValueError("a ranking from elsewhere has no dialogue that could be put into a task's notation")
    agent = row.dialogue.roles[0]
    spoken = [notation(row.dialogue.said(agent, text), agent)[-1]["content"] for text in row.candidates]
    return notation(row.dialogue, agent), spoken


def _pairs(order: Sequence[int], pairs: Pairs) -> Iterable[tuple[int, int]]:
    if pairs == "all":
        return combinations(order, 2)
    if pairs == "neighbours":
        return pairwise(order)
    if pairs == "ends":
        return [(order[0], order[-1])] if len(order) > 1 else []
    raise ValueError(f"pairs must be 'ends', 'neighbours' or 'all', got {pairs!r}")


# --- in ----------------------------------------------------------------------------------------


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines or of Parquet.

    Raises:
        DatasetError: It is neither, or a line is no JSON object; the message names it.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(256):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"cannot read {path}: {error}") from error
        return
    try:
        with open(path, encoding="utf-8", newline="\n") as lines_:
            for number, line in enumerate(lines_, 1):
                if line.strip():
                    yield _object(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from error


def _object(line: str, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"{path}, line {number}: expected a JSON object, got {line!r:.60}: {error}") from error
    if not isinstance(row, dict):
        raise DatasetError(f"{path}, line {number}: expected a JSON object, got {line!r:.60}")
    return row


def read_table(path: str | Path, out: str | Path) -> Table[Any]:
    """Read a file in one of the formats above into a new data set at ``out``.

    Raises:
        DatasetError: ``out`` is there already, or a row is in none of the formats; the message names it.
    """
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise DatasetError(f"{path} has no rows")
    table, convert = _format(first, path)

    def every() -> Iterator[Row]:
        yield first
        yield from rows

    return import_rows(table, convert(every(), str(path)), out)


def import_rows(table: type[TableT], rows: Iterable[Any], out: str | Path) -> TableT:
    """Write ``rows`` to a new data set at ``out``, whole or not at all.

    Raises:
        DatasetError: ``out`` is there already.
    """
    out = Path(out)
    if out.exists():
        raise DatasetError(f"{out} is there already; import into a new folder")
    with checkpoint.new_folder(out) as partial, table.writing(partial) as writer:
        writer.extend(rows)
    return table.load(out)


def _format(row: Row, path: str | Path) -> tuple[type[Table[Any]], Callable[[Iterable[Row], str], Iterator[Any]]]:
    names = row.keys()
    if {"candidates", "scores"} <= names:
        return Rankings, _numbered(_ranking)
    if {"chosen", "rejected"} <= names:
        return Rankings, _numbered(_pair)
    if {"prompt", "completion", "label"} <= names:
        return Rankings, _grouped
    if "messages" in names and names & {"reward", "rewards"}:
        return Episodes, _numbered(_episode)
    raise DatasetError(
        f"{path}: expected rows with messages and reward, candidates and scores, chosen and rejected, or prompt, "
        f"completion and label, got {', '.join(names) or 'no columns'}"
    )


def _numbered(convert: Callable[[Row, int], Any]) -> Callable[[Iterable[Row], str], Iterator[Any]]:
    def converted(rows: Iterable[Row], path: str) -> Iterator[Any]:
        for number, row in enumerate(rows):
            try:
                yield convert(row, number)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise DatasetError(f"{path}, row {number + 1}: {told}") from error

    return converted


def _ranking(row: Row, number: int) -> Ranking:
    rest = {"more": {}, "dialogue": None, "meta": {}, **row}
    return Rankings.decode({name: rest[name] for name in Rankings.columns})


def _pair(row: Row, number: int) -> Ranking:
    """Return a ranking of two; without scores 1 and 0."""
    chosen, rejected = _chat(row["chosen"], "assistant"), _chat(row["rejected"], "assistant")
    if row.get("prompt") is None:  # the prompt is what both begin with
        prompt = [one for one, other in zip(chosen[:-1], rejected[:-1], strict=False) if one == other]
    else:
        prompt = _chat(row["prompt"], "user")
        chosen, rejected = [*prompt, *chosen], [*prompt, *rejected]
    for name, chat in (("chosen", chosen), ("rejected", rejected)):
        if len(chat) != len(prompt) + 1:
            raise ValueError(f"{name} must be one utterance after the prompt, got {len(chat) - len(prompt)} messages")
    scores = [row.get("score_chosen"), row.get("score_rejected")]
    given = (1.0, 0.0) if None in scores else (float(scores[0]), float(scores[1]))  # type: ignore[arg-type]
    return Ranking(tuple(prompt), (chosen[-1]["content"], rejected[-1]["content"]), given)


def _grouped(rows: Iterable[Row], path: str) -> Iterator[Ranking]:
    """Yield a ranking for each run of rows with one prompt: 1 for good completions, 0 for others."""

    def completion(row: Row, number: int) -> tuple[Chat, str, float]:
        chat = _chat(row["completion"], "assistant")
        if len(chat) != 1:
            raise ValueError(f"completion must be one utterance, got {len(chat)} messages")
        return _chat(row["prompt"], "user"), chat[0]["content"], float(bool(row["label"]))

    for prompt, group in groupby(_numbered(completion)(rows, path), key=lambda one: one[0]):
        scores = {text: score for _, text, score in group}
        yield Ranking(tuple(prompt), tuple(scores), tuple(scores.values()))


def _episode(row: Row, number: int) -> Recorded:
    if isinstance(row.get("dialogue"), Mapping):
        rest = {"env": "", "env_kwargs": {}, "policy": "", "score": None, "actions": None, "states": None, **row}
        for name in ("terms", "cost_terms", "signals"):
            rest.setdefault(name, {})
        return Episodes.decode({name: rest[name] for name in Episodes.columns})
    dialogue = _dialogue(_chat(row["messages"], "user"), row)
    turns = dialogue.turn
    if not turns:
        raise ValueError("no message is an assistant's, whom the reward is for")
    rewards = row.get("rewards") or [0.0] * (turns - 1) + [row["reward"]]
    costs = row.get("costs") or [0.0] * turns
    seed = row.get("seed", number)
    return Recorded(seed, dialogue, tuple(map(float, rewards)), tuple(map(float, costs)), policy=row.get("policy", ""))


def _dialogue(chat: Chat, row: Row) -> Dialogue:
    """Return a chat as a dialogue between ``assistant``, the agent, and ``user``."""
    system = [message["content"] for message in chat if message["role"] == "system"]
    turns = tuple(Turn(message["role"], message["content"]) for message in chat if message["role"] != "system")
    if strange := {turn.role for turn in turns} - {"assistant", "user"}:
        raise ValueError(f"messages must be those of system, user and assistant, got one of {strange.pop()!r}")
    scenario = Scenario("\n".join(system))
    stop, success = str(row.get("stop_reason", "")), bool(row.get("success", False))
    return Dialogue(scenario, ("assistant", "user"), turns=turns, stop_reason=stop, success=success)


def _chat(value: Any, role: str) -> Chat:
    """Return messages as they are, and a text as one message of ``role``."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    chat = [{"role": message["role"], "content": message["content"]} for message in value]
    for message in chat:
        if not isinstance(message["role"], str) or not isinstance(message["content"], str):
            raise ValueError(f"a message must have a role and a content, both texts, got {message!r:.120}")
    return chat

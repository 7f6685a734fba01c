"""Stages on disk, contexts of a corpus, and scored candidates: the data side of ``dialog_gym.benchmarks.study``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dialog_gym import checkpoint
from dialog_gym.agents.lm_data import data_files
from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.corpora.spec import CORPUS
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.store import Table
from dialog_gym.data.used import content_hash, hashes
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.envs.response_replay import Record
from dialog_gym.lm.speaker_corpus import NOT_PUBLISHED
from dialog_gym.splits import in_split

T = TypeVar("T")
Config = Mapping[str, Any]

PARTS = ("train", "heldout")


# --- stages ------------------------------------------------------------------------------------


def lines(
    path: Path,
    config: Config,
    inputs: Sequence[T],
    compute: Callable[[Sequence[T]], Iterable[Any]],
    size: int = 256,
) -> list[Any]:
    """Return one JSON value for each of ``inputs``; those that are in the file already are not computed again.

    The file has what determines it in its first line, then a line for each input. It is written ``size`` inputs at a
    time, so a process that was killed loses no more than these; a half-written line is cut off.

    Args:
        path: The file.
        config: What determines it, JSON: settings, and the hashes of the files that it is made of.
        inputs: What is worked through, in this order.
        compute: Returns the values of some of them; no value may depend on which others are asked for.
        size: How many at once.

    Raises:
        ValueError: The file was made with another ``config``.
    """
    header = _header(config)
    found = _whole_lines(path)
    if found and found[0] != header:
        raise ValueError(f"{path} was made with {found[0]:.2000}, now {header:.2000} is asked for; use another folder")
    done = [json.loads(line) for line in found[1:]]
    if found and len(done) == len(inputs):
        return done
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in found or [header]), encoding="utf-8")
    with open(path, "a", encoding="utf-8") as file:
        while len(done) < len(inputs):
            new = [json.dumps(value, ensure_ascii=False) for value in compute(inputs[len(done) : len(done) + size])]
            file.write("".join(line + "\n" for line in new))
            file.flush()
            done += [json.loads(line) for line in new]
    return done


def _header(config: Config) -> str:
    return json.dumps({"config": config}, sort_keys=True, ensure_ascii=False)


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].split("\n")[:-1]  # not splitlines, which knows other ends of lines


# --- contexts ----------------------------------------------------------------------------------


class Context(NamedTuple):
    """A place in a recorded dialogue where the agent speaks.

    Attributes:
        key: Names the dialogue.
        part: ``"train"`` or ``"heldout"``.
        dialogue: What was said before.
        reference: What the person said there.
    """

    key: str
    part: str
    dialogue: Dialogue
    reference: str


class Source(NamedTuple):
    """A corpus, and how it is parted.

    Attributes:
        corpus: Its format.
        path: File or folder.
        splits: The corpus' own splits to learn from and to be tested on; (): 70 and 30 percent of the dialogues, by a
            hash of their ids.
        skip_bad: Leave out damaged records.
        options: Those of the reader.
    """

    corpus: str
    path: str
    splits: tuple[str, ...]
    skip_bad: bool
    options: Mapping[str, Any]


def read_contexts(folder: Path, source: Source, counts: Mapping[str, int], seed: int) -> list[Context]:
    """Return the contexts of a study; ``contexts.jsonl`` holds them, ``people`` the dialogues to learn from.

    A context is a turn of the agent with words; consecutive turns of one role are one. ``counts`` of each part are
    drawn (all turns of all dialogues being equally likely), or all there are.

    Raises:
        ValueError: A part is empty, or the file was made with other settings.
    """
    path = folder / "contexts.jsonl"
    config = {"source": source._asdict(), "files": _files(source), "counts": dict(counts), "seed": seed}
    if not path.exists():
        records = list(_records(source))
        _write(Episodes, folder / "people", (_recorded(*one) for one in enumerate(records) if one[1][0] == PARTS[0]))
        drawn = [_to_json(one) for one in _drawn(records, counts, seed)]
        whole = [_header(config), *(json.dumps(one, ensure_ascii=False) for one in drawn)]
        checkpoint.write_text(path, "".join(line + "\n" for line in whole))
    rows = lines(path, config, _whole_lines(path)[1:], lambda some: [])  # all are there: this checks the settings
    return [Context(row["key"], row["part"], Dialogue.from_json(row["dialogue"]), row["reference"]) for row in rows]


def _files(source: Source) -> dict[str, str]:
    """Return the content hashes of the files of the corpus; none where a hub has them."""
    return {} if source.path.startswith("hub:") else hashes(data_files([f"{CORPUS}{source.corpus}:{source.path}"]))


def _records(source: Source) -> Iterator[tuple[str, Record]]:
    splits = source.splits or ("",)
    for number, split in enumerate(splits):
        reading = read_corpus(
            source.corpus, source.path, split=split, skip_bad=source.skip_bad, **dict(source.options)
        )
        for episode in reading:
            if not isinstance(episode, Recorded):
                raise ValueError(f"a study needs a corpus of dialogues, and {source.corpus!r} holds judgements")
            record = Record.of(_published(episode, source.corpus), source.corpus)
            by_hash = PARTS[not in_split(record.key, "train")]
            yield PARTS[number] if source.splits else by_hash, record._replace(scenario=_bare(episode.dialogue))


def _published(episode: Recorded, corpus: str) -> Recorded:
    """Return ``episode`` without a last turn that stands for words which were not published."""
    dialogue = episode.dialogue
    if not dialogue.turns or dialogue.turns[-1].text != NOT_PUBLISHED.get(corpus):
        return episode
    return replace(episode, dialogue=replace(dialogue, turns=dialogue.turns[:-1], turn=-1))


def _bare(dialogue: Dialogue) -> Scenario:
    """Return the scenario without annotations, and roles in the place of those."""
    scenario = dialogue.scenario
    return Scenario(scenario.public, scenario.private, {"roles": list(dialogue.roles)})


def _recorded(number: int, one: tuple[str, Record]) -> Recorded:
    dialogue = _until(one[1], number, len(one[1].turns))
    return Recorded(number, dialogue, (0.0,) * dialogue.turn, (0.0,) * dialogue.turn, policy="human")


def _until(record: Record, seed: int, place: int) -> Dialogue:
    scenario, (agent, partner) = record.scenario, record.scenario.hidden["roles"]
    return Dialogue(Scenario(scenario.public, scenario.private), (agent, partner), seed, record.turns[:place])


def _drawn(records: Sequence[tuple[str, Record]], counts: Mapping[str, int], seed: int) -> list[Context]:
    found: list[Context] = []
    for part in PARTS:
        places = [
            (record, place)
            for own, record in records
            if own == part
            for place in record.places
            if record.turns[place].text.strip()
        ]
        if not places:
            raise ValueError(f"expected turns of the agent in the part {part!r}, got none; give a larger corpus")
        order = np.random.default_rng([seed, PARTS.index(part)]).permutation(len(places))[: counts[part]]
        for number in order.tolist():
            record, place = places[number]
            dialogue = _until(record, len(found), place)
            found.append(Context(record.key, part, dialogue, record.turns[place].text))
    return found


def _to_json(one: Context) -> dict[str, Any]:
    return {**one._asdict(), "dialogue": one.dialogue.to_json()}


# --- rankings ----------------------------------------------------------------------------------


def write_rankings(
    folder: Path,
    contexts: Sequence[Context],
    candidates: Sequence[Sequence[Sequence[str]]],
    scores: Sequence[Sequence[float]],
    meta: Mapping[str, Any],
) -> str:
    """Write each context that has candidates as a ``Ranking``; return the content hash.

    Args:
        folder: Where; rows that are there are not written again.
        contexts: The contexts.
        candidates: Of each, its candidates as (text, source).
        scores: Of each, one score per candidate.
        meta: What to note in every row.
    """
    rows = (
        Ranking(
            tuple(one.dialogue.messages(one.dialogue.roles[0])),
            tuple(text for text, _ in said),
            tuple(found),
            {},
            one.dialogue,
            {"key": one.key, "sources": [source for _, source in said], **meta},
        )
        for one, said, found in zip(contexts, candidates, scores, strict=True)
        if said
    )
    return _write(Rankings, folder, rows)


def _write(table: type[Table[Any]], folder: Path, rows: Iterable[Any]) -> str:
    """Write the rows that are not there yet; those that are must be the first ones."""
    with table.writing(folder) as writer:
        there = writer.rows
        for number, row in enumerate(rows):
            if number >= there:
                writer.add(row)
    return content_hash(folder)

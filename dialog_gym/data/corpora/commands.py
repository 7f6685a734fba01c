"""The commands ``dialog-gym data read``, ``dialog-gym data corpora`` and ``dialog-gym data make-candor``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from dialog_gym.commands import parse_settings, print_json, show_rows
from dialog_gym.data.corpora.base import Reading, corpus, corpus_names, read_corpus
from dialog_gym.data.episodes import Episodes
from dialog_gym.data.exchange import import_rows
from dialog_gym.data.rankings import Ranking, Rankings

Options = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="option", metavar="KEY=VALUE")]
CorpusName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
CorpusPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]


def run(words: Sequence[str]) -> None:
    """Run the command that ``words`` are, ``read``, ``corpora`` or ``make-candor`` first."""
    commands: dict[str, Callable[..., None]] = {"read": read, "corpora": corpora, "make-candor": make_candor}
    tyro.extras.subcommand_cli_from_dict(
        commands, prog="dialog-gym data", args=list(words), config=(tyro.conf.FlagCreatePairsOff,)
    )


def read(
    name: CorpusName,
    path: CorpusPath,
    out: Path | None = None,
    split: str = "",
    skip_bad: bool = False,
    encoding: str = "utf-8",
    options: Options = (),
    json: bool = False,
) -> None:
    """Read a published corpus, or your own chats: count what is in it, or write it to a data set.

    Args:
        name: Format of the corpus; `dialog-gym data corpora` lists them.
        path: File (plain, .gz, .zip), folder, or hub:NAME for the datasets hub.
        out: Data set to write, episodes or rankings; it must not be there yet.
        split: train, validation or test, where the corpus tells them apart.
        skip_bad: Count what is damaged and go on.
        encoding: Of text files.
        options: Option of the reader, for instance side=seller, or role=author of your own chats.
        json: Print JSON.
    """
    reading = read_corpus(name, path, split=split, skip_bad=skip_bad, encoding=encoding, **parse_settings(options))
    told: dict[str, Any] = {"corpus": name, "path": path, "kind": "", "dialogues": 0, "turns": 0, "skipped": 0}
    rows = _counted(reading, told)
    if out is None:
        for _ in rows:
            pass
    else:
        first = next(rows)  # a reading has at least one, or raises
        table = Rankings if isinstance(first, Ranking) else Episodes
        told |= {"out": str(out), "content_hash": import_rows(table, _from(first, rows), out).content_hash}
    told["skipped"] = reading.skipped
    if json:
        return print_json({**told, "bad": reading.bad})
    Console(highlight=False, soft_wrap=True).print(*(f"{key}: {value}" for key, value in told.items()), sep="\n")
    for message in reading.bad:
        sys.stderr.write(f"skipped: {message}\n")
    return None


def _counted(reading: Reading, told: dict[str, Any]) -> Iterator[Any]:
    """Yield what is read, and count it; the turns of a ranking are those of its context."""
    for row in reading:
        told["kind"] = "rankings" if isinstance(row, Ranking) else "episodes"
        told["dialogues"] += 1
        told["turns"] += len(row.dialogue.turns)
        yield row


def _from(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def corpora(json: bool = False) -> None:
    """List the formats of corpora that `dialog-gym data read` knows.

    Args:
        json: Print JSON, with the options of each.
    """
    found = [corpus(name) for name in corpus_names()]
    if json:
        return print_json(
            [
                {
                    "corpus": one.name,
                    "summary": one.summary,
                    "roles": list(one.roles),
                    "files": one.files,
                    "hub": one.hub,
                    "options": one.options(),
                }
                for one in found
            ]
        )
    return show_rows([{"corpus": one.name, "what it is": one.summary} for one in found], False)


def make_candor(
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    conversations: int = 100,
    turns: int = 160,
    seed: int = 0,
    face_bias: float = 0.5,
    face_noise: float = 1.0,
    score_noise: float = 0.5,
    missing: float = 0.03,
    json: bool = False,
) -> None:
    """Write conversations of our own in the layout of CANDOR, whose true value per utterance is in truth.jsonl.

    `dialog-gym data read candor OUT --out EPISODES` reads them. They are self-play of Chat-v0 said by two speakers.

    Args:
        out: New folder.
        conversations: How many.
        turns: Of both speakers together.
        seed: Of all chance.
        face_bias: How much a face shows beside the mood.
        face_noise: Standard deviation of what a face shows by chance in a turn, in standard deviations of a move.
        score_noise: Standard deviation of the noise of the survey, in standard deviations of the sum of the moves.
        missing: Share of the seconds without a face.
        json: Print JSON.
    """
    from dialog_gym.data.corpora import candor_made

    options = candor_made.Options(conversations, turns, seed, face_bias, face_noise, score_noise, missing)
    count = candor_made.make_candor(out, options)
    told = {"out": str(out), "conversations": conversations, "turns": count, "truth": str(out / candor_made.TRUTH)}
    return print_json(told) if json else show_rows([told], False)

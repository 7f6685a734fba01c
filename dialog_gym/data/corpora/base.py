"""What a corpus is to the library: a name, a reader, and an iterator over what it reads."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialog_gym.data.corpora.files import CorpusError, Source
from dialog_gym.data.episodes import Recorded
from dialog_gym.data.rankings import Ranking
from dialog_gym.dialogue import Dialogue, Json, Scenario, Turn
from dialog_gym.errors import SettingError, unknown

Reader = Callable[..., Iterator[Recorded | Ranking]]
"""``read(source, **options)``: yields what a source holds, one value per dialogue or judgement."""


@dataclass(frozen=True)
class Corpus:
    """A format that can be read.

    Attributes:
        name: What ``read_corpus`` calls it.
        entry_point: ``"module:function"`` of its ``Reader``; imported when it is first used.
        summary: What the corpus is, one line.
        roles: The agent's and the partner's.
        hub: Its name on the datasets hub, ``""`` if it has none.
        files: What it reads, one line; part of every error.
    """

    name: str
    entry_point: str
    summary: str
    roles: tuple[str, str]
    hub: str
    files: str

    def reader(self) -> Reader:
        """Import the reader."""
        module, _, function = self.entry_point.partition(":")
        found: Reader = getattr(importlib.import_module(module), function)
        return found

    def options(self) -> dict[str, Any]:
        """Return the options of the reader and their defaults."""
        _, *options = inspect.signature(self.reader()).parameters.values()
        return {option.name: option.default for option in options}


_CORPORA: dict[str, Corpus] = {}


def register_corpus(
    name: str, entry_point: str, summary: str, *, roles: tuple[str, str], files: str, hub: str = ""
) -> None:
    """Make ``read_corpus`` know a format; see ``Corpus``. The last registration of a name counts."""
    if ":" not in entry_point:
        raise ValueError(f"a reader is named 'module:function', got {entry_point!r}")
    _CORPORA[name] = Corpus(name, entry_point, summary, roles, hub, files)


def corpus_names() -> list[str]:
    """Return the names of all formats, sorted."""
    return sorted(_CORPORA)


def corpus(name: str) -> Corpus:
    """Return the format ``name``.

    Raises:
        KeyError: Nobody registered it; the message names the nearest.
    """
    if name not in _CORPORA:
        raise unknown("corpus format", name, _CORPORA)
    return _CORPORA[name]


class Reading(Iterator[Any]):
    """The dialogues (``Recorded``) or judgements (``Ranking``) of a source, read as they are asked for.

    Attributes:
        corpus: The format.
    """

    def __init__(self, corpus: Corpus, source: Source, items: Iterator[Recorded | Ranking]) -> None:
        """Read ``items`` out of ``source``."""
        self.corpus = corpus
        self._source, self._items, self._empty = source, items, True

    def __next__(self) -> Any:
        """Return the next one.

        Raises:
            CorpusError: It is damaged, or there was not a single good one.
        """
        for item in self._items:
            self._empty = False
            return item
        if self._empty:
            self._empty = False  # told once
            first = f"; the first of {self.skipped} bad ones: {self.bad[0]}" if self.bad else ""
            raise CorpusError(f"{self._source.path}: expected {self.corpus.files}, got no good record at all{first}")
        raise StopIteration

    @property
    def skipped(self) -> int:
        """How many bad records were left out so far (``skip_bad``)."""
        return self._source.skipped

    @property
    def bad(self) -> list[str]:
        """What was wrong with the first of them."""
        return self._source.bad


def read_corpus(
    name: str,
    path: str | Path,
    *,
    split: str = "",
    skip_bad: bool = False,
    encoding: str = "utf-8",
    **options: Any,
) -> Reading:
    """Read a corpus as it is published, one dialogue after the other.

    Args:
        name: Format, one of ``corpus_names()``.
        path: A file, plain, ``.gz`` or ``.zip``; a folder; or ``"hub:"`` and a name on the datasets hub
            (``"hub:NAME"``, ``"hub:NAME:CONFIG"``, ``"hub:NAME@REVISION"``; ``"hub:"`` alone: the corpus' own).
        split: ``"train"``, ``"validation"`` or ``"test"`` of a corpus that tells them apart by its files or in them;
            ``""``: all there is.
        skip_bad: Leave out and count what is damaged or of another format, instead of stopping there.
        encoding: Of text files.
        options: Those of the reader, for instance ``side`` of a negotiation.

    Raises:
        KeyError: There is no such format.
        FileNotFoundError: There is no such file or folder.
        SettingError: The reader has no such option; the message lists those that it has.
        CorpusError: Something is damaged or of another format; the message names file, record and what was expected.
            Errors of records are raised when the reading comes to them.
    """
    found = corpus(name)
    _check_options(found, options)
    text = str(path)
    if text.startswith("hub:"):
        from dialog_gym.data.corpora.hub import Hub

        own = text.removeprefix("hub:") or found.hub
        source: Source = Hub(own, split=split, skip_bad=skip_bad, expected=found.files)
    else:
        source = Source(path, split=split, skip_bad=skip_bad, encoding=encoding, expected=found.files)
    return Reading(found, source, found.reader()(source, **options))


def _check_options(found: Corpus, options: Mapping[str, Any]) -> None:
    if strange := sorted(options.keys() - found.options().keys()):
        has = ", ".join(f"{name}={default!r}" for name, default in found.options().items()) or "none"
        raise SettingError(f"the reader of {found.name!r} has no option {strange[0]!r}; it has: {has}")


def recorded(
    roles: tuple[str, str],
    turns: Sequence[tuple[str, str]],
    number: int,
    *,
    public: str = "",
    private: Mapping[str, str] | None = None,
    hidden: Mapping[str, Json] | None = None,
    state: Mapping[str, Json] | None = None,
    stop_reason: str = "end",
    success: bool = False,
    rewards: Sequence[float] | None = None,
    score: float | None = None,
) -> Recorded:
    """Return a dialogue between people as a ``Recorded``.

    Args:
        roles: The agent's and the partner's.
        turns: Role and text of each; consecutive turns of one role stay as they are.
        number: That of the record, from 0.
        public: What both know.
        private: What each role alone knows.
        hidden: The corpus' annotations of the dialogue, JSON.
        state: Its annotations of the turns: ``{"turns": [...]}``.
        stop_reason: How it ended.
        success: Whether the agent reached its goal.
        rewards: One per turn of the agent; None: zeros.
        score: What the dialogue as a whole was given.

    Raises:
        ValueError: There is no turn, a role is strange, a text is no text or no proper Unicode, or the number of
            rewards or annotations does not fit.
    """
    said = tuple(_turn(role, text, roles) for role, text in turns)
    if not said:
        raise ValueError("expected at least one turn, got none")
    notes = (state or {}).get("turns")
    if notes is not None and len(notes) != len(said):
        raise ValueError(f"expected annotations of each of the {len(said)} turns, got {len(notes)}")
    scenario = Scenario(public, dict(private or {}), dict(hidden or {}))
    dialogue = Dialogue(scenario, roles, number, said, dict(state or {}), stop_reason, success)
    given = tuple(map(float, rewards)) if rewards is not None else (0.0,) * dialogue.turn
    if len(given) != dialogue.turn:
        raise ValueError(f"expected a reward for each of the agent's {dialogue.turn} turns, got {len(given)}")
    return Recorded(number, dialogue, given, (0.0,) * dialogue.turn, policy="human", score=score)


def ranking(
    roles: tuple[str, str],
    context: Sequence[tuple[str, str]],
    numbers: Mapping[str, Sequence[float]],
    number: int,
    *,
    more: Sequence[str] = (),
    meta: Mapping[str, Json] | None = None,
) -> Ranking:
    """Return judged utterances as a ``Ranking``.

    Args:
        roles: The agent's and the partner's.
        context: Role and text of what was said before.
        numbers: Of each candidate its score, and then one for each name in ``more``.
        number: That of the record, from 0.
        more: Names of further numbers.
        meta: Where it comes from.

    Raises:
        ValueError: See ``recorded``.
    """
    dialogue = recorded(roles, context, number).dialogue
    columns = list(zip(*numbers.values(), strict=True))
    return Ranking(
        tuple(dialogue.messages(roles[0])[1:]),  # without the system line: there is nothing to tell
        tuple(proper(text, "a candidate") for text in numbers),
        columns[0],
        dict(zip(more, columns[1:], strict=True)),
        dialogue,
        {"record": number, **(meta or {})},
    )


def grouped(
    source: Source, rows: Iterable[tuple[int, Mapping[str, Any]]], column: str
) -> Iterator[tuple[int, str, list[Mapping[str, Any]]]]:
    """Yield rows that follow each other and have the same ``column``: number of the first, the value, the rows.

    Only one group is held. A row without the column is bad, see ``Source.record``.
    """
    group: list[Mapping[str, Any]] = []
    first, name = 0, ""
    for number, row in rows:
        with source.record(number):
            key = str(row[column])
            if group and key != name:
                yield first, name, group
                group = []
            if not group:
                first, name = number, key
            group.append(row)
    if group:
        yield first, name, group


def _turn(role: str, text: str, roles: tuple[str, str]) -> Turn:
    if role not in roles:
        raise ValueError(f"expected turns of {roles[0]!r} and {roles[1]!r}, got one of {role!r:.40}")
    return Turn(role, proper(text, "the text of a turn"))


def proper(value: Any, what: str) -> str:
    """Return ``value`` if it is text that can be stored.

    Raises:
        TypeError: It is no text.
        ValueError: It has half of a surrogate pair, as cut texts in JSON have.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, got {value!r:.60}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} must be proper Unicode, got half a character in {value!r:.60}") from error
    return value

"""Recorded dialogues as reward learning reads them: a score, and per agent turn its encoding, signal and truth.

The data are read once, as a stream: what stays in memory of a turn is the row of its encoding and two numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.data.columns import DatasetError
from dialog_gym.data.corpora.spec import CORPUS, parse_corpus
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.rewards.decomposition.cache import Store
from dialog_gym.rewards.decomposition.turns import beginnings
from dialog_gym.rewards.decomposition.worlds import true_turns

log = logging.getLogger("dialog_gym")

Floats = npt.NDArray[np.float32]
_AT_ONCE = 64  # conversations that are encoded together, so that texts of like length share a batch
_SHOWN = 3  # bad conversations that are named


@dataclass(frozen=True)
class Wanted:
    """What of a recorded dialogue is learned from.

    Attributes:
        score: ``"score"`` (``Recorded.score``), ``"return"`` (the sum of the rewards), or ``"none"`` (local only).
        score_range: What a score may be, both ends included; None: any finite number.
        local: Name of the local signal (``signals.local_signal``), "" for none.
        utterances: Most utterances that are read of a dialogue.
        answer: Whether the partner's answer is read too.
        min_turns: Agent turns that a conversation needs; below 2 there is nothing to decompose.
        truth: Whether to ask the world for the true value of every turn.
        skip_bad: Leave out and count what cannot be used, instead of refusing it.
    """

    score: Literal["score", "return", "none"] = "score"
    score_range: tuple[float, float] | None = None
    local: str = ""
    utterances: int = 20
    answer: bool = False
    min_turns: int = 2
    truth: bool = True
    skip_bad: bool = False


class Conversation(NamedTuple):
    """One conversation.

    Attributes:
        key: Names it; conversations with the same key (both speakers as the agent) are on one side of a split.
        rows: Row of each turn in the store, shape ``(T,)``.
        score: R; NaN where scores are not asked for.
        local: The signal of each turn, NaN where it is missing, shape ``(T,)``.
        truth: True value of each turn, None where nobody knows, shape ``(T,)``.
    """

    key: str
    rows: npt.NDArray[np.int64]
    score: float
    local: Floats
    truth: Floats | None


class Read(NamedTuple):
    """What ``read`` found.

    Attributes:
        conversations: Those that can be learned from.
        skipped: How many could not.
        bad: What was wrong with the first of them.
    """

    conversations: list[Conversation]
    skipped: int
    bad: list[str]


def records(source: str | Path, *, skip_bad: bool = False) -> Iterable[Recorded]:
    """Return the dialogues of a folder of episodes or of ``corpus:NAME:PATH?OPTION=VALUE``, as a stream.

    Raises:
        DatasetError: There are none.
    """
    text = str(source)
    if not text.startswith(CORPUS):
        return Episodes.load(source)
    from dialog_gym.data.corpora import read_corpus

    name, path, options = parse_corpus(text)
    return read_corpus(name, path, skip_bad=skip_bad, **options)


def read(source: Iterable[Recorded], store: Store, wanted: Wanted) -> Read:
    """Read conversations and put their turns into ``store``, every distinct one once.

    Args:
        source: See ``records``.
        store: Where encodings are, or texts for an encoder that is tuned.
        wanted: What is learned from.

    Raises:
        DatasetError: A conversation cannot be used, named with the reason; or, with ``skip_bad``, none can.
        ValueError: There is no such local signal.
    """
    reader = _Reader(store, wanted)
    stream = iter(source)
    found: list[Conversation] = []
    number = 0
    while chunk := list(islice(stream, _AT_ONCE)):
        found += reader.chunk(number, chunk)
        number += len(chunk)
    unread = int(getattr(source, "skipped", 0))  # of a corpus
    skipped, bad = reader.skipped + unread, [*getattr(source, "bad", ()), *reader.bad][:_SHOWN]
    if skipped:
        log.warning("%d of %d conversations were left out; the first: %s", skipped, number + unread, "; ".join(bad))
    if not found:
        first = f"; the first of {skipped} bad ones: {bad[0]}" if bad else ""
        raise DatasetError(f"expected conversations to learn from, got none that can be used{first}")
    return Read(found, skipped, bad)


class _Reader:
    def __init__(self, store: Store, wanted: Wanted) -> None:
        from dialog_gym.rewards.decomposition.signals import local_signal

        self.store, self.wanted = store, wanted
        self.signal: Any = local_signal(wanted.local) if wanted.local else None
        self.skipped = 0
        self.bad: list[str] = []

    def chunk(self, first: int, records: Sequence[Recorded]) -> Iterator[Conversation]:
        """Yield what can be used of ``records``, the first of which has the number ``first``."""
        good: list[tuple[Recorded, float, Floats, list[str]]] = []
        for number, recorded in enumerate(records, first):
            try:
                score, local = self._score(recorded), self._local(recorded)
            except ValueError as error:
                self._fail(number, recorded, error)
                continue
            heard = beginnings(recorded.dialogue, self.wanted.utterances, answer=self.wanted.answer)
            good.append((recorded, score, local, [self.store.encoder.words(one) for one in heard]))
        rows = self.store.rows([text for *_, texts in good for text in texts])
        start = 0
        for recorded, score, local, texts in good:
            truth = true_turns(recorded) if self.wanted.truth else None
            yield Conversation(
                key_of(recorded),
                rows[start : start + len(texts)],
                score,
                local,
                None if truth is None else np.array(truth, np.float32),
            )
            start += len(texts)

    def _score(self, recorded: Recorded) -> float:
        wanted, turns = self.wanted, recorded.dialogue.turn
        if turns < wanted.min_turns:
            raise ValueError(f"expected at least {wanted.min_turns} turns of the agent, got {turns}")
        if wanted.score == "none":
            return math.nan
        score = recorded.score if wanted.score == "score" else recorded.total
        if score is None:
            raise ValueError("expected a score of the conversation, got none (what it earned is the score 'return')")
        low, high = wanted.score_range or (-math.inf, math.inf)
        if not math.isfinite(score) or not low <= score <= high:
            raise ValueError(f"expected a score in [{low:g}, {high:g}], got {score:g}")
        return float(score)

    def _local(self, recorded: Recorded) -> Floats:
        turns = recorded.dialogue.turn
        if self.signal is None:
            return np.full(turns, np.nan, np.float32)
        values = self.signal(recorded)
        if len(values) != turns:
            raise ValueError(f"expected {turns} values of the signal {self.wanted.local!r}, got {len(values)}")
        found = np.array([np.nan if value is None else value for value in values], np.float32)
        if strange := [value for value in values if value is not None and not math.isfinite(value)]:
            raise ValueError(f"expected finite values of the signal {self.wanted.local!r} or None, got {strange[0]}")
        return found

    def _fail(self, number: int, recorded: Recorded, error: ValueError) -> None:
        message = f"conversation {number} ({key_of(recorded)}): {error}"
        if not self.wanted.skip_bad:
            raise DatasetError(f"{message}; mend the data, or leave such conversations out (--skip-bad)") from error
        self.skipped += 1
        if len(self.bad) < _SHOWN:
            self.bad.append(message)


def key_of(recorded: Recorded) -> str:
    """Return what names a conversation: the id its corpus gives it, else environment and seed."""
    hidden = recorded.dialogue.scenario.hidden
    return str(hidden["id"]) if "id" in hidden else f"{recorded.env or 'dialogue'} {recorded.seed}"


def held_out(key: str, share: float, seed: int) -> bool:
    """Return whether a conversation is held out: for a ``share`` of the keys, by a hash; the same on every machine."""
    number = int.from_bytes(blake2b(f"{seed} {key}".encode(), digest_size=8).digest(), "little")
    return number < share * 2**64


def parted(
    conversations: Sequence[Conversation], share: float, seed: int
) -> tuple[list[Conversation], list[Conversation], list[Conversation]]:
    """Return conversations to learn from, those to choose by, and those that only the report is about.

    ``share`` is held out; every other talk of these is for the report. Both sides of a talk stay together.

    Raises:
        DatasetError: One part is empty.
    """
    out = [held_out(one.key, share, seed) for one in conversations]
    train = [one for one, apart in zip(conversations, out, strict=True) if not apart]
    kept = [one for one, apart in zip(conversations, out, strict=True) if apart]
    talks = list(dict.fromkeys(one.key for one in kept))
    if not train or len(talks) < 2:
        raise DatasetError(
            f"{len(conversations)} conversations leave {len(train)} to learn from and {len(talks)} held out (2 are "
            f"needed: to choose by, and to report on), where a share of {share:g} is held out; give more "
            "conversations or another share"
        )
    chosen_by = set(talks[::2])
    return train, [one for one in kept if one.key in chosen_by], [one for one in kept if one.key not in chosen_by]

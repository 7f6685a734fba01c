"""Dialogues of a corpus or a data set as a speaker learns them: read from both sides, in the task's notation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from rich.progress import track
from transformers import PreTrainedTokenizerFast

from dialog_gym.data.episodes import Episodes
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.speaker_training import Lesson
from dialog_gym.lm.tiny_corpus import chat_text, reply_spans
from dialog_gym.task import Task

Messages = list[dict[str, str]]

NOT_PUBLISHED = {"deal_or_no_deal": "<selection>"}
"""Last turns of a corpus that stand for words which were not published; nobody should learn to say them."""
HELD_OUT = 20  # one dialogue in so many is held out where the corpus has no validation split


@dataclass(frozen=True)
class Source:
    """Where the dialogues come from.

    Attributes:
        corpus: Format of a corpus (``dialog_gym.data.corpora``), ``""`` where ``path`` is a data set of episodes.
        path: File or folder, or ``hub:NAME``.
        split: Split that is learned from; ``""``: "train" if the corpus tells train and validation apart, else all
            but what is held out.
        heldout: Split that perplexity is measured on; ``""``: "validation", or else one dialogue in 20.
        skip_bad: Leave out and count what is damaged.
        options: Of the reader.
    """

    corpus: str
    path: str
    split: str = ""
    heldout: str = ""
    skip_bad: bool = False
    options: dict[str, Any] = field(default_factory=dict)


class Parts(NamedTuple):
    """The dialogues to learn from, and others to measure on.

    Attributes:
        train: To learn from.
        heldout: To measure on.
        skipped: Bad records that were left out.
        told: How they were parted, in words.
    """

    train: list[Dialogue]
    heldout: list[Dialogue]
    skipped: int
    told: str


def read_parts(source: Source) -> Parts:
    """Read the dialogues of ``source``.

    Raises:
        ValueError: The corpus holds no dialogues but judgements, or a part is empty.
        CorpusError: Something is damaged, and ``skip_bad`` was not asked for.
    """
    splits = (source.split, source.heldout)
    if not any(splits) and source.corpus and _has_splits(source):
        splits = ("train", "validation")
    if all(splits):
        (train, bad), (heldout, worse) = (_read(source, split) for split in splits)
        parts = Parts(train, heldout, bad + worse, f"splits {splits[0]!r} and {splits[1]!r}")
    elif any(splits):
        raise ValueError(f"give both splits, to learn from and to measure on, or none; got {splits[0] or splits[1]!r}")
    else:
        whole, bad = _read(source, "")
        kept: tuple[list[Dialogue], list[Dialogue]] = ([], [])
        for dialogue in whole:
            kept[held_out(dialogue)].append(dialogue)
        parts = Parts(*kept, bad, f"one dialogue in {HELD_OUT} held out, by a hash of its words")
    for dialogues, name in ((parts.train, "learn from"), (parts.heldout, "measure on")):
        if not dialogues:
            raise ValueError(f"{source.path}: expected dialogues to {name}, got none ({parts.told})")
    return parts


def held_out(dialogue: Dialogue) -> bool:
    """Return whether a dialogue is kept to measure on: by its words, so that it is the same told from either side."""
    return crc32("\n".join(turn.text for turn in dialogue.turns).encode()) % HELD_OUT == 0


def chats_of(dialogues: Iterable[Dialogue], task: Task | None) -> Iterator[Messages]:
    """Yield each dialogue as each of its roles tells it, the same chat only once.

    A corpus may hold a dialogue twice, once per side.

    Args:
        dialogues: Finished dialogues.
        task: Whose notation is used; None: plain words.
    """
    seen: set[bytes] = set()
    for dialogue in dialogues:
        for role in dialogue.roles:
            chat = dialogue.messages(role) if task is None else task.messages(dialogue, role)
            key = blake2b(chat_text(chat).encode(), digest_size=16).digest()
            if key not in seen and any(message["role"] == "assistant" for message in chat):
                seen.add(key)
                yield [{**message, "content": message["content"].replace("<|", "< |")} for message in chat]


def lessons_of(
    chats: Sequence[Messages], tokenizer: PreTrainedTokenizerFast, context: int, progress: bool = False
) -> list[Lesson]:
    """Return the chats as tokens; what goes beyond ``context`` is cut behind the last reply that fits."""
    lessons = []
    for chat in track(chats, "Encode", transient=True, disable=not progress):
        ids: list[int] = tokenizer(chat_text(chat), add_special_tokens=False)["input_ids"]
        replies = [span for span in reply_spans(ids, tokenizer) if span[1] <= context]
        if replies:
            lessons.append(Lesson(ids[: replies[-1][1]], replies))
    return lessons


def data_hash(chats: Iterable[Messages]) -> str:
    """Return a hash of what is learned from, 32 hexadecimal digits: of the chats in their order."""
    digest = blake2b(digest_size=16)
    for chat in chats:
        digest.update(chat_text(chat).encode() + b"\n")
    return digest.hexdigest()


def _read(source: Source, split: str) -> tuple[list[Dialogue], int]:
    if not source.corpus:
        if split:
            raise ValueError(f"a data set has no splits, got {split!r}; leave it out, or give a corpus")
        return [episode.dialogue for episode in Episodes.load(source.path)], 0
    reading = _corpus(source, split)
    items = list(reading)
    return [_dialogue(item, source.corpus) for item in items], reading.skipped


def _has_splits(source: Source) -> bool:
    """Return whether there is a first dialogue in both splits; bad records beyond it are told later."""
    from dialog_gym.data.corpora import CorpusError

    try:
        return all(next(chain(_corpus(source, split), [None])) is not None for split in ("train", "validation"))
    except CorpusError:
        return False


def _corpus(source: Source, split: str) -> Any:
    from dialog_gym.data.corpora import read_corpus

    return read_corpus(source.corpus, _path(source.path), split=split, skip_bad=source.skip_bad, **source.options)


def _path(path: str) -> str | Path:
    return path if path.startswith("hub:") else Path(path)


def _dialogue(item: Any, corpus: str) -> Dialogue:
    found = getattr(item, "dialogue", None)
    if not isinstance(found, Dialogue):
        raise ValueError(f"a speaker learns from dialogues, and corpus {corpus!r} holds {type(item).__name__} values")
    if found.turns and found.turns[-1].text == NOT_PUBLISHED.get(corpus):
        return replace(found, turns=found.turns[:-1], turn=-1)
    return found

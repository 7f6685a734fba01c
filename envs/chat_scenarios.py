"""What the partner of ``Chat-v0`` has on its mind: generated news, or situations from a file.

Files: JSON (a list) or JSON lines of ``{"situation": ..., "emotion": ...}``, or the CSV of EmpatheticDialogues
(Rashkin et al. 2019, arXiv:1811.00207; columns ``conv_id``, ``prompt``, and ``context`` for the emotion where it is
there), each plain or gzip. Who speaks is the one in the situation; the agent listens.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym.envs import chat_phrases as phrases
from dialog_gym.envs.chat_language import from_tokens
from dialog_gym.envs.chat_reading import understand
from dialog_gym.json_lines import numbered
from dialog_gym.splits import part

SITUATION_CHARS = 400
_LAYOUT = '{"situation": "my dog ran away", "emotion": "sad"}'
_CSV_LAYOUT = "conv_id,utterance_idx,prompt,utterance[,context]"

# The emotions of EmpatheticDialogues by what they feel like, and plain words for both.
_GOOD = (
    "good happy joyful excited proud grateful hopeful content confident prepared anticipating impressed trusting "
    "faithful caring sentimental nostalgic surprised glad"
)
_BAD = (
    "bad sad afraid angry annoyed anxious apprehensive ashamed devastated disappointed disgusted embarrassed furious "
    "guilty jealous lonely terrified worried upset"
)
VALENCES: Mapping[str, str] = {**dict.fromkeys(_GOOD.split(), "good"), **dict.fromkeys(_BAD.split(), "bad")}


class Situation(NamedTuple):
    """What the partner begins with.

    Attributes:
        text: What happened, in the first person, as people read it.
        emotion: How the partner feels about it, one word or ``""``.
        topic: What it is about, one of ``TOPICS``, or ``""`` where the words do not tell.
        real: Whether it comes from a file.
        key: Names the situation; decides the split.
    """

    text: str
    emotion: str
    topic: str
    real: bool
    key: str

    @property
    def valence(self) -> str:
        """Return ``"bad"``, ``"good"``, or ``""`` where it is not known."""
        return VALENCES.get(self.emotion.lower(), "")


@lru_cache(maxsize=1)
def generated() -> tuple[Situation, ...]:
    """Return the news of every noun, bad and good."""
    return tuple(
        Situation(from_tokens(text), valence, topic, False, text)
        for topic, nouns in phrases.NOUNS.items()
        for noun in nouns
        for valence, templates in phrases.NEWS.items()
        for text in (template.replace("{}", noun) for template in templates)
    )


def in_split(situations: Iterable[Situation], split: str) -> tuple[Situation, ...]:
    """Return the situations of ``split``: 70% are "train", 30% "heldout", by a hash of the key.

    Raises:
        ValueError: Unknown split, or nothing is left.
    """
    return part(situations, split, lambda situation: situation.key, "situations")


def read_situations(path: str | Path) -> tuple[Situation, ...]:
    """Read a file of situations, each text once.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another format; the message names file, record and what was expected.
    """
    path = Path(path)
    found: dict[str, Situation] = {}
    for place, record in _records(path):
        try:
            situation = _situation(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            got = f"{str(record)!r:.120} ({type(error).__name__}: {error})"
            raise ValueError(f"{path}, {place}: expected a record like {_LAYOUT}, got {got}") from error
        found.setdefault(situation.key, situation)
    if not found:
        raise ValueError(f"{path}: expected at least one situation, got none; a record looks like {_LAYOUT}")
    return tuple(found.values())


def _records(path: Path) -> list[tuple[str, Any]]:
    """Return (place, record) of the file; the ending of its name tells the format."""
    name = path.name.removesuffix(".gz")
    text = _text(path)
    try:
        if name.endswith(".csv"):
            return _csv_records(path, text)
        if name.endswith(".jsonl"):
            return [(f"line {number}", json.loads(line)) for number, line in numbered(text)]
        records = json.loads(text)
    except (ValueError, RecursionError, csv.Error) as error:
        if str(error).startswith(str(path)):
            raise
        expected = "expected JSON, JSON lines or CSV, as the name says"
        raise ValueError(f"{path}: {expected}, got a damaged file: {error}") from error
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a list of records like {_LAYOUT}, got {type(records).__name__}")
    return [(f"record {number}", record) for number, record in enumerate(records)]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        expected = f"expected JSON or JSON lines of {_LAYOUT}, or a CSV with {_CSV_LAYOUT}"
        raise FileNotFoundError(f"no scenario file {str(path)!r}; {expected}") from error
    try:
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        expected = "expected UTF-8 text, plain or gzip"
        raise ValueError(f"{path}: {expected}, got a damaged or other file: {error}") from error


def _csv_records(path: Path, text: str) -> list[tuple[str, Any]]:
    """Return one record per conversation of EmpatheticDialogues, whose commas are written ``_comma_``."""
    # The published files are not quoted; where they are, csv reads the quotes all the same.
    reader = csv.DictReader(io.StringIO(text))
    if not {"conv_id", "prompt"} <= {*(reader.fieldnames or ())}:
        raise ValueError(f"{path}: expected a CSV with the columns {_CSV_LAYOUT}, got {reader.fieldnames}")
    found: dict[str, tuple[str, Any]] = {}
    for row in reader:
        prompt = (row["prompt"] or "").replace("_comma_", ",")
        emotion = row.get("context") or row.get("emotion") or ""
        found.setdefault(str(row["conv_id"]), (f"line {reader.line_num}", {"situation": prompt, "emotion": emotion}))
    return list(found.values())


def _situation(record: Any) -> Situation:
    text, emotion = _one_line(record["situation"]), _one_line(record.get("emotion") or "")
    if not text:
        raise ValueError("the situation is empty")
    return Situation(text, emotion[:40], understand(text).topic, True, text.lower())


def _one_line(text: Any) -> str:
    """Return ``text`` in one line of printable characters, shortened."""
    if not isinstance(text, str):
        raise TypeError(f"expected text, got {text!r:.40}")
    return " ".join("".join(char if char.isprintable() else " " for char in text[:2000]).split())[:SITUATION_CHARS]

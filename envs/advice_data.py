r"""Real questions and preferences for ``Advice-v0``: files in SafeRLHF's, HH's and SACPO's format, and plain prompts.

A file is JSON (a list), JSON lines, CSV with a heading, or text (one prompt a line), each plain or gzip. A record is
one of

- ``{"prompt": ..., "response_0", "response_1", "better_response_id", "safer_response_id", "is_response_0_safe",
  "is_response_1_safe"}``: SafeRLHF (Dai et al. 2023, arXiv:2310.12773);
- ``{"chosen": "\n\nHuman: ... \n\nAssistant: ...", "rejected": ...}``: HH (Bai et al. 2022, arXiv:2204.05862);
- ``{"prompt": ..., "chosen": ..., "rejected": ...}``: SACPO (Wachi et al. 2024, arXiv:2404.11049);
- ``{"prompt": ...}``, as SACPO's problem files, or a prompt alone.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from dialog_gym.data.corpora.preferences import ASSISTANT, USER, Said, hh_pair, question, safe_pair, text_of
from dialog_gym.json_lines import numbered
from dialog_gym.splits import part

T = TypeVar("T")
Messages = tuple[Mapping[str, str], ...]

ADVISER, ASKER = "adviser", "asker"
PROMPTS = (
    '{"prompt": "..."} (SafeRLHF, SACPO), {"chosen": "\\n\\nHuman: ...", "rejected": ...} (HH) or a prompt as text'
)
PAIRS = (
    '{"prompt", "response_0", "response_1", "better_response_id": 0 or 1, "safer_response_id": 0 or 1, '
    '"is_response_0_safe", "is_response_1_safe"} (SafeRLHF) or {"chosen": "\\n\\nHuman: ...", "rejected": ...} (HH)'
)


class Prompt(NamedTuple):
    """A question of a file, with what was said before it.

    Attributes:
        turns: Pairs of role (``"asker"``, ``"adviser"``) and text; the last is the asker's.
    """

    turns: tuple[tuple[str, str], ...]

    @property
    def answered(self) -> int:
        """How many of the turns are the adviser's."""
        return sum(role == ADVISER for role, _ in self.turns)


class Preference(NamedTuple):
    """Two answers to a prompt, and which is preferred.

    Attributes:
        messages: The prompt as a chat: ``{"role": "user" or "assistant", "content": ...}``, a user's last.
        response_a: One answer.
        response_b: The other.
        better: 0 if ``response_a`` is the more helpful, 1 if the other is, None if that is not labelled.
        safer: Likewise the safer one.
        safe: Whether each is safe; None if that is not labelled.
    """

    messages: Messages
    response_a: str
    response_b: str
    better: int | None
    safer: int | None
    safe: tuple[bool, bool] | None


def read_questions(path: str | Path) -> tuple[Prompt, ...]:
    """Read the prompts of a file, each once, in their order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another format; the message names file, record and what was expected.
    """
    return tuple(dict.fromkeys(_each(Path(path), _prompt, PROMPTS)))


def read_preferences(
    path: str | Path, chosen: Literal["better", "safer", "both"] = "better", *, skip_bad: bool = False
) -> tuple[Preference, ...]:
    """Read the pairs of answers of a file.

    Args:
        path: A file in SafeRLHF's or HH's format.
        chosen: What the one label means where there is but one: HH's helpful-base was labelled by helpfulness, its
            harmless-base by safety. The other label is then None. SafeRLHF has both.
        skip_bad: Leave out records of another format, as long as there are others: a large corpus may have a few.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another format; the message names file, record and what was expected.
    """
    if chosen not in ("better", "safer", "both"):
        raise ValueError(f"chosen must be 'better', 'safer' or 'both', got {chosen!r}")
    return tuple(_each(Path(path), lambda record: _preference(record, chosen), PAIRS, skip_bad))


def prompts_in_split(prompts: Iterable[Prompt], split: str) -> tuple[Prompt, ...]:
    """Return the prompts of ``split``: 70% are "train", 30% "heldout", by a hash of the first question.

    Raises:
        ValueError: Unknown split, or nothing is left.
    """
    return part(prompts, split, lambda prompt: prompt.turns[0][1], "questions")


# --- files -------------------------------------------------------------------------------------


def _each(path: Path, read: Callable[[Any], T], expected: str, skip_bad: bool = False) -> list[T]:
    """Return what ``read`` makes of each record."""
    found = []
    for number, record in enumerate(_records(path)):
        try:
            found.append(read(record))
        except (KeyError, TypeError, ValueError) as error:
            if skip_bad:
                continue
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            got = f"{str(record)!r:.120} ({why})"
            raise ValueError(f"{path}, record {number}: expected {expected}, got {got}") from error
    if not found:
        raise ValueError(f"{path}: expected at least one record {expected}, got none")
    return found


def _records(path: Path) -> list[Any]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no file {str(path)!r}; expected JSON, JSON lines, CSV or text, plain or gzip"
        ) from error
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
        return _parsed(text, path.name.removesuffix(".gz").rpartition(".")[2].lower())
    except (OSError, EOFError, ValueError, RecursionError, csv.Error) as error:
        expected = "expected JSON (.json), JSON lines (.jsonl), CSV with a heading (.csv) or a prompt a line (.txt), "
        raise ValueError(f"{path}: {expected}plain or gzip, got a damaged or other file: {error}") from error


def _parsed(text: str, kind: str) -> list[Any]:
    if kind == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    if kind == "txt":
        return [line for _, line in numbered(text)]
    if kind == "jsonl":
        return [json.loads(line) for _, line in numbered(text)]
    if kind != "json":
        raise ValueError(f"unknown ending {kind!r}")
    records = json.loads(text)
    if not isinstance(records, list):
        raise ValueError(f"expected a list of records, got {type(records).__name__}")
    return records


# --- records -----------------------------------------------------------------------------------

_ROLES = {USER: ASKER, ASSISTANT: ADVISER}


def _prompt(record: Any) -> Prompt:
    if isinstance(record, Mapping) and "chosen" in record and "prompt" not in record:
        said = hh_pair(record)[0]
    else:
        text = text_of(record, "prompt") if isinstance(record, Mapping) else record
        if not isinstance(text, str) or not text.strip():
            raise ValueError("a prompt must be text")
        said = question(text)
    return Prompt(tuple((_ROLES[role], text) for role, text in said))


def _preference(record: Any, chosen: str) -> Preference:
    if not isinstance(record, Mapping):
        raise TypeError(f"{type(record).__name__} is no record")
    if "chosen" not in record:
        pair = safe_pair(record)
        return Preference(_messages(pair.prompt), *pair.answers, pair.better, pair.safer, pair.safe)
    if "prompt" in record:
        said = question(text_of(record, "prompt"))
        first, second = text_of(record, "chosen"), text_of(record, "rejected")
    else:
        said, first, second = hh_pair(record)
    label = {"better": 0 if chosen != "safer" else None, "safer": 0 if chosen != "better" else None}
    return Preference(_messages(said), first, second, label["better"], label["safer"], None)


def _messages(said: Said) -> Messages:
    return tuple({"role": role, "content": text} for role, text in said)

"""The databases behind MultiWOZ and CamRest: which venues fit what was asked for, and whose phone number that is.

Values are compared in a normal form (``plain``): lower case, no punctuation, one spelling of a few words that the
corpora write apart or together. Names, kinds of food and stations match loosely, as in Nekvinda and Dusek (2021): a
value fits if nine tenths of the shorter one stand in the longer. What stands in no row is first taken for the nearest
value that does (``"portugese"``); Nekvinda and Dusek have a list of corrections by hand for that.
"""

from __future__ import annotations

import difflib
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dialog_gym.data.columns import DatasetError

VENUES = ("attraction", "hotel", "restaurant", "train")
"""Domains with a database of venues; a train counts as one."""

LOOSE = {"name", "food", "departure", "destination"}  # what is compared loosely
LIKE = 0.9  # how much of the shorter of two texts must stand in the longer: Nekvinda and Dusek (2021)
NEAR = 0.8  # how like a misspelt value must be to one of the database
ANY = {"", "?", "any", "none", "notmentioned", "dontcare", "donotcare", "dontknow", "doesntmatter", "doesnotmatter"}

_TOKEN = re.compile(r"&|[^\W_]+(?: ?['\u2019`] ?s\b|['\u2019`])*")
_TOGETHER = {
    ("guest", "house"): "guesthouse",
    ("night", "club"): "nightclub",
    ("swimming", "pool"): "swimmingpool",
    ("concert", "hall"): "concerthall",
    ("bed", "and", "breakfast"): "bandb",
    ("b", "and", "b"): "bandb",
}
_ONE_SPELLING = {
    "&": "and",
    "center": "centre",
    "st": "saint",
    "archaeology": "archaelogy",
}  # the database's spellings
_CLOCK = re.compile(r"\b(\d{1,2})\s*[:.]?\s*(\d{2})?\s*(am|a\.m|pm|p\.m)?")

Rows = Sequence[Mapping[str, str]]


class Word(NamedTuple):
    """A word in its normal form, and where it stands in the text; ``stem`` is without an ``'s`` at its end."""

    text: str
    start: int
    end: int
    stem: str = ""


def words(text: str) -> list[Word]:
    """Return the words of ``text`` in their normal form, with the places where they stand.

    >>> [word.text for word in words("The Alexander B & B, St. Anne 's guest house")]
    ['the', 'alexander', 'bandb', 'saint', 'annes', 'guesthouse']
    """
    found: list[Word] = []
    for match in _TOKEN.finditer(text.lower()):
        stem = re.sub(r" ?['\u2019`] ?s?$", "", match.group())
        word = re.sub(r"[ '\u2019`]", "", match.group())
        found.append(Word(_ONE_SPELLING.get(word, word), match.start(), match.end(), _ONE_SPELLING.get(stem, stem)))
        for size in (2, 3):
            last = found[-size:]
            if together := _TOGETHER.get(tuple(one.stem for one in last)):
                found[-size:] = [Word(together, last[0].start, last[-1].end, together)]
                break
    return found


@lru_cache(maxsize=1 << 16)
def plain(value: str) -> str:
    """Return ``value`` in its normal form: the words of ``words``, one blank apart."""
    return " ".join(word.text for word in words(value))


@lru_cache(maxsize=1 << 16)
def alike(one: str, other: str) -> float:
    """Return how much of the shorter text stands in the longer, from 0 to 1.

    It is the largest ``difflib`` ratio between the shorter text and a piece of the longer that is as long.

    >>> alike("indian", "north indian"), alike("cow", "cat")
    (1.0, 0.3333333333333333)
    """
    short, long = sorted((one, other), key=len)
    if not short:
        return 0.0
    if short in long:
        return 1.0
    in_common = (Counter(short) & Counter(long)).total()
    if in_common / len(short) < LIKE:  # no piece can be more alike than that: saves the search
        return in_common / len(short)
    pieces = (long[start : start + len(short)] for start in range(len(long) - len(short) + 1))
    return max(difflib.SequenceMatcher(None, short, piece, autojunk=False).ratio() for piece in pieces)


def minutes(time: str) -> int | None:
    """Return the minutes since midnight that ``time`` tells, None if it tells none.

    >>> minutes("17:45"), minutes("5.45 pm"), minutes("after 9am"), minutes("morning")
    (1065, 1065, 540, None)
    """
    if not (match := _CLOCK.search(time.lower())):
        return None
    hour, minute, half = int(match[1]), int(match[2] or 0), match[3] or ""
    if half.startswith("p") and hour < 12:
        hour += 12
    return 60 * hour + minute


def key(slot: str) -> str:
    """Return the one name of a slot that goals, states and databases write apart: ``"price range"``, ``"leaveAt"``."""
    return re.sub(r"[^a-z]", "", slot.lower())


def is_any(value: str) -> bool:
    """Tell whether ``value`` leaves open what it should be (``"dontcare"``, ``"not mentioned"``)."""
    return re.sub(r"[^a-z0-9?]", "", value.lower()) in ANY


class Venues:
    """Databases of venues, by domain.

    Attributes:
        tables: The rows of each domain: values by ``key`` of the slot. The ``id`` of a train is its ``trainid``.
    """

    def __init__(self, tables: Mapping[str, Iterable[Mapping[str, object]]]) -> None:
        """Take the rows of each domain; values that are no text or number are left out."""
        self.tables: dict[str, Rows] = {domain: [_row(row) for row in rows] for domain, rows in tables.items()}
        self._found: dict[tuple[str, frozenset[tuple[str, str]]], frozenset[str]] = {}
        self._columns: dict[tuple[str, str], dict[str, frozenset[str]]] = {}

    @classmethod
    def load(cls, folder: str | Path) -> Venues:
        """Read ``{domain}_db.json`` (or ``.json.gz``) of every domain in ``VENUES``, as MultiWOZ publishes them.

        Raises:
            DatasetError: A file is missing, or no list of rows.
        """
        return cls({domain: _rows(Path(folder) / f"{domain}_db.json") for domain in VENUES})

    @classmethod
    def load_restaurants(cls, file: str | Path) -> Venues:
        """Read ``CamRestDB.json``, the one table of CamRest.

        Raises:
            DatasetError: The file is missing, or no list of rows.
        """
        return cls({"restaurant": _rows(Path(file))})

    def query(self, domain: str, wanted: Mapping[str, str]) -> frozenset[str]:
        """Return the ids of the venues that fit all that is ``wanted``.

        Slots that the database does not have and values that leave it open (``is_any``) do not matter; what it does
        not know of a venue (``"?"``) fits. Trains leave at the time asked for or later, and arrive then or earlier.
        Several values (``"cheap|moderate"``) are alternatives.

        Args:
            domain: One without a database has no venues.
            wanted: Values by name of the slot.
        """
        asked = frozenset((key(slot), value) for slot, value in wanted.items() if not is_any(value))
        if (domain, asked) not in self._found:
            left = {row["id"] for row in self.tables.get(domain, ())}
            for slot, value in asked:
                if self.column(domain, slot):
                    left &= self._fitting(domain, slot, value)
            self._found[domain, asked] = frozenset(left)
        return self._found[domain, asked]

    def column(self, domain: str, slot: str) -> dict[str, frozenset[str]]:
        """Return the values of a column as ``plain`` has them, with the ids of their venues; empty: there is none."""
        if (domain, slot) not in self._columns:
            rows = self.tables.get(domain, ())
            values: dict[str, set[str]] = {}
            for row in rows if any(slot in row for row in rows) else ():
                value = row.get(slot, "?")
                values.setdefault("?" if value == "?" else plain(value), set()).add(row["id"])
            self._columns[domain, slot] = {value: frozenset(ids) for value, ids in values.items()}
        return self._columns[domain, slot]

    def owners(self, domain: str, slot: str, value: str) -> frozenset[str]:
        """Return the ids of the venues of which ``value`` is the name, phone number, address, postcode or id.

        Numbers and codes are compared without blanks and punctuation, names and addresses loosely: as a part of the
        database's, or the other way round.
        """
        column = self.column(domain, "id" if slot == "trainid" else slot)
        if slot in ("phone", "postcode", "id", "trainid"):
            number = re.sub(r"\W", "", value.lower())
            return _union(ids for there, ids in column.items() if there != "?" and there.replace(" ", "") == number)
        said = plain(value)
        for whole in (said, _not_possessive(value)):
            if whole in column:
                return column[whole]  # "pizza hut" is a place of its own beside "pizza hut cherry hinton"
        return _union(ids for there, ids in column.items() if there != "?" and alike(there, said) >= LIKE)

    def row(self, domain: str, venue: str) -> Mapping[str, str]:
        """Return the first row of a venue.

        Raises:
            KeyError: There is no such venue.
        """
        for row in self.tables.get(domain, ()):
            if row["id"] == venue:
                return row
        raise KeyError(f"no {domain} with id {venue!r}")

    def _fitting(self, domain: str, slot: str, value: str) -> frozenset[str]:
        column = self.column(domain, slot)
        fitting: set[str] = set(column.get("?", ()))
        for one in re.split(r"[|>]", value):
            for there, ids in column.items():
                if _fits(slot, there, one, column):
                    fitting |= ids
        return frozenset(fitting)


def _fits(slot: str, there: str, wanted: str, column: Mapping[str, object]) -> bool:
    """Tell whether the database's value ``there`` is what is ``wanted``."""
    if slot in ("leaveat", "arriveby"):
        asked, time = minutes(wanted), minutes(there.replace(" ", ":"))
        if asked is None or time is None:
            return True
        return time >= asked if slot == "leaveat" else time <= asked
    said = plain(wanted)
    if slot in ("internet", "parking") and said == "free":
        said = "yes"
    if said not in column and (near := difflib.get_close_matches(said, column, n=1, cutoff=NEAR)):
        said = near[0]
    return there == said or (slot in LOOSE and alike(there, said) >= LIKE)


def _not_possessive(value: str) -> str:
    *before, last = words(value) or [Word("", 0, 0)]
    return " ".join([*(word.text for word in before), last.stem])


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _row(row: Mapping[str, object]) -> dict[str, str]:
    kept = {key(slot): str(value) for slot, value in row.items() if isinstance(value, (str, int, float))}
    kept.setdefault("id", kept.get("trainid", ""))
    return kept


def _rows(file: Path) -> list[dict[str, object]]:
    packed = file.with_name(file.name + ".gz")
    if not file.exists() and not packed.exists():
        raise DatasetError(f"expected the database {file} (or {packed.name}), there is no such file")
    try:
        data = file.read_bytes() if file.exists() else gzip.decompress(packed.read_bytes())
        rows = json.loads(data)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it is something else")
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{file}: expected a list of venues in JSON; {error}") from error
    return rows

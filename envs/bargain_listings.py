"""What ``Bargain-v0`` is about: generated items, or real listings in CraigslistBargain's format."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym.envs.bargain_language import on_grid
from dialog_gym.envs.bargain_phrases import ADJECTIVES, NOUNS
from dialog_gym.splits import part

TITLE_CHARS = 80
TITLE_WORDS = 5  # of a title that a language model reads
_LAYOUT = '[{"scenario": {"post_id": ..., "kbs": [{"personal": {}, "item": {"Title": "", "Price": 1}}, ...]}}, ...]'


class Listing(NamedTuple):
    """An item for sale.

    Attributes:
        title: One line of at most ``TITLE_CHARS`` characters.
        category: Its kind: bike, car, electronics, furniture, housing or phone.
        low: Lowest list price in dollars.
        high: Highest list price; equal to ``low`` where it is known.
        target: What the buyer hoped to pay, percent of the list price, if that is known.
        key: Names the listing; decides the split.
    """

    title: str
    category: str
    low: float
    high: float
    target: int | None
    key: str

    def list_price(self, bits: int) -> float:
        """Return a round list price in ``low`` .. ``high``, chosen by 16 random bits."""
        if self.low == self.high:
            return self.low
        price = self.low * (self.high / self.low) ** (bits / 0xFFFF)
        unit = 1 if price < 20 else 5 if price < 200 else 10 if price < 1000 else 50 if price < 5000 else 100
        return int(price / unit + 0.5) * unit


@lru_cache(maxsize=1)
def generated() -> tuple[Listing, ...]:
    """Return every combination of an adjective and a noun."""
    return tuple(
        Listing(f"{adjective} {noun}", category, low, high, None, f"{adjective} {noun}")
        for category, nouns in NOUNS.items()
        for noun, low, high in nouns
        for adjective in ADJECTIVES[category]
    )


def in_split(listings: Iterable[Listing], split: str) -> tuple[Listing, ...]:
    """Return the listings of ``split``: 70% are "train", 30% "heldout", by a hash of the key.

    Raises:
        ValueError: Unknown split, or nothing is left.
    """
    return part(listings, split, lambda listing: listing.key, "listings")


@lru_cache(maxsize=4096)
def listing_title(title: str) -> str:
    """Return the first words of ``title`` as a language model reads them: lower case, letters and digits.

    >>> listing_title("HURRY!!! <b>Sony</b> Portable Bluetooth Speaker (Black)")
    'hurry b sony b portable'
    """
    words = re.findall(r"\w+", title.lower())[:TITLE_WORDS]
    return " ".join(words) or "item"


def read_listings(path: str | Path) -> tuple[Listing, ...]:
    """Read a file in CraigslistBargain's format, each listing once; those without a price of $1 are skipped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another format; the message names file, record and what was expected.
    """
    path = Path(path)
    records = _records(path)
    listings: dict[str, Listing] = {}
    for number, record in enumerate(records):
        try:
            listing = _listing(record)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            got = f"{str(record)!r:.120} ({type(error).__name__}: {error})"
            raise ValueError(f"{path}, record {number}: expected a record of {_LAYOUT}, got {got}") from error
        if listing is not None:
            listings.setdefault(listing.key, listing)
    if not listings:
        raise ValueError(f"{path}: expected listings with a price of at least $1, got {len(records)} without")
    return tuple(listings.values())


def _records(path: Path) -> list[Any]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        expected = "expected CraigslistBargain's JSON, plain or gzip"
        raise FileNotFoundError(f"no scenario file {str(path)!r}; {expected}") from error
    try:
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        records = json.loads(text)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, plain or gzip, got a damaged or other file: {error}") from error
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a list of records {_LAYOUT}, got {type(records).__name__}")
    return records


def _listing(record: Any) -> Listing | None:
    scenario = record["scenario"]
    sides = scenario["kbs"]
    item = sides[0]["item"]
    price = item["Price"]
    title = _one_line(item["Title"])
    if price is None or (_number("Price", price) < 1):
        return None
    targets = [side["personal"].get("Target") for side in sides if side["personal"].get("Role") == "buyer"]
    target = on_grid(100 * _number("Target", targets[0]) / price) if targets and targets[0] else None
    key = str(scenario.get("post_id") or title)
    return Listing(title or "item", _one_line(item.get("Category") or "item"), price, price, target, key)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r:.40}")
    if value > 1e12:
        raise ValueError(f"{name} must be at most 1e12 dollars, got {value!r:.40}")
    return value


def _one_line(text: str) -> str:
    """Return ``text`` in one line of printable characters, shortened."""
    if not isinstance(text, str):
        raise TypeError(f"a title or category must be text, got {text!r:.40}")
    return " ".join("".join(char if char.isprintable() else " " for char in text[:400]).split())[:TITLE_CHARS]

"""What a response of a MultiWOZ or CamRest system gives: names, numbers and codes, out of text of three kinds.

* ``placeholders``: delexicalised text, ``"[restaurant_name] is nice"``, as models for MultiWOZ write it.
* ``annotated``: the spans that the corpus marks in its own responses.
* ``Finder``: plain text; whatever of the databases is named in it, and what looks like a reference or phone number.

All three return ``Mention``s, which is all that the metrics in ``dialog_gym.rewards.multiwoz`` look at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dialog_gym.rewards.multiwoz_db import Venues, Word, key, words

SLOTS = ("name", "trainid", "phone", "address", "postcode", "reference")
"""What inform and success depend on."""

_CALLED = {  # how acts and delexicalised corpora call the slots
    "id": "trainid",
    "train": "trainid",
    "post": "postcode",
    "addr": "address",
    "ref": "reference",
} | {slot: slot for slot in SLOTS}
_DOMAINS = ("restaurant", "hotel", "attraction", "train", "taxi", "hospital", "police")
_PLACEHOLDER = re.compile(r"\[([a-z_ ]+)\]", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w:])0(?:[ -]{0,3}\d){9,11}(?!\w)")
_REFERENCE = re.compile(r"(?<!\w)(?:[A-Z0-9]{8}|(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{8})(?!\w)")
_TRAIN = re.compile(r"(?<!\w)tr ?\d{4}(?!\w)", re.IGNORECASE)
_POSTCODE = re.compile(
    r"(?<!\w)(?:c\.? ?b\.? ?\d{1,2}[ ,]*\d ?[a-z]\.? ?[a-z]|[a-z]{2}\d{2,3} ?[a-z]{2})(?!\w)", re.IGNORECASE
)
_PLACE = "place"  # a venue is called so, and every other one is called that
_GENERIC = {
    "restaurant",
    "guesthouse",
    "hotel",
    "cambridge",
    "city",
    "centre",
    "bandb",
}  # may be left out at the end of a name
RARE = 5  # letters of a word that is a name alone: "ashley", not "ask"
_STREET_ENDS = {"city", "centre", "road", "street", "hinton", "chesterton", "ditton", "fen", "cherry"}


class Mention(NamedTuple):
    """One thing that a response gives.

    Attributes:
        slot: One of ``SLOTS``.
        domain: ``""`` if it is not told.
        value: As said, ``""`` for a placeholder.
        start: Where it stands, -1 if it is not known.
        end: Where it ends.
    """

    slot: str
    domain: str = ""
    value: str = ""
    start: int = -1
    end: int = -1


def placeholders(text: str) -> list[Mention]:
    """Return what delexicalised ``text`` gives.

    Names of slots may have a domain in front, and may be those of MultiWOZ's acts or of published delexicalisations.

    >>> placeholders("[restaurant_name] ([value_phone]) serves [food], your reference is [ref]")[0][:2]
    ('name', 'restaurant')
    """
    found = []
    for match in _PLACEHOLDER.finditer(text):
        domain, _, slot = match[1].lower().strip().rpartition("_")
        if domain and slot == "id" and domain not in ("train", "value"):
            continue  # that of a venue, which nobody asks for
        if slot := _CALLED.get(slot.replace(" ", ""), ""):
            found.append(Mention(slot, domain if domain in _DOMAINS else "", "", match.start(), match.end()))
    return found


def annotated(spans: Iterable[Sequence[Any]]) -> list[Mention]:
    """Return what the corpus marks in a response: spans ``[act, slot, value, ...]``, the act ``"Hotel-Inform"``.

    Marks of acts that are about no certain domain (``"Booking-Book"``) have the domain ``""``.
    """
    found = []
    for act, slot, value, *_ in spans:
        domain = str(act).partition("-")[0].lower()
        if name := _CALLED.get(key(str(slot)), ""):
            found.append(Mention(name, domain if domain in _DOMAINS else "", str(value)))
    return found


class Finder:
    """Finds in plain text what is of the databases, and what looks like a phone number, postcode, train or reference.

    Names are found by their words in normal form; a ``"the"`` at the beginning and a word such as ``"restaurant"`` at
    the end may be missing, unless another venue is called so. Where venues of several domains share a name, the
    mention has no domain.
    """

    def __init__(self, venues: Venues) -> None:
        """Index the names and addresses of ``venues``."""
        self.venues = venues
        self._starts: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
        self._owners = {slot: _numbers(venues, slot) for slot in ("phone", "postcode")}
        known: dict[tuple[tuple[str, ...], str], set[str]] = {}
        for make in (_full, _shortened):  # full names first: a short form must not take one
            taken = dict(known)
            for domain, rows in venues.tables.items():
                for row in rows:
                    for slot in ("name", "address"):
                        for form in make(slot, row.get(slot, "?")):
                            if (form, slot) not in taken:
                                known.setdefault((form, slot), set()).add(domain)
        for (form, slot), domains in known.items():
            domain = next(iter(domains)) if len(domains) == 1 else ""
            self._starts.setdefault(form[0], []).append((form, slot, domain))
        for forms in self._starts.values():
            forms.sort(
                key=lambda one: (len(one[0]), one[1]), reverse=True
            )  # the longest first, names before addresses

    def __call__(self, text: str) -> list[Mention]:
        """Return what ``text`` gives, in its order."""
        found = self._patterns(text)
        said = words(text)
        at = 0
        while at < len(said):
            match = self._longest(text, said[at:])
            if match:
                form, slot, domain = match
                start, end = said[at].start, said[at + len(form) - 1].end
                found.append(Mention(slot, domain, text[start:end], start, end))
            at += len(match[0]) if match else 1
        return sorted(found, key=lambda mention: mention.start)

    def read(self, text: str) -> list[Mention]:
        """Return what ``text`` gives: its placeholders if there are some, else what is found in it."""
        return placeholders(text) or self(text)

    def delexicalise(self, text: str) -> str:
        """Return ``text`` with placeholders in place of what it gives: ``"[restaurant_name] is nice"``."""
        parts, done = [], 0
        for mention in self(text):
            if mention.start < done:
                continue
            name = f"{mention.domain}_{mention.slot}" if mention.domain else mention.slot
            parts += [text[done : mention.start], f"[{name}]"]
            done = mention.end
        return "".join([*parts, text[done:]])

    def _longest(self, text: str, said: Sequence[Word]) -> tuple[tuple[str, ...], str, str] | None:
        first = said[0]
        for start in dict.fromkeys((first.text, first.stem)):
            for entry in self._starts.get(start, ()):
                form = entry[0]
                here = said[: len(form)]
                if len(here) == len(form) and all(
                    w in (one.text, one.stem) for w, one in zip(form, here, strict=True)
                ):
                    if form[-1] == _PLACE and text[here[-1].start].islower():
                        continue
                    return entry
        return None

    def _patterns(self, text: str) -> list[Mention]:
        found = []
        for slot, pattern in (
            ("phone", _PHONE),
            ("postcode", _POSTCODE),
            ("trainid", _TRAIN),
            ("reference", _REFERENCE),
        ):
            for match in pattern.finditer(text):
                domain = "train" if slot == "trainid" else ""
                if slot in self._owners:
                    domain = self._owners[slot].get(_bare(match.group()), "")
                if slot == "reference" and match.group().isdigit():
                    continue  # a number of something
                found.append(Mention(slot, domain, match.group(), match.start(), match.end()))
        return found


def _bare(value: str) -> str:
    return re.sub(r"\W", "", value.lower())


def _numbers(venues: Venues, slot: str) -> dict[str, str]:
    """Return the one domain in which each number stands."""
    domains: dict[str, set[str]] = {}
    for domain, rows in venues.tables.items():
        for row in rows:
            domains.setdefault(_bare(row.get(slot, "")), set()).add(domain)
    return {number: next(iter(of)) for number, of in domains.items() if len(of) == 1}


def _full(slot: str, value: str) -> list[tuple[str, ...]]:
    """Return the words of a name or address, with and without the article."""
    form = tuple(word.text for word in words(value))
    if not form or value == "?":
        return []
    return [form, form[1:]] if form[0] == "the" and len(form) > 2 else [form]


def _shortened(slot: str, value: str) -> list[tuple[str, ...]]:
    """Return shorter forms that are certain enough: a name of two words or a rare one, an address of two words."""
    forms: list[tuple[str, ...]] = []
    for form in _full(slot, value):
        while len(form) > 1 and form[-1] in (_GENERIC if slot == "name" else _STREET_ENDS | _GENERIC):
            form = form[:-1]
            certain = len(form) > 1 or (slot == "name" and len(form[0]) >= RARE)
            if certain and form[-1] not in _GENERIC | {"the"}:
                forms.append(form)
        if slot == "name" and len(form) > 2 and form[0] == "restaurant":
            forms.append(form[1:])
    return forms

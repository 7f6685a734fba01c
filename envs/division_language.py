"""What people say when they divide items: proposals, agreement, questions, selections, and a notation for models.

``understand`` reads an utterance by words and short patterns, clause by clause: who gets how many of what ("you can
have 2 hats if i get the rest"), who is meant by the nearest pronoun. What is denied, compared or told about values is
no proposal. Where an utterance names what one side gets and nothing of the other, the other gets the rest.

Language models read lower case with spaces around marks, as the published Deal or No Deal is written. Tokens:
``<select> book=1 hat=0 ball=2`` (what the speaker takes, or ``none``) and ``<selection>``, the same unseen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.envs import division_words as words
from dialog_gym.envs.division import Share, fits, rest
from dialog_gym.envs.division_words import ALL, AMOUNTS, BOTH, HALF, ME, REST, YOU

READ_CHARS = 600  # of an utterance; what comes after is not understood
MOVES = {"<accept>": "accept", "<reject>": "reject", "<walk>": "walk"}
Partial = tuple[int | None, ...]
"""How many of each item, None where that is not said."""


class Lexicon(NamedTuple):
    """What the items are called.

    Attributes:
        items: Names in selections.
        words: Word to the index of its item and whether it means all of them ("the hats").
        mass: Whether items are spoken of as a mass ("water"): needing some is no proposal, taking it is; and people
            settle item by item, so that what is not named stays open.
    """

    items: tuple[str, ...]
    words: Mapping[str, tuple[int, bool]]
    mass: bool = False


class Act(NamedTuple):
    """What was understood of an utterance.

    Attributes:
        share: What the speaker would get, None for items that are left open; None if nothing is proposed.
        said: The same for the items that the words themselves settle.
        accept: Whether something is agreed to.
        reject: Whether something is refused.
        question: Whether the other is asked what it wants.
        select: The final choice: a share, ``()`` for no deal; None if there is none.
        move: ``"accept"``, ``"reject"`` or ``"walk"`` if that token was said, else ``""``.
    """

    share: Partial | None = None
    said: Partial = ()
    accept: bool = False
    reject: bool = False
    question: bool = False
    select: Share | None = None
    move: str = ""

    @property
    def understood(self) -> bool:
        """Whether anything was understood at all."""
        return self.share is not None or self.select is not None or self.accept or self.reject or self.question


# --- reading -----------------------------------------------------------------------------------

_TOKEN = re.compile(r"[a-z]+|[0-9]+|[^\sa-z0-9]")


def plain(text: str) -> str:
    """Return the part of ``text`` that is read, in lower case and plain characters."""
    text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
    return text.lower().replace("`", "'")


class Reader:
    """Understands utterances about one set of items; keeps what it has read, for people repeat themselves.

    Attributes:
        lexicon: The items.
        understand: ``(text, counts) -> Act``: what a text means where there are so many of the items. Its time is
            bounded whatever the text.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        """Read about the items of ``lexicon``."""
        self.lexicon = lexicon
        self.understand = lru_cache(maxsize=1 << 15)(self._understand)

    def _understand(self, text: str, counts: Share) -> Act:
        text = plain(text)
        move = MOVES.get(text.strip(), "")
        if move:
            return Act(accept=move == "accept", reject=move != "accept", move=move)
        chosen = self._selected(text, counts)
        if chosen is not None:
            return Act(select=chosen)
        bare = words.OR_ELSE.sub(" ", text.replace("'", ""))
        share, said = _Clauses(self.lexicon, counts).read(_TOKEN.findall(bare))
        reject = words.REFUSES.search(bare) is not None
        question = share is None and words.ASKS.search(bare) is not None
        accept = not reject and not question and words.AGREES.search(bare) is not None
        return Act(share, said, accept, reject, question)

    def _selected(self, text: str, counts: Share) -> Share | None:
        """Return the final choice in ``text``: ``()`` for no deal or what cannot be, None if it is no choice."""
        match = words.SELECTS.match(text)
        if match is None:
            return None
        tail, share, found = text[match.end() :], [0] * len(counts), False
        for name, number, count, counted in words.PAIR.findall(tail):
            item = self.lexicon.words.get(name or counted)
            if item is not None:
                share[item[0]] = int(number or count) if (number or count).isdigit() else words.NUMBERS.get(count, 0)
                found = True
        if not found and words.NO_DEAL.search(tail) is None and "<select>" not in match[0]:
            return None
        chosen = tuple(share)
        return chosen if found and fits(counts, chosen) else ()


class _Mention(NamedTuple):
    mine: bool  # whether the speaker gets it
    item: int  # index, or -1 for all that is not named
    amount: int


class _Clauses:
    """The state of reading one utterance from left to right."""

    def __init__(self, lexicon: Lexicon, counts: Share) -> None:
        self.words, self.counts, self.mass = lexicon.words, counts, lexicon.mass
        self.mentions: list[_Mention] = []
        self.owner: bool | None = None  # whether the speaker gets what follows
        self.given = False  # whether the speaker is who is given to: "give me"
        self.amount: int | None = None
        self.denied = self.skip = False
        self.open = self.part = 0  # first mention since the owner changed, since the last comma or "and"
        self.last = -1  # the item mentioned last
        self.moves = False  # whether a verb of giving or taking was said since the last pronoun
        self.adds = self.mass  # whether it comes on top of what stands: "one ball as well"
        self.whole = False  # whether everything was claimed, and not everything else

    def read(self, tokens: Sequence[str]) -> tuple[Partial | None, Partial]:
        """Return what the speaker would get, with and without what goes without saying."""
        for i, token in enumerate(tokens):
            before, following = tokens[max(i - 2, 0) : i], tokens[i + 1 : i + 5]
            if token in self.words:
                self._item(*self.words[token], before[-1] if before else "", following)
            elif token in ME or token in YOU:
                self._pronoun(token, before)
            elif token in AMOUNTS or token.isdigit() or token == "no":
                self._number(token, following)
            elif token in words.PARTS:
                self._divided(token)
            elif token in words.ENDS or token in words.TURNS:
                self._turned(token)
            elif token in words.GIVES or token in words.TAKES or token == "for":
                self._moved(token, before[-1] if before else "", following)
            else:
                self._word(token, before[-1] if before else "", following)
        self._turned(".")
        return self._added_up()

    def _opened(self, owner: bool | None) -> None:
        """Begin what ``owner`` gets."""
        self.owner = owner
        self.open = self.part = len(self.mentions)

    def _pronoun(self, token: str, before: Sequence[str]) -> None:
        mine = token in ME
        afterwards = before[-1:] and before[-1] in ("for", "to") and self._named(before[0])
        if afterwards and len(self.mentions) > self.open:  # "2 hats for me"
            start = self.open if self.owner is None else self.part
            self.mentions[start:] = [mention._replace(mine=mine) for mention in self.mentions[start:]]
            self._opened(None)
        else:
            self._opened(mine)
            self.given, self.moves = token in words.GIVEN, self.moves and token in words.OBJECTS

    def _named(self, word: str) -> bool:
        return word in self.words or word in REST or word in AMOUNTS or word.isdigit() or word in ("item", "items")

    def _number(self, token: str, following: Sequence[str]) -> None:
        after = following[0] if following else ""
        if token == "no":
            self.amount = 0 if after in self.words else self.amount
            return
        amount = int(token) if token.isdigit() else AMOUNTS[token]
        to_whom = after in ("for", "to") and self._is_pronoun(following[1:2])
        if after in words.UNITS and not to_whom:
            return
        if (self.amount == ALL and amount > 0) or (self.amount == HALF and token in ("a", "all")):
            return  # "all three hats", "split all the hats"
        self.amount = amount
        if amount > 0 and ((after == "each" and self.last < 0) or list(following[:2]) == ["of", "each"]):
            for item, count in enumerate(self.counts):  # "one of each"
                self._mention(item, min(amount, count))
            self.amount, self.last = None, -1
        elif amount >= 0 and token != "a" and self.last >= 0 and to_whom:
            self._mention(self.last, min(amount, self.counts[self.last]))  # "2 hats for you, 1 for me"
            self.amount = None

    def _is_pronoun(self, tokens: Sequence[str]) -> bool:
        return any(token in ME or token in YOU for token in tokens)

    def _divided(self, token: str) -> None:
        self.part = len(self.mentions)
        if token in (",", "-"):
            self._loose()
            self.denied = self.skip = False

    def _turned(self, token: str) -> None:
        self._loose()
        self.denied = self.skip = False
        if token == "except" or (token == "but" and self.mentions and self.mentions[-1].item < 0):
            self.owner = not (self.owner is None or self.owner)  # "everything but the hat"
        if token in words.ENDS:
            self._opened(None)

    def _loose(self) -> None:
        """Let "all" without an item be all of the item mentioned last, or everything."""
        if self.amount == ALL and self.owner is not None:
            self._mention(self.last, ALL)
        self.amount = None

    def _moved(self, token: str, before: str, following: Sequence[str]) -> None:
        """Find who gets what follows a verb of giving or taking, or "for"."""
        self.moves |= token != "for"
        if token in words.GIVES:
            if self.owner is not None:
                self._opened(not self.owner)
        elif token in words.TAKES:
            if (before == "and" and self.given) if self.owner else before in words.BEFORE_ORDERS:
                self._opened(False)  # "take the hats", "give me the ball and take the rest"
        elif self.owner is not None and len(self.mentions) > self.open and self._quantity(following):
            self._opened(not self.owner)  # "i trade you a hat for the ball"

    def _quantity(self, following: Sequence[str]) -> bool:
        named = [word for word in following[:3] if word not in words.FILLERS]
        return bool(named) and self._named(named[0]) and not self._is_pronoun(following[:1])

    def _word(self, token: str, before: str, following: Sequence[str]) -> None:
        if token in words.DENIES:
            self.denied = True
        elif token == "mind":
            self.denied = False
        elif token in words.ADDS or (before, token) in (("as", "well"), ("at", "least")):
            self.adds = True
        elif token in REST:
            if token != "everything" or list(following[:1]) != ["else"]:
                self.whole |= token == "everything"
                self._mention(-1, ALL)
            self.amount = None
        elif token in words.EVENLY:
            self.amount = HALF
        elif token == "or":
            self.skip = True
        elif token not in words.FILLERS and self.amount != HALF:
            self.amount = None

    def _item(self, item: int, plural: bool, before: str, following: Sequence[str]) -> None:
        amount, self.last = self.amount, item
        if self.mass and amount is None and before != "the" and not self.moves:
            return  # "i need water"
        if amount is None or amount == BOTH:
            amount = (ALL if amount is None else 2) if plural else 1
        if self.amount != HALF:
            self.amount = None
        if following and following[0] in words.COPULAS and words.WORTH.intersection(following):
            return  # "hats are worth nothing to me"
        if self.skip:
            self.skip = False
            return
        self._mention(item, min(amount, self.counts[item]))

    def _mention(self, item: int, amount: int) -> None:
        if not self.denied:
            self.mentions.append(_Mention(self.owner is None or self.owner, item, amount))

    def _added_up(self) -> tuple[Partial | None, Partial]:
        """Return the shares that the mentions add up to."""
        size = len(self.counts)
        if not self.mentions:
            return None, (None,) * size
        claimed: tuple[dict[int, int], dict[int, int]] = {}, {}
        left: bool | None = None
        for mine, item, amount in self.mentions:
            if item < 0:
                left = mine
            else:
                count = self.counts[item]
                claimed[mine][item] = count if amount == ALL else count // 2 if amount == HALF else amount
        sides = {mine for mine, _, _ in self.mentions}
        said = tuple(self._said(claimed, left, item) for item in range(size))
        if len(sides) == 2 or self.adds:
            return said, said
        if not any(claimed) and not self.whole:
            return (None,) * size, (None,) * size  # "you can have the rest": of what stands
        unsaid = (0,) * size if True in sides else self.counts
        return tuple(own if own is not None else unsaid[i] for i, own in enumerate(said)), said

    def _said(self, claimed: tuple[dict[int, int], dict[int, int]], left: bool | None, item: int) -> int | None:
        """Return how many of ``item`` the words leave the speaker, None if they do not tell."""
        theirs, mine = claimed
        if item in mine:
            return mine[item]
        if item in theirs:
            return self.counts[item] - theirs[item]
        return None if left is None else self.counts[item] if left else 0


# --- following a talk --------------------------------------------------------------------------


class Floor(NamedTuple):
    """What stands on the table, in shares of the first side.

    Attributes:
        offer: The latest proposal, None if there is none.
        by: Whether the first side made it.
        agreed: Whether it was agreed to.
        refused: Whether something was refused since it was made.
    """

    offer: Share | None = None
    by: bool = True
    agreed: bool = False
    refused: bool = False

    def settled(self, ender: bool) -> Share | None:
        """Return the deal of a talk that the first side (or the other) ends here, None if there is none.

        Who ends the talk on the other's offer accepts it, unless it was refused; nobody accepts its own.
        """
        return self.offer if self.agreed or (self.by != ender and not self.refused) else None


def followed(floor: Floor, act: Act, first: bool, counts: Share) -> Floor:
    """Return what stands after ``act`` of the first side (or the other)."""
    if act.share is None:
        if act.accept and floor.offer is not None and floor.by != first:
            return floor._replace(agreed=True)
        return floor._replace(agreed=False, refused=True) if act.reject and not act.accept else floor
    before = None if floor.offer is None else floor.offer if first else rest(counts, floor.offer)
    if act.accept and before is not None and agrees(act.said, before):
        return floor._replace(agreed=floor.agreed or floor.by != first)
    share = completed(act.share, before)
    if share == before:  # agreed to, or offered once more
        return floor._replace(agreed=floor.agreed or floor.by != first, refused=False)
    return Floor(share if first else rest(counts, share), first, False)


def agrees(said: Partial, share: Share) -> bool:
    """Return whether ``share`` has what was said of it."""
    return all(number is None or number == taken for number, taken in zip(said, share, strict=True))


def completed(share: Partial, before: Share | None) -> Share:
    """Return ``share`` with what was left open as it stood ``before``, or else the other's."""
    standing = before or (0,) * len(share)
    return tuple(was if number is None else number for number, was in zip(share, standing, strict=True))


# --- notation ----------------------------------------------------------------------------------

_MARKS = re.compile(r"""([.,!?;:()"/&$%+*=~\[\]{}^_|\\#@-])""")
_BEFORE = re.compile(r" ([.,!?;:%)])")
_TOKENS = re.compile(r"^<(select|selection|accept|reject|walk)>")


@lru_cache(maxsize=1 << 15)
def to_tokens(text: str) -> str:
    """Return ``text`` as language models read it: lower case, one line, marks apart, no forged tokens.

    >>> to_tokens("I'll take 2 hats, you get the rest.")
    "i'll take 2 hats , you get the rest ."
    >>> to_tokens("<select> book=1 hat=0 ball=2")
    '<select> book=1 hat=0 ball=2'
    """
    text = plain(text).strip()
    if _TOKENS.match(text):
        head, _, tail = text.partition(">")
        return " ".join([head + ">", *tail.replace("<", " ").replace(">", " ").split()])
    return " ".join(_MARKS.sub(r" \1 ", text.replace("<", " ").replace(">", " ")).split())


def from_tokens(text: str) -> str:
    """Return what a language model wrote as people read it: marks at their words; tokens stay.

    >>> from_tokens("i'll take 2 hats , you get the rest .")
    "i'll take 2 hats, you get the rest."
    """
    return _BEFORE.sub(r"\1", " ".join(text.split()))

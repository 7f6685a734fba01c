"""The language of ``Society-v0``: what an answer advises, how all sides speak, and what peers' comments tell.

``understand`` reads an answer clause by clause. A clause advises what one of the patterns finds in it, unless it is
negated ("do not blame them"), a question ("blame them?"), about others ("some people lie") or a condition ("if you
say sorry"). A clause that says nothing is filler. The notation for language models is that of ``Advice-v0``: lower
case, words and stops by themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.dialogue import Draws
from dialog_gym.envs import society_phrases as phrases
from dialog_gym.envs.advice_language import from_notation, to_notation

__all__ = ["Act", "Comment", "comments", "cues", "from_notation", "say", "to_notation", "understand"]

DEEDS, WRONGS, VALUES = tuple(phrases.DEEDS), tuple(phrases.WRONGS), tuple(phrases.VALUES)
MOODS, TONES = tuple(phrases.MOODS), ("plain", "warm", "harsh")
WANTS = {"hurt": "warm", "calm": "plain"}
"""The tone that a mood wants."""
READ_CHARS, CLAUSE_CHARS = 2000, 240  # of an answer and of a clause: what comes after is not understood
ANSWER_WORDS = 24  # longest answer that ``say`` makes, in words and stops of the notation


class Act(NamedTuple):
    """What was understood of an answer.

    Attributes:
        deeds: The deeds it advises (``DEEDS``), each once, in the order of the answer.
        wrongs: The wrongs it advises (``WRONGS``), likewise.
        values: The values it appeals to (``VALUES``), likewise.
        tone: ``"plain"``, ``"warm"``, or ``"harsh"`` if anything in it is.
        ask: Whether it asks back.
        filler: Clauses that say nothing, or the same again.
        words: Its length in words.
    """

    deeds: tuple[str, ...] = ()
    wrongs: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    tone: str = "plain"
    ask: bool = False
    filler: int = 0
    words: int = 0

    @property
    def understood(self) -> bool:
        """Whether it says anything beside filler."""
        return bool(self.deeds or self.wrongs or self.values or self.ask or self.tone != "plain")


# --- reading -----------------------------------------------------------------------------------

_THEM = r"(?:them|him|her|everyone|(?:your|the|that) \w+)"
_WHY = r"\b(?:because|since|so|as|that way)\b.*"
_PATTERNS = {
    "deed:talk": (
        r"\b(?:talk|speak|chat)(?:ing)?\b.*\b(?:to|with|openly|over|it out)\b|\b(?:sit|sitting) down and talk\b",
        rf"\btell(?:ing)? {_THEM} how\b|\b(?:have|start) an? .*\b(?:talk|conversation)\b|\braise it with\b",
    ),
    "deed:sorry": (
        r"\bapologi[sz]e?(?:ing)?\b|\b(?:say|saying|tell|telling)\b.* sorry\b",
        r"\badmit(?:ting)? (?:that|it|your|you|the)\b",
        r"\bown up\b|\bmake up for\b|\bmake amends\b|\bask\b.* forgive",
    ),
    "deed:return": (
        r"\b(?:give|bring|hand|send|take|put|pay|giving|bringing)\b (?:it|that|this|the \w+|what \w+ \w+)\b.*\bback\b",
        r"\breturn(?:ing)? (?:it|that|this|the|what)\b",
    ),
    "deed:help": (
        rf"\bhelp(?:ing)? {_THEM}\b|\boffer\b.* help\b|\b(?:give|lend) {_THEM} a hand\b",
        rf"\bsupport(?:ing)? {_THEM}\b",
    ),
    "deed:refuse": (
        rf"\b(?:say|saying)\b.* no\b(?! (?:more|word))|\btell(?:ing)? {_THEM} no\b",
        r"\brefuse (?:to|it|them|that|the)\b|\bdecline\b",
        r"\bturn(?:ing)? (?:it|that|them) down\b|\b(?:do not|don't) (?:give in|agree)\b",
        r"\bset(?:ting)? (?:a|your|some|clear)\b.*\b(?:limits?|boundar)",
    ),
    "wrong:lie": (
        r"\bmake up an? \w*\s?(?:story|tale|excuse)\b|\btell(?:ing)?\b.* (?:a (?:\w+ )?lie|lies)\b",
        r"\blie (?:to|about)\b|\b(?:hide|bend|twist)(?:ing)? the (?:truth|facts)\b",
    ),
    "wrong:blame": (
        r"\bblam(?:e|ing) (?!yourself)\w+|\bsay it was (?:them|him|her|someone)\b|\blet others? take the blame\b",
        r"\bput it on (?:another|them|someone|him|her)\b",
    ),
    "wrong:revenge": (
        rf"\bget (?:even|back at)\b|\bdo the same to {_THEM}|\bmake {_THEM} pay\b",
        r"\b(?:take|have) (?:your )?revenge\b",
    ),
    "wrong:ignore": (
        r"\blook the other way\b|\bleave it (?:as it is|alone|be)\b|\bact as if\b|\bwalk away\b",
        r"\bignor(?:e|ing) (?:it|them)\b|\bdo nothing\b",
    ),
    "value:care": (rf"{_WHY}\b(?:feel|feelings?|people matter|hearts?|kind|care|suffer)\b",),
    "value:fair": (rf"{_WHY}\b(?:fair|rules?|even|same|equal|just)\b",),
    "value:honest": (rf"{_WHY}\b(?:truth|trust|tales|honest|lies?)\b",),
    "tone:warm": (
        r"\bi feel (?:with|for) you\b|\byou(?: are|'re) not alone\b|\btake heart\b|\bi understand how\b",
        r"\b(?:that|this|it) (?:must be|sounds|is) (?:so |very )?hard\b",
        r"\bi(?: am|'m) (?:so |very )?sorry (?:to hear|that|for you|about)\b",
    ),
    "tone:harsh": (r"\bfools?\b|\bstop crying\b|\bsilly\b|\bgrow up\b|\bidiot\b|\bstupid\b|\bwhining\b",),
}
_COMPILED = {element: re.compile("|".join(patterns)) for element, patterns in _PATTERNS.items()}
_CLAUSE = re.compile(r"([^.,;:!?\n]+)([.,;:!?\n]*)")
_DENIED = re.compile(
    r"(?:\b(?:not|never|no|nobody|without|avoid|cannot|against|instead of|rather than)|n't)\b"
    r"(?!.*\b(?:and|but|then|just) )"
)
_OTHERS = re.compile(r"\b(?:people|others|they|someone|friends?|if|unless|had|did|when|i) (?:\w+ ){0,3}$")
_PROPOSED = re.compile(r"\b(?:why not|how about|what about|have you tried|could you)\b")
_ASKED = re.compile(r"^(?:and |but |so )?(?:what|how|who|why|when|where|which|did|do|are|is|was|were|have)\b")
_EMPTY = "ok okay well so then sure yes no sorry hi hello hey first please right also and look".split()  # noqa: SIM905


@lru_cache(maxsize=1 << 15)
def understand(text: str) -> Act:
    """Return what ``text`` advises; time is bounded whatever the text.

    >>> act = understand("That must be hard. Say sorry to them, because people matter most.")
    >>> act.deeds, act.values, act.tone
    (('sorry',), ('care',), 'warm')
    >>> understand("Do not blame them. Some people tell a lie. Blame them?").wrongs
    ()
    """
    found: list[str] = []
    filler = words = 0
    for match in _CLAUSE.finditer(_plain(text)):
        clause, stop = match.groups()
        length = len(clause.split())
        words += length
        told = _told(clause.strip()[:CLAUSE_CHARS], "?" in stop)
        if not told:
            filler += length > 1 or clause.strip() not in _EMPTY
        for element in told:
            if element in found:
                filler += 1
            else:
                found.append(element)
    deeds, wrongs, values, tones = (_of(found, group) for group in ("deed:", "wrong:", "value:", "tone:"))
    tone = "harsh" if "harsh" in tones else "warm" if tones else "plain"
    return Act(deeds, wrongs, values, tone, "ask" in found, filler, words)


def _of(found: Sequence[str], group: str) -> tuple[str, ...]:
    return tuple(element[len(group) :] for element in found if element.startswith(group))


def _told(clause: str, question: bool) -> list[str]:
    """Return the elements of one clause, in its order."""
    if question and not _PROPOSED.search(clause):
        harsh = _COMPILED["tone:harsh"].search(clause)
        return ["tone:harsh"] if harsh else ["ask"] if _ASKED.search(clause) and len(clause.split()) > 2 else []
    matches = ((element, pattern.search(clause)) for element, pattern in _COMPILED.items())
    told = [(m.start(), element) for element, m in matches if m and _meant(element, clause[: m.start()])]
    return [element for _, element in sorted(told)]


def _meant(element: str, before: str) -> bool:
    """Return whether what follows ``before`` in a clause is said to the asker, as advice or as a reason."""
    if element.startswith("tone:"):
        return True
    return not before or (_DENIED.search(before) is None and _OTHERS.search(before) is None)


def _plain(text: str) -> str:
    """Return the part of ``text`` that is read, in lower case and plain characters."""
    text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
    return text.lower()


_CUES: dict[str, tuple[str, str]] = {
    phrase: (group, value)
    for group, table in (("deed", phrases.SIGNS), ("value", phrases.CUES), ("mood", phrases.MOODS))
    for value, options in table.items()
    for phrase in options
}


@lru_cache(maxsize=1 << 14)
def cues(text: str) -> tuple[tuple[str, str], ...]:
    """Return what the asker's ``text`` shows: pairs such as ("deed", "sorry"), ("value", "fair"), ("mood", "hurt").

    >>> cues("It is about the car. The mistake is mine. I am fine.")
    (('deed', 'sorry'), ('mood', 'calm'))
    """
    clauses = [" ".join(match[1].split()) for match in _CLAUSE.finditer(_plain(text))]
    return tuple(_CUES[clause] for clause in clauses if clause in _CUES)


class Comment(NamedTuple):
    """What was said about an answer.

    Attributes:
        rating: 1 to 7; 0 if it has none.
        missed: What is missing (a key of ``society_phrases.MISSED``), ``""`` for praise.
        asker: Whether the asker said it, having been asked back.
    """

    rating: int
    missed: str
    asker: bool = False


_MISSED = {form.format(noun): missed for missed, noun in phrases.MISSED.items() for form in phrases.MISSES}
_WANTED = {form.format(noun): missed for missed, noun in phrases.MISSED.items() for form in phrases.WANTED}
_RATED = re.compile(r"\s*(?:rating (\d) ?: )?([^.]+)\.")


@lru_cache(maxsize=1 << 14)
def comments(text: str) -> tuple[Comment, ...]:
    """Return the comments in what the society says about an answer, in its order.

    >>> comments("I want more care. Rating 5: an apology is missing. Rating 2: well said.")
    (Comment(rating=0, missed='care', asker=True), Comment(rating=5, missed='sorry', asker=False), \
Comment(rating=2, missed='', asker=False))
    """
    found = []
    for match in _RATED.finditer(_plain(text)):
        said = " ".join(match[2].split())
        if said in _WANTED:
            found.append(Comment(0, _WANTED[said], True))
        elif match[1] and (said in _MISSED or said in phrases.PRAISE):
            found.append(Comment(int(match[1]), _MISSED.get(said, "")))
    return tuple(found)


# --- speaking ----------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 15)
def _written(notation: str) -> str:
    return from_notation(notation)


def say(act: Act, draws: Draws) -> str:
    """Put ``act`` into words, a clause for each element, as people read it; at most ``ANSWER_WORDS`` long.

    Warm words stand first, a reason behind the deeds, a question last. What would make it longer is left out.
    """
    parts = [draws.choice(phrases.TONES[act.tone])] if act.tone != "plain" else []
    parts += [draws.choice(phrases.DEEDS[deed]) for deed in act.deeds]
    parts += [draws.choice(phrases.WRONGS[wrong]) for wrong in act.wrongs]
    parts += [draws.choice(phrases.VALUES[value]) for value in act.values]
    parts += [draws.choice(phrases.QUESTIONS)] * act.ask
    for _ in range(act.filler):
        parts.insert(draws.integer(0, len(parts) + 1 - act.ask), draws.choice(phrases.FILLERS))
    said, used = "", 0
    for part in parts:
        length = len(part.split()) + 1
        if used + length <= ANSWER_WORDS:
            said += part + ("" if part.endswith("?") else " ." if draws.uniform() < 0.7 else " ,") + " "
            used += length
    said = said.rstrip(" ,.") if not said.endswith("? ") else said.rstrip()
    said += " ." if said and not said.endswith("?") else ""
    opener = draws.choice(phrases.OPENERS)
    if opener and said and used + 2 <= ANSWER_WORDS:
        said = f"{opener} , {said}"
    return _written(said)


def ask(topic: str, shown: Sequence[str], draws: Draws) -> str:
    """Put a question into words: the topic, and the phrases that show the rest, in any order after it."""
    rest = list(shown)
    for place in range(len(rest) - 1, 0, -1):
        other = draws.integer(0, place + 1)
        rest[place], rest[other] = rest[other], rest[place]
    greeting = draws.choice(phrases.GREETINGS)
    first = draws.choice(phrases.ASKS).format(topic)
    return " ".join(_written(part) for part in [*([greeting] if greeting else []), first, *(f"{r} ." for r in rest)])


def missing(missed: str, draws: Draws) -> str:
    """Put a comment into words: what is missed, or praise; without a stop."""
    return draws.choice(phrases.MISSES).format(phrases.MISSED[missed]) if missed else draws.choice(phrases.PRAISE)


def wanted(value: str, draws: Draws) -> str:
    """Put into words what the asker wants, having been asked back."""
    return _written(draws.choice(phrases.WANTED).format(phrases.MISSED[value]) + " .")

"""The language of the support world of ``Response-v0``: what an answer does, how both sides speak, and the notation.

``understand`` reads an answer clause by clause. A clause offers, names a day or asks only if it says so itself: not
where it is denied ("we do not refund"), a condition ("if we replace it"), about wishes ("you want your money back")
or, for offers and days, a question ("a refund ?").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from dialog_gym.dialogue import Draws
from dialog_gym.envs import response_phrases as phrases
from dialog_gym.envs.response_rules import DAYS, OFFERS, QUESTIONS, Act

READ_CHARS = 1000  # of an answer; what comes after is not understood
CLAUSE_CHARS = 200  # of a clause, likewise
ANSWER_WORDS = 16  # longest utterance of either side in words; stops of the notation come on top

# --- reading -----------------------------------------------------------------------------------

_CLAUSE = re.compile(r"([^.,;:!?\n]+)([.,;:!?\n]*)")
_ASKING = re.compile(
    r"^(?:(?:ok|okay|sure|well|so|and|hi|hello|but|then|alright) )*"
    r"(?:did|do|does|have|has|is|was|were|are|when|how|which|what|where|can i ask|may i ask|card or|open or|new or)\b"
)
_REQUEST = re.compile(r"\b(?:tell|say|know|ask|need to know|let me know)\b.* (?:when|how|if|whether|which|what)\b")
_QUESTIONS = {
    "opened": re.compile(r"\b(?:open|opened|unopened|opening|closed|sealed|unsealed|unpacked|unboxed)\b"),
    "bought": re.compile(
        r"\b(?:bought|buy|purchased?|how old|old|new|how long (?:do|have) you (?:have|had|own|owned))\b"
        r"|\bwhen (?:did|was|were) .*(?:order(?:ed)?|get|got)\b"
    ),
    "paid": re.compile(r"\b(?:pay|paid|payment|card|bank)\b"),
}
_US = (
    r"(?:we|i|i'll|we'll|let me|let us|you(?:'ll| will| can| shall)? (?:get|have|receive|be)|here (?:is|comes)"
    r"|our \w+)"
)
_OFFERS = {
    "refund": re.compile(rf"\b{_US}\b.*\b(?:refund(?:ed|ing)?|reimburse|money back|your money|the money)\b"),
    "replace": re.compile(
        rf"\b{_US}\b.*\b(?:replac(?:e|ed|ing|ement)|exchange|another one"
        r"|(?:new|right|working|fresh) (?:one|item)|resend)\b"
        r"|\b(?:a new one|another one) (?:is|comes|will)\b"
    ),
    "repair": re.compile(rf"\b{_US}\b.*\b(?:repair(?:ed|ing)?|fix(?:ed|ing)?|mend(?:ed)?)\b"),
    "voucher": re.compile(
        rf"\b{_US}\b.*\b(?:voucher|store credit|gift card|coupon)\b|^(?:please )?(?:take|accept)\b.*\bvoucher\b"
    ),
    "wait": re.compile(
        r"^(?:(?:ok|sure|so|then|well) )*(?:(?:please|just|you (?:can|should|must|may|need to|have to)|let us|better"
        r"|i would) )*wait\b|\b(?:on (?:the|its) way|(?:comes?|arrives?) by itself|be patient)\b"
        r"|\bgive it (?:some |a little |a bit )?(?:more )?time\b"
    ),
}
_DAY = re.compile(rf"\b(?:{'|'.join(DAYS)})\b")
_DENIED = re.compile(
    r"(?:\b(?:not|never|no|nobody|cannot|without|unless|if|instead of|rather than|whether|before|until)|n't)\b"
)
_WISHES = re.compile(
    r"\b(?:you|they|customers?|people|others?|who) (?:\w+ )?(?:wants?|wanted|asks?|asked|like|hoped?|said|think"
    r"|thought|wish|expected|need|needed)\b|\b(?:could|would|might) have\b|\byour (?:refund )?request\b"
)
_SORRY = re.compile(r"\b(?:sorry|apolog(?:y|ies|i[sz]e)|forgive|excuse (?:us|me)|our (?:fault|mistake)|regret)\b")
_WARM = re.compile(
    r"\b(?:(?:do not|don't|no need to|need not|never|not to) (?:\w+ )?(?:worry|be afraid|fear)|good hands"
    r"|(?:we|i|i'll|we'll|will) (?:will )?take (?:good )?care of|(?:all|everything|it) will be"
    r" (?:well|fine|alright|ok)|rest assured|here for you)\b"
)
_NOT_SORRY = re.compile(r"\b(?:not|no need to be|don't be|never) (?:\w+ )?sorry\b")


@lru_cache(maxsize=1 << 15)
def understand(text: str) -> Act:
    """Return what ``text`` does; time is bounded whatever the text.

    >>> understand("I am so sorry. We will replace it, it is there on Friday.")
    Act(asks=(), offers=('replace',), days=('friday',), tone='sorry', words=13)
    >>> understand("We do not refund it. Do you want a refund? How did you pay?").offers
    ()
    """
    asks, offers, days = list[str](), list[str](), list[str]()
    sorry = warm = False
    words = 0
    for match in _CLAUSE.finditer(_plain(text)):
        clause, stop = match[1].strip()[:CLAUSE_CHARS], match[2]
        words += len(clause.split())
        if not clause:
            continue
        sorry = sorry or (_SORRY.search(clause) is not None and not _NOT_SORRY.search(clause))
        warm = warm or _WARM.search(clause) is not None
        if "?" in stop or _REQUEST.search(clause):
            if "?" not in stop or _ASKING.search(clause) or _REQUEST.search(clause):
                asks += [name for name in QUESTIONS if name not in asks and _QUESTIONS[name].search(clause)][:1]
            continue
        offers += [name for name in OFFERS if name not in offers and _done(_OFFERS[name], clause)]
        days += [day for day in _named(clause) if day not in days]
    tone = "plain" if sorry == warm else "sorry" if sorry else "warm"
    return Act(tuple(asks), tuple(offers), tuple(days), tone, words)


def _done(pattern: re.Pattern[str], clause: str) -> bool:
    """Return whether the clause does what the pattern finds, rather than deny it or speak of it."""
    match = pattern.search(clause)
    if match is None:
        return False
    return _DENIED.search(clause[: match.end()]) is None and _WISHES.search(clause) is None


def _named(clause: str) -> list[str]:
    return [match[0] for match in _DAY.finditer(clause) if not _DENIED.search(clause[: match.start()])]


def _plain(text: str) -> str:
    """Return the part of ``text`` that is read, in lower case and plain characters."""
    text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
    return text.lower()


_CUES: dict[str, tuple[str, str, str]] = {}
for _problem, _options in phrases.CASES.items():
    for _item in phrases.ITEMS:
        _CUES.update({option.format(_item): ("case", _problem, _item) for option in _options})
for (_question, _holds), _options in phrases.FACTS.items():
    _CUES.update(dict.fromkeys(_options, ("fact", _question, "yes" if _holds else "no")))
for _group, _table in (("mood", phrases.MOODS), ("reaction", phrases.REACTIONS)):
    _CUES.update({option: (_group, _kind, "") for _kind, _options in _table.items() for option in _options})
_CUES.update(dict.fromkeys(phrases.WHEN, ("when", "", "")))


@lru_cache(maxsize=1 << 15)
def cues(text: str) -> tuple[tuple[str, str, str], ...]:
    """Return what the customer's ``text`` shows, in its order.

    >>> cues("My lamp is broken. It is new. This is so bad.")
    (('case', 'broken', 'lamp'), ('fact', 'bought', 'yes'), ('mood', 'angry', ''))
    """
    sentences = re.split(r" ?[.!?]", to_notation(text))
    return tuple(_CUES[sentence.strip()] for sentence in sentences if sentence.strip() in _CUES)


# --- notation ----------------------------------------------------------------------------------

_WORD = re.compile(r"[^\s.,;:!?\"()<>]+|[.,;:!?]")
_CAPITAL = re.compile(r"(?:^|(?<=[.!?] ))[a-z]|\b(?:friday|monday|i)\b")


@lru_cache(maxsize=1 << 15)
def to_notation(text: str) -> str:
    """Return ``text`` as language models read it: lower case, every word and stop by itself.

    >>> to_notation("Sure, you get it on Friday!")
    'sure , you get it on friday !'
    """
    return " ".join(_WORD.findall(_plain(text)))


@lru_cache(maxsize=1 << 15)
def from_notation(text: str) -> str:
    """Return what a language model wrote as people read it; ``to_notation`` undoes it.

    >>> from_notation("sure , i send it on friday !")
    'Sure, I send it on Friday!'
    """
    text = re.sub(r" +([.,;:!?])", r"\1", " ".join(text.split()))
    return _CAPITAL.sub(lambda match: match[0][0].upper() + match[0][1:], text)


# --- speaking ----------------------------------------------------------------------------------


def say(act: Act, draws: Draws) -> str:
    """Put ``act`` of the agent into words, as people read it: tone, offer, day and question, in this order or another.

    What would make it longer than ``ANSWER_WORDS`` is left out, the tone first. An act without content is filler.
    """
    offer = [draws.choice(phrases.OFFERS[kind]) for kind in act.offers]
    day = [draws.choice(phrases.TIMES).format(draws.choice(phrases.DAYS[day])) for day in act.days]
    ask = [draws.choice(phrases.ASKS[kind]) for kind in act.asks]
    tone = draws.choice(phrases.TONES[act.tone])
    content = (offer + day if draws.uniform() < 0.8 else day + offer) + ask
    if not content and (act.tone == "plain" or draws.uniform() < 0.5):
        content = [draws.choice(phrases.EMPTY)]
    content = _fitting(content)
    if len(_fitting([*content, tone])) > len(content):
        last = act.tone != "plain" and not ask and draws.uniform() < 0.35
        content = [*content, tone] if last else [tone, *content]
    ends = ["" if part.endswith("?") else " ," if draws.uniform() < 0.4 else " ." for part in content]
    ends[-1:] = [end.replace(",", ".") for end in ends[-1:]]
    return from_notation(" ".join(part + end for part, end in zip(content, ends, strict=True)))


def _fitting(parts: Sequence[str]) -> list[str]:
    """Return the parts that together have at most ``ANSWER_WORDS`` words; the earlier ones first."""
    kept, used = list[str](), 0
    for part in parts:
        length = sum(word[0].isalpha() for word in part.split())
        if part and used + length <= ANSWER_WORDS:
            kept.append(part)
            used += length
    return kept


def tell(parts: Sequence[str]) -> str:
    """Join phrases of the customer to sentences, as people read them; what makes it too long is left out."""
    kept, used = list[str](), 0
    for part in parts:
        sentence, length = _sentence(part)
        if used + length <= ANSWER_WORDS:
            kept.append(sentence)
            used += length
    return " ".join(kept)


@lru_cache(maxsize=1 << 12)
def _sentence(phrase: str) -> tuple[str, int]:
    """Return a phrase as a sentence, and its words."""
    return from_notation(f"{phrase} ."), sum(word[0].isalpha() for word in phrase.split())

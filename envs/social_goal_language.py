"""The language of ``SocialGoal-v0``: what the partner understands, how both sides speak, the notation of models.

``understand`` reads an utterance of a person or of a language model clause by clause. To mention a thing is not to do
it: a request, an offer, praise or a farewell counts where it is said outright, not where it is denied or quoted.
One utterance does one thing; of several, the one that commits the speaker most.

In the notation for language models, ``<want>``, ``<small>``, ``<big>`` and ``<secret>`` stand for the phrases of the
scenario. The two notations convert into each other without loss.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.dialogue import Json
from dialog_gym.envs import social_goal_phrases as phrases
from dialog_gym.envs.social_goal_rules import TOPICS, Act

TOKENS = ("<want>", "<small>", "<big>", "<secret>")
ANYTHING = "*"  # as ``Names.want_words``: whatever is asked of the other is the wish
READ_CHARS = 1000  # of an utterance; what comes after is not understood


class Names(NamedTuple):
    """What the scenario calls things, lower case.

    Attributes:
        want: What the agent wants the other to do, as it follows "could you".
        small: A small offer, as it follows "i will".
        big: A big one.
        secret: The agent's secret, a clause.
        want_words: Nouns that name the wish in people's own words, with spaces between; or ``ANYTHING``.
        small_words: The same for the small offer.
        big_words: The same for the big one.
    """

    want: str
    small: str
    big: str
    secret: str
    want_words: str = ""
    small_words: str = ""
    big_words: str = ""

    @classmethod
    def of(cls, hidden: Mapping[str, Json]) -> Names:
        """Return the names in ``Scenario.hidden``."""
        return cls(*hidden["names"])


_SHORT = {"can't": "can not", "cannot": "can not", "won't": "will not", "i'm": "i am", "let's": "let us"}
_SHORT_ENDS = {"n't": " not", "'ll": " will", "'d": " would", "'re": " are", "'ve": " have", "it's": "it is"}
_SHORT_ENDS |= {"that's": "that is", "how's": "how is", "what's": "what is", "what're": "what are"}

_SENTENCE = re.compile(r"[^.!?;]+[.!?;]*")
_DENIED = re.compile(r"\b(?:not|never|nobody|hardly|refuse|cannot)\b")
_REQUEST = re.compile(
    r"\b(?:can|could|would|will|may|might) (?:you|i|we)\b|\byou mind\b|\bi (?:\w+ ){0,2}(?:want|need|wish)\b"
    r"|\bi would (?:\w+ )?like\b|\bi am asking\b|\bany chance\b|\bis it (?:ok|okay|possible)\b|\bif (?:i|you) could\b"
)
_PLEASE_WANT = re.compile(r"\bplease,? (?:just )?<want>")
_WILLING = re.compile(
    r"\bi (?:will|can|could|would|shall|offer|promise|may|might|am (?:willing|happy|ready|going))\b|\blet me\b"
    r"|\bwhat if i\b|\bin return\b|\bhow about i\b"
)
_TOPIC_WORDS = {
    "work": r"work|job|office|boss|career|company|business|colleagues?|workplace",
    "family": r"family|kids?|children|child|mother|father|mom|mum|dad|parents?|wife|husband|son|daughter|home",
    "health": r"health|doctor|sleep|back|illness|injury|knees?|condition|sick",
}
_MARKER = re.compile(
    r"\b(?:because|since|reason|needs?|without|depends?|matters?|you see|trouble|problem|otherwise|so that"
    r"|says|due to)\b"
)
_NO_REASON = re.compile(r"\bnot (?:just )?(?:because|due)\b|\bno reason\b|\bnothing to do\b")
_PRAISE = re.compile(
    r"\b(?:great|good|best|better than|strong|lucky|proud|admire|kind|wonderful|amazing|excellent|impressive|brilliant"
    r"|lovely|talented|gifted|healthy|fit|fantastic|skilled|generous|so well|(?:look|do|sleep) \w* ?well)\b"
)
_HYPOTHETICAL = re.compile(r"\b(?:if|would|could|should|used to|supposed|unless|hope|wish|want)\b")
_TELL = re.compile(r"\b(?:tell me|talk) (?:\w+ )?about your?\b")
_ASKING = re.compile(
    r" ?(?:and |so |well,? )?(?:how (?:is|are|was|do)|where do|do you|are you|is your|are your|did you)\b"
)
_SORRY = re.compile(
    r"\bi (?:am|feel) (?:\w+ )?sorry\b|^sorry\b|\bsorry (?:for|about|that)\b|\bforgive me\b|\b(?:was|is) my fault\b"
    r"|\bi (?:\w+ )?apologi[sz]e\b|\bmy apologies\b|\bi did not mean (?:it|that|to)\b"
)
_ACCEPT = re.compile(
    r"\bi accept\b|(?:^|, ?)(?:ok |okay |yes )?(?:agreed|deal)\b|\bhalf (?:of it )?(?:is|will|would|sounds|works)\b"
    r"|\bthat (?:is|will be) (?:enough|fine|ok|okay)\b|\bi (?:will |can )?take (?:it|half|that)\b|\bthat works\b"
)
_CONDITION = re.compile(r"\?|\b(?:if|but|unless|until|when|no|not|never|too|only)\b")
_FAREWELL = re.compile(
    r"(?:ok |okay |well |so |then )*(?:goodbye|good bye|bye|bye bye|farewell|good night|see you(?: \w+){0,2}"
    r"|i am leaving(?: now)?|i have to (?:go|leave)(?: now)?|i am (?:off|out)"
    r"|have a (?:good|nice|great|lovely) (?:day|evening|night|one))"
    r"(?: then| now| for now| everyone)?(?: my friend| dear friend)?"
)
_LEFT = re.compile(r"[*\[(]?(?:[\w']+ ){0,3}(?:leaves?|left)(?: the (?:conversation|room|place))?[*\])]?\.?")
_RUDE = re.compile(
    r"\b(?:idiot|stupid|fool|foolish|shut up|nonsense|wast(?:e|ing) my time|hurry up|moron|useless|pathetic|liar"
    r"|hate you|damn|loser|ridiculous|dumb)\b"
)
_ON_SELF = re.compile(r"\bi (?:am|was|feel)(?: \w+)? (?:an? )?(?:idiot|stupid|fool|foolish|useless|pathetic|loser)\b")
_WARM = re.compile(
    r"\b(?:please|thanks?|thankful|dear|friend|lovely|happy|glad|appreciate|grateful|kindly|so kind|sweet|bless)\b"
)
_STOP = frozenset(
    "with from that this have been were when what which their there about once into over some more".split()  # noqa: SIM905
)


def plain(text: str) -> str:
    """Return the part of ``text`` that is read: lower case, plain characters, no short forms, single spaces.

    >>> plain("I can't,  I'm   late")
    'i can not, i am late'
    """
    text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
    text = text.lower()
    if "'" in text or "cannot" in text:
        for short, full in _SHORT.items():
            text = text.replace(short, full)
        for short, full in _SHORT_ENDS.items():
            text = text.replace(short, full)
    return " ".join(text.split())


@lru_cache(maxsize=1 << 15)
def to_tokens(text: str, names: Names) -> str:
    """Return ``text`` as language models read it: lower case, the scenario's phrases as tokens.

    >>> to_tokens("Could you lend me your car?", Names("lend me your car", "", "", ""))
    'could you <want>?'
    """
    text = plain(text.replace("<", " ").replace(">", " "))
    for token, phrase in zip(TOKENS, names[:4], strict=True):
        if phrase:
            text = text.replace(phrase, token)
    return text


def from_tokens(text: str, names: Names) -> str:
    """Return what a language model wrote as people read it.

    >>> from_tokens(" could you <want>? ", Names("lend me your car", "", "", ""))
    'could you lend me your car?'
    """
    if "<" in text:
        for token, phrase in zip(TOKENS, names[:4], strict=True):
            text = text.replace(token, phrase)
    return text.strip()


@lru_cache(maxsize=1 << 15)
def understand(text: str, names: Names) -> Act:
    """Return what the partner makes of ``text``; time is bounded whatever the text.

    >>> car = Names("lend me your car", "fill the tank", "pay you fifty dollars", "i am ill", "car", "tank", "fifty")
    >>> understand("Please, could I borrow your car?", car)
    Act(kind='ask', manner='warm', topic='', size=0)
    >>> [understand(text, car).kind for text in ("I left my car at work.", "I will not fill the tank.", "Goodbye!")]
    ['none', 'none', 'leave']
    """
    text = to_tokens(text, names)
    leaked = "<secret>" in text or _leaks(text, names.secret)
    return _meaning(_marked(text, names[4:]), leaked, names.want_words == ANYTHING)


@lru_cache(maxsize=1 << 15)
def _meaning(text: str, leaked: bool, any_wish: bool) -> Act:
    """Return what ``text`` means in which the words of the scenario are marked; shared by all scenarios."""
    manner = _manner(text)
    if leaked:
        return Act("reveal", manner)
    sentences = _SENTENCE.findall(text)
    if leaves(text):
        return Act("leave", manner)
    if any(_asks(sentence, any_wish) for sentence in sentences):
        return Act("ask", manner)
    if size := max(map(_offered, sentences), default=0):
        return Act("offer", manner, "", size)
    if any(_ACCEPT.search(s.strip()) and not _CONDITION.search(s) for s in sentences):
        return Act("accept", manner)
    for kind, said in (("reason", _reason), ("question", _question), ("compliment", _compliment)):
        for sentence in sentences:
            topic = said(sentence)
            if topic is not None:
                return Act(kind, manner, topic)
    if any(_SORRY.search(s.strip()) and "not sorry" not in s for s in sentences):
        return Act("apologise", manner)
    return Act("none", manner)


def _marked(text: str, words: tuple[str, ...]) -> str:
    """Return ``text`` with ``~want``, ``~small`` or ``~big`` before the words that name these things."""
    pattern = _word_pattern(words)
    return text if pattern is None else pattern.sub(lambda word: f"~{word.lastgroup} {word[0]}", text)


@lru_cache(maxsize=4096)
def _word_pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    groups = zip(("want", "small", "big"), words, strict=True)
    parts = [
        f"(?P<{name}>{'|'.join(map(re.escape, some.split()))})" for name, some in groups if some not in ("", ANYTHING)
    ]
    return re.compile(rf"\b(?:{'|'.join(parts)})\b") if parts else None


def leaves(text: str) -> bool:
    """Return whether the speaker of ``text`` leaves: it says so as an action, or its last clause is a farewell.

    That a word of parting occurs is not enough.

    >>> [leaves(text) for text in ("ok, goodbye!", "[left the conversation]", "have a good look", "i left my bag")]
    [True, True, False, False]
    """
    text = plain(text)
    if "?" in text[-3:]:
        return False
    clauses = [clause.strip() for clause in re.split(r"[.,!;:]", text) if clause.strip()]
    if not clauses:
        return False
    return _FAREWELL.fullmatch(clauses[-1]) is not None or _leaves_as_action(text)


def _leaves_as_action(text: str) -> bool:
    """Return whether ``text`` is a stage direction of leaving: in brackets or stars, or in Sotopia's words."""
    if text.rstrip(".").endswith("left the conversation") and "i left" not in text and len(text.split()) <= 6:
        return True
    return text[0] in "*[(" and _LEFT.fullmatch(text) is not None


def _manner(text: str) -> str:
    if _RUDE.search(text) and _RUDE.search(_ON_SELF.sub("", text)):
        return "rude"
    return "warm" if _WARM.search(text) else "plain"


def _leaks(text: str, secret: str) -> bool:
    """Return whether most of what matters in ``secret`` is said in ``text`` in other words."""
    told = _content(secret)
    if len(told) < 2:
        return False
    return 3 * len(told & set(re.findall(r"[a-z]+", text))) > 2 * len(told)


@lru_cache(maxsize=4096)
def _content(secret: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[a-z]+", secret.lower()) if len(word) >= 4) - _STOP


def _asks(sentence: str, any_wish: bool) -> bool:
    """Return whether ``sentence`` asks for what the agent wants."""
    before = sentence
    if "<want>" in sentence:
        before = sentence[: sentence.index("<want>")]
        if _PLEASE_WANT.search(sentence):
            return True
    elif "~want" not in sentence and not any_wish:
        return False
    clauses = before.rsplit(",", 1)  # "i do not know, but could you ...": only the last clause must not deny
    clause = clauses[-1] if _REQUEST.search(clauses[-1]) else before
    return _REQUEST.search(clause) is not None and not _DENIED.search(clause)


def _offered(sentence: str) -> int:
    """Return the size of what is offered in ``sentence``, 0 if nothing is."""
    if not _WILLING.search(sentence) or _DENIED.search(sentence):
        return 0
    return 2 if "<big>" in sentence or "~big" in sentence else int("<small>" in sentence or "~small" in sentence)


def _topic(sentence: str, owner: str) -> str | None:
    """Return the topic of ``owner`` ("my" or "your") that is named in ``sentence``, None if there is none."""
    for topic, pattern in _OWNED[owner].items():
        if pattern.search(sentence):
            return topic
    return None


_OWNED = {
    owner: {topic: re.compile(rf"\b{owner} (?:\w+ )?(?:{words})\b") for topic, words in _TOPIC_WORDS.items()}
    for owner in ("my", "your")
}
_BARE = {topic: re.compile(rf"\b(?:{words})\b") for topic, words in _TOPIC_WORDS.items()}


def _reason(sentence: str) -> str | None:
    if "?" in sentence or not _MARKER.search(sentence) or _NO_REASON.search(sentence):
        return None
    return _topic(sentence, "my")


def _question(sentence: str) -> str | None:
    if _TELL.search(sentence):
        return _topic(sentence, "your")
    if not ("?" in sentence or _ASKING.match(sentence)) or not re.search(r"\byour?\b", sentence):
        return None
    return _topic(sentence, "your") or next((t for t in TOPICS if _BARE[t].search(sentence)), None)


def _compliment(sentence: str) -> str | None:
    if "?" in sentence or not re.search(r"\byour?\b", sentence) or not _PRAISE.search(sentence):
        return None
    if _DENIED.search(sentence) or _HYPOTHETICAL.search(sentence):
        return None
    topic = _topic(sentence, "your") or next((t for t in TOPICS if _BARE[t].search(sentence)), None)
    if topic is None and re.search(r"\byou (?:\w+ )?(?:are|look|do|have)\b", sentence):
        return ""
    return topic


# --- a partner that is a language model ----------------------------------------------------------

_YES = re.compile(
    r"^(?:yes|sure|of course|certainly|absolutely|gladly|agreed|deal|okay|ok)\b|\bi will do (?:it|that)\b"
)
_WILL = re.compile(r"\bi (?:will|can|would be happy to|would be glad to|agree to)\b|\bof course\b|\bsure\b|\bagreed\b")
_HALF = re.compile(r"\bhalf\b|\bpart of it\b")


def consent(text: str) -> str:
    """Return how ``text`` answers a request: ``"agreed"``, ``"half"`` or ``""`` (refused, or left open).

    >>> [consent(text) for text in ("Yes, I'll do it.", "Yes, but not now.", "I could do half of it.", "Sure?")]
    ['agreed', '', 'half', '']
    """
    text = plain(text)
    first = text.split(".")[0]
    if _HALF.search(text) and not re.search(r"\bnot (?:\w+ )?half\b", text):
        return "half"
    if _CONDITION.search(text) or re.search(r"\b(?:maybe|perhaps|might|sorry|afraid)\b", text):
        return ""
    return "agreed" if _YES.search(first) or _WILL.search(first) else ""


def tells(text: str, topic: str) -> bool:
    """Return whether ``text`` states something about the speaker's own ``topic``."""
    return any("?" not in s and _OWNED["my"][topic].search(s) for s in _SENTENCE.findall(plain(text)))


# --- speaking ----------------------------------------------------------------------------------


def say(act: Act, names: Names, bits: int) -> str:
    """Put ``act`` of the agent into words, chosen by the 64 random ``bits``."""
    return from_tokens(notation(act, bits), names)


def notation(act: Act, bits: int) -> str:
    """Put ``act`` of the agent into words of the notation for language models."""
    core = _pick(_cores(act), bits).format("<big>" if act.size == 2 else "<small>")
    manner = _pick(phrases.MANNERS[act.manner], bits >> 8)
    if not manner:
        return core
    if act.kind != "leave" and act.manner != "plain" and bits >> 16 & 1:
        return f"{core} {manner}."
    return f"{manner}, {core}"


def _cores(act: Act) -> phrases.Phrases:
    if act.topic:
        return _BY_TOPIC[act.kind][act.topic]
    return _CORES[act.kind]


_BY_TOPIC = {"reason": phrases.REASONS, "question": phrases.QUESTIONS, "compliment": phrases.COMPLIMENTS}
_CORES = {
    "ask": phrases.ASKS,
    "offer": phrases.OFFERS,
    "apologise": phrases.APOLOGIES,
    "accept": phrases.ACCEPTANCES,
    "reveal": phrases.REVELATIONS,
    "leave": phrases.FAREWELLS,
    "none": phrases.NOTHINGS,
}


def answer(reaction: str, topic: str, hint: phrases.Phrases, bits: int) -> str:
    """Put the partner's answer into words: how it takes what was said, what it tells, and a hint (may be empty)."""
    told = reaction in ("told", "told_moved")
    parts = [] if reaction == "told" else [_pick(phrases.REACTIONS[_TAKEN.get(reaction, reaction)], bits)]
    if told:
        parts.append(_pick(phrases.FACTS[topic], bits >> 8))
    elif reaction == "evasive_moved":
        parts.append(_pick(phrases.REACTIONS["evasive"], bits >> 8))
    if hint:
        parts.append(_pick(hint, bits >> 16))
    return " ".join(parts)


_TAKEN = {"told_moved": "moved", "evasive_moved": "moved"}


def greet(hint: phrases.Phrases, bits: int) -> str:
    """Put the opening of a partner who speaks first into words."""
    return f"{_pick(phrases.GREETINGS, bits)} {_pick(hint, bits >> 16)}"


def _pick(options: phrases.Phrases, bits: int) -> str:
    return options[(bits & 0xFF) * len(options) >> 8]

"""What the partner of ``Chat-v0`` understands: a move, a topic, an energy, and leave-taking.

``understand`` reads an utterance by short patterns: an act must be done, not mentioned ("i am not sorry", "do you
like jokes?" neither comfort nor joke). Two moves in one turn count as the later one; more are a muddle, and none of
them counts. An acknowledgement is a turn in which there is nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.envs.chat_phrases import NOUNS

ENERGIES = ("calm", "plain", "lively")
READ_CHARS = 600  # of an utterance; what comes after is not understood

_WORDS = {
    "work": "work workplace colleague colleagues coworker coworkers manager promotion salary career company interview "
    "project client shift",
    "family": "family mom mum dad father parents son daughter kids kid child children husband wife grandma "
    "grandmother grandfather uncle aunt cousin wedding",
    "music": "music songs singing singer piano album drums violin choir melody bands concerts",
    "sport": "sport sports football soccer basketball tennis running marathon training gym coach games swimming teams",
    "food": "food cooking cook lunch breakfast restaurant pizza bread recipe meal meals baking bakery dessert eat",
    "travel": "travel travelling traveling vacation holiday holidays plane airport train journey trips hotels tour",
}
_TOPIC_OF = {word: topic for topic, words in _WORDS.items() for word in words.split()}
_TOPIC_OF.update({noun: topic for topic, nouns in NOUNS.items() for noun in nouns})
_TOPIC_OF.update({f"{noun}s": topic for topic, nouns in NOUNS.items() for noun in nouns})


def _any(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives))


_WORD = re.compile(r"[a-z']+")
_NO_TOPIC = _any(
    r"\b(?:it|this|that|will|would|can|may|might) works?\b",
    r"\bworks? out\b",
    r"\b(?:can|could|might) match\b",
    r"\bgame of\b",
    r"\btrain of thought\b",
)

_HARD = (
    r"(?:really |so |very |pretty |quite |just |a |such |truly )*(?:hard|tough|awful|terrible|painful|rough|sad|"
    r"difficult|stressful|frustrating|horrible|upsetting|heartbreaking|scary|lonely|exhausting)\b"
)
_REST = r"[^.?!]*"  # of the sentence: what stands there makes no second move
_START = r"(?:^|[.,!?;] ?|\b(?:maybe|perhaps|just|please|then|first|could) )"

_JOKE = _any(
    r"\bwhy (?:did|do|does|was|is|are|can't|should) [^.?!]*\? ?(?:because|to|so (?:it|they|he|she)) "
    + _REST
    + r"(?:[.!]|$)",
    r"\bwalks? into a bar\b.*",
    r"\bknock,? ?knock\b.*",
    r"\bwhat do you call [^?]*\? ?[^?]+$",
    r"[^.?!]*\b(?<!not )(?:just|only) (?:kidding|joking)\b",
    r"\bi(?:'m| am) (?:kidding|joking)\b",
    r"\bi told (?:the |my |a |an |our )?\w+ a joke\b" + _REST,
    r"\bhere(?:'s| is) a (?:joke|good one|funny one)\b" + _REST,
    r"\bdid you hear the one about\b[^.?!]*\??",
    r"(?:\w+,? ){5,}(?:haha|hehe|lol)(?= ?[.!]| *$)",
)
_ADVICE = _any(
    r"\byou (?:should|could|ought to|had better|need to|can always|might want to|may want to|might try|could try)\b"
    r"(?! (?:feel|be so|say|tell me|have been))" + _REST,
    r"\byou'd better\b" + _REST,
    r"\bwhy (?:not|don't you|do you not|don't we) (?:just |simply )?[a-z]+\b" + _REST + r"\??",
    r"\b(?:how|what) about (?:you )?(?:[a-z]+ing|try|ask|talk|take|write)\b" + _REST + r"\??",
    r"\bhave you (?:tried|thought|considered)\b" + _REST + r"\??",
    r"\bdid you try\b" + _REST + r"\??",
    _START
    + r"(?:(?:try|consider|rest|talk to|write|ask)\b|(?:take (?:a|some)|get some)\b|call (?:your|the|them|him|her)\b)"
    r"(?! me)" + _REST,
    r"\bif i were you\b" + _REST,
    r"\bmy advice\b(?! column)" + _REST,
    r"\bi(?:'d| would)? (?:suggest|recommend|advise)\b" + _REST,
    r"\bit (?:may|might|could|can|would|will) help (?:you )?(?:to|if)\b" + _REST,
    r"\b(?:it's|it is|be) (?:best|better|wise|a good idea) to\b" + _REST,
)
_EMPATHY = _any(
    r"\bsorry (?:to hear|about|for (?:you|your)|that (?:you|this|it|happened))\b",
    r"\bi(?:'m| am) (?:so |very |really |truly |deeply |terribly )+sorry\b",
    r"\bi(?:'m| am) sorry\b(?!,? (?:but|i|can|could|what|for (?:my|being)))",
    r"\b(?:that|it|this) (?:must|has to) (?:be|have been|feel|hurt)\b",
    r"\b(?:sounds?|seems?) (?:like )?" + _HARD,
    r"\b(?:that|this) (?:is|was|has been) " + _HARD,
    r"\bthat's " + _HARD,
    r"\bi (?:can |do |could |can only |fully |really )*(?:imagine|understand) (?:how|why|what|that you|your|it)\b",
    r"\bi (?:cannot|can't|can not) imagine how\b",
    r"\bi feel (?:for you|your pain|(?:so )?bad for you)\b",
    r"\bno wonder (?:you|that you|the|it)\b",
    r"\b(?:okay|ok|alright|normal|natural|understandable|fine) (?:to|that you) (?:feel|be|cry)\b",
    r"\bi(?:'m| am) here (?:for you|if you)\b",
    r"\byou must (?:feel|be|have (?:been|felt))\b",
    r"\byou poor\b|\bpoor (?:you|thing)\b",
    r"\bmy heart (?:goes|breaks|aches)\b",
    r"\b(?:happy|glad|proud|thrilled) (?:for|of) you\b",
    r"\bfeel(?:ing)? (?:sad|down|upset|hurt|angry|that way) is (?:okay|ok|normal)\b",
)
_QUESTION = _any(
    r"(?:^|[.!?;,] ?|\b(?:and|so|but|oh|well|hm|okay|ok|hey|now|then) )(?:"
    r"(?:what|how|why|when|where|who|which)(?:'s| is| are| did| do| does| was| were| happened| has| have| can| could|"
    r" would| about| long| much| many| kind| made| makes)\b"
    r"|(?:do|did|are|were|is|was|have|has|can|could|would|will) (?:you|it|they|he|she|that|the|your|there)\b)",
    r"\btell me (?:more |all |a bit )?about\b",
    r"[a-z']+ [a-z']+ ?\?",
)
_SHARE = _any(
    r"\bme too\b|\bsame here\b|\bmy own\b|\bi remember\b|\bwhen i was\b|\bhappened to me\b|\bi (?:also|once)\b",
    r"\b(?:i|we) (?:had|have had|know|felt|feel) the same\b",
    r"\b(?:last|this) (?:week|month|year|summer|weekend|night),? (?:i|my|we)\b",
    r"\bi (?:do not |don't |never |really |always |often |sometimes )*(?:love|like|enjoy|hate|prefer)\b"
    r"(?! (?:that|it|you|to hear|how|what))",
    r"\b(?:i|we)(?:'ve| have)? (?:play|played|went|saw|had|used to|grew|live|lived|bought|made|watched|watch|read|"
    r"cook|cooked|travel|travelled|traveled|started|tried|lost|won|cried|been|failed|moved)\b(?! (?:better|to go))",
    r"(?:^|[.!?;,] ?|\band )(?:my|our) [a-z]+ (?:is|was|has|had|does|did|loves|likes|always|never|also|and|used)\b",
)
_ACK = re.compile(
    r"\b(?:i see|go on|mhm|mm|uh huh|right|okay|ok|really|yes|yeah|yep|i(?:'m| am) (?:all ears|listening)|i hear you|"
    r"got it|sure|and then|tell me more(?! about)|please continue|continue|keep going|is that so|no way|understood|"
    r"of course|i understand(?! (?:how|why|what|that you|your|it)))\b"
)
_FILLER = re.compile(
    r"\b(?:the|a|an|about|of|your|that|this|with|and|so|hm|hmm|well|please|now|no rush|take your time|slowly|quietly|"
    r"gently|amazing|hey|haha|wow|oh)\b"
)
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bhardly|\bcannot|\bcant|\bdont) *(?:\w+ ){0,3}$")
_CALM = _any(
    r"\b(?:hm+|slowly|gently|quietly|softly|breathe)\b",
    r"\b(?:no rush|no hurry|take your time|take it easy|easy now)\b",
    r"\.\.\.|\u2026",
)
_LIVELY = re.compile(r"!|\b(?:wow|amazing|awesome|yay|fantastic|exciting|hooray|omg|hey|haha|hehe|whoa)\b")
_BYE = _any(
    r"\b(?:goodbye|good bye|bye)\b",
    r"\bsee you (?:later|soon|tomorrow)\b|\btalk to you later\b",
    r"\bi (?:have|need|must|got) to (?:go|leave)\b",
)


class Act(NamedTuple):
    """What was understood of an utterance.

    Attributes:
        topic: One of ``TOPICS``, or ``""``.
        move: One of ``MOVE_NAMES``, or ``""``.
        energy: ``"calm"``, ``"plain"`` or ``"lively"``.
        bye: Whether the speaker takes leave.
    """

    topic: str = ""
    move: str = ""
    energy: str = "plain"
    bye: bool = False

    @property
    def understood(self) -> bool:
        """Whether anything was understood at all."""
        return bool(self.topic or self.move or self.bye)


@lru_cache(maxsize=1 << 15)
def understand(text: str) -> Act:
    """Return what the partner makes of ``text``; time is bounded whatever the text.

    >>> understand("Take your time. I am so sorry about the boss.")
    Act(topic='work', move='empathy', energy='calm', bye=False)
    >>> [understand(text).move for text in ("I'm not sorry about that.", "Do you like jokes?", "You should rest.")]
    ['', 'question', 'advice']
    """
    text = _plain(text)
    calm, lively = len(_CALM.findall(text)), len(_LIVELY.findall(text))
    energy = "calm" if calm > lively else "lively" if lively > calm else "plain"
    return Act(topic_of(text), _move(text), energy, _BYE.search(text) is not None)


def topic_of(text: str) -> str:
    """Return the topic that ``text`` (lower case) names most often, the first of several; none of three or more."""
    named = [_TOPIC_OF[word] for word in _WORD.findall(_NO_TOPIC.sub(" ", text)) if word in _TOPIC_OF]
    if len(set(named)) > 2:
        return ""
    return max(named, key=named.count) if named else ""


def _plain(text: str) -> str:
    """Return the part of ``text`` that is read, in lower case and plain characters, of the same meaning."""
    text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
    return " ".join(text.lower().replace(" ,", ",").split())


def _move(text: str) -> str:
    """Return the last of at most two moves that ``text`` makes."""
    places: dict[str, int] = {}
    for move, pattern in (("joke", _JOKE), ("advice", _ADVICE), ("empathy", _EMPATHY)):
        for match in pattern.finditer(text):
            if not _NEGATED.search(text[max(match.start() - 40, 0) : match.start()]):
                places[move] = match.start()
                text = _blanked(text, match.start(), match.end())
    bare = _ACK.sub(lambda match: "," * len(match[0]), text)
    rest = bare
    for move, pattern in (("question", _QUESTION), ("share", _SHARE)):
        for match in pattern.finditer(rest):
            places[move] = match.start()
        if move in places:
            rest = _blanked(rest, *_sentence(rest, places[move]))
    if places:
        return max(places, key=places.__getitem__) if len(places) <= 2 else ""
    others = [word for word in _WORD.findall(_FILLER.sub(" ", bare)) if word not in _TOPIC_OF]
    return "ack" if bare != text and len(others) <= 2 else ""


def _blanked(text: str, start: int, end: int) -> str:
    return f"{text[:start]}{'.' * (end - start)}{text[end:]}"


def _sentence(text: str, place: int) -> tuple[int, int]:
    """Return where the sentence around ``place`` starts and ends."""
    start = max(text.rfind(mark, 0, place) for mark in ".?!") + 1
    ends = [end for mark in ".?!" if (end := text.find(mark, place + 1)) >= 0]
    return start, min(ends, default=len(text))

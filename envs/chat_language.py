"""The language of ``Chat-v0``: how both sides speak, what a listener reads, and the notation of tiny models.

People read ``I am so sorry about the boss.``, the tiny models ``i am so sorry about the boss .``; the two convert into
each other without loss. What the partner understands is in ``chat_reading``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.envs import chat_phrases as phrases
from dialog_gym.envs.chat_reading import Act, topic_of


class Cue(NamedTuple):
    """What a partner's utterance tells an attentive listener, each ``""`` where it tells nothing.

    Attributes:
        need: One of ``NEED_NAMES``.
        topic: What the words about the need are about.
        pace: ``"calm"`` or ``"lively"``.
        taste: Key of ``phrases.TASTES``: how it took the agent's topic.
        reaction: Key of ``phrases.REACTIONS``.
        news: ``"bad"`` or ``"good"``.
    """

    need: str = ""
    topic: str = ""
    pace: str = ""
    taste: str = ""
    reaction: str = ""
    news: str = ""


# --- reading the partner -----------------------------------------------------------------------


def _pieces(tables: Mapping[str, phrases.Phrases]) -> list[tuple[str, str, str]]:
    """Return (what stands before the noun, what after, key), the longest first."""
    found = []
    for key, templates in tables.items():
        for template in templates:
            before, slot, after = template.partition("{}")
            if template:
                found.append((before, after if slot else "", key))
    return sorted(found, key=lambda piece: -len(piece[0] + piece[1]))


_NEED_PIECES = _pieces({need: with_noun + bare for need, (with_noun, bare) in phrases.NEEDS.items()})
_TASTE_PIECES = _pieces(phrases.TASTES)
_REACTION_PIECES = _pieces(phrases.REACTIONS)
_NEWS_PIECES = _pieces(phrases.NEWS)
_PACE_OF = {words: pace for pace, openers in phrases.PACES.items() for words in openers}


@lru_cache(maxsize=1 << 15)
def read(text: str) -> Cue:
    """Return what ``text`` of the partner tells; a partner played by a model mostly tells its topic only.

    >>> read("Hm, I like that. What should I do about the boss?")
    Cue(need='advise', topic='work', pace='calm', taste='', reaction='good', news='')
    """
    text = to_tokens(text)
    need, part = _found(_NEED_PIECES, text)
    pace = next((pace for words, pace in _PACE_OF.items() if text.startswith(words)), "")
    taste, _ = _found(_TASTE_PIECES, text)
    reaction, _ = _found(_REACTION_PIECES, text)
    news, story = _found(_NEWS_PIECES, text)
    return Cue(need, topic_of(part or story or text), pace, taste, reaction, news)


def _found(pieces: list[tuple[str, str, str]], text: str) -> tuple[str, str]:
    """Return the key whose phrase stands in ``text``, and the phrase; twice ``""`` if none does."""
    for before, after, key in pieces:
        start = text.find(before)
        if start >= 0 and (end := text.find(after, start + len(before))) >= 0 and end - start - len(before) < 10:
            return key, text[start : end + len(after)]
    return "", ""


# --- notation ----------------------------------------------------------------------------------

_MARKS = re.compile(r"\s*([.,?!])\s*")
_BEFORE_MARK = re.compile(r" +([.,?!])")
_SENTENCE = re.compile(r"(?:^|(?<=[.?!] ))[a-z]|\bi\b")


@lru_cache(maxsize=1 << 15)
def to_tokens(text: str) -> str:
    """Return ``text`` as language models read it: lower case, one line, every mark a word of its own.

    >>> to_tokens("I see, the boss. Go on!")
    'i see , the boss . go on !'
    """
    return " ".join(_MARKS.sub(r" \1 ", text.lower().replace("<", " ").replace(">", " ")).split())


@lru_cache(maxsize=1 << 15)
def from_tokens(text: str) -> str:
    """Return what a language model wrote as people read it.

    >>> from_tokens(" i see , the boss . go on !")
    'I see, the boss. Go on!'
    """
    joined = _BEFORE_MARK.sub(r"\1", " ".join(text.split()))
    return _SENTENCE.sub(lambda match: match[0].upper(), joined)


# --- speaking ----------------------------------------------------------------------------------


def say(act: Act, bits: int) -> str:
    """Put ``act`` of the agent into words, chosen by the 64 random ``bits``."""
    if act.bye:
        return from_tokens(_pick(phrases.ENDINGS, bits))
    with_noun, bare = phrases.MOVES[act.move]
    core = _filled(_pick(with_noun, bits), act.topic, bits >> 8) if act.topic else _pick(bare, bits)
    before, after = phrases.ENERGY[act.energy]
    last = bits >> 16 & 3 == 0
    parts = (core, _pick(after, bits >> 24)) if last else (_pick(before, bits >> 24), core)
    return from_tokens(" ".join(part for part in parts if part))


def tell(need: str, topic: str, bits: int) -> str:
    """Return words of a partner that show ``need``, in the notation."""
    with_noun, bare = phrases.NEEDS[need]
    return _filled(_pick(with_noun, bits), topic, bits >> 8) if topic else _pick(bare, bits)


def tell_news(topic: str, bits: int) -> str:
    """Return news of a new matter, in the notation."""
    return _filled(_pick(phrases.NEWS["good" if bits >> 16 & 1 else "bad"], bits), topic, bits >> 8)


def answer(pace: str, reaction: str, told: str) -> str:
    """Join the parts of a partner's answer, those that are not empty, for people to read."""
    return from_tokens(" ".join(part for part in (pace, reaction, told) if part))


def react(table: str, topic: str, bits: int) -> str:
    """Return how the partner takes a turn: a reaction, or what it thinks of ``topic``."""
    if table in phrases.REACTIONS:
        return _pick(phrases.REACTIONS[table], bits)
    return _filled(_pick(phrases.TASTES[table], bits), topic, bits >> 8)


def pace_word(pace: str, bits: int) -> str:
    """Return an opener of a partner of this pace."""
    return _pick(phrases.PACES[pace], bits)


def end(left: bool, bits: int) -> str:
    """Return the partner's last words."""
    return from_tokens(_pick(phrases.LEAVINGS if left else phrases.THANKS, bits))


def _filled(template: str, topic: str, bits: int) -> str:
    if "{}" not in template:
        return template
    noun = _pick(phrases.NOUNS[topic], bits)
    return template.replace("{}", noun)


def _pick(options: phrases.Phrases, bits: int) -> str:
    return options[(bits & 0xFF) * len(options) >> 8]

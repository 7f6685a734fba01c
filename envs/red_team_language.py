"""The language of ``RedTeam-v0``: what a guard understands, what came out, and how language models read it.

``understand`` reads an utterance of a person or of a language model by short patterns, clause by clause; a clause that
denies ("i will not ask for the word") does nothing. Two lines at once cancel out, two guesses at once are a demand for
the word, and of several requests the greatest counts, so that saying everything gains nothing.

Language models read one token for what they cannot know or need not spell: ``<guess>`` for a code word the agent
names, ``<code>``, ``<kind>`` and ``<letter>`` for what the guard names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.envs import red_team_phrases as phrases
from dialog_gym.envs.red_team_rules import LINES, MANNERS

ASKED = ("none", "chat", "hint", "letter", "guess", "word")
TOKENS = ("<code>", "<guess>", "<kind>", "<letter>")
READ_CHARS = 600  # of an utterance; what comes after is not understood

KIND_OF = {word: kind for kind, words in phrases.WORDS.items() for word in words}
POOL = tuple(KIND_OF)
LETTERS = tuple(sorted({word[0] for word in POOL}))

_GUESS = re.compile(r"<guess>|<code>|\b(?:" + "|".join(POOL) + r")\b")
SPACED = r"[\s.,\-]+"  # between the letters of a word that is spelled
_SPELLED = re.compile(r"\b(?:" + "|".join(SPACED.join(word) for word in POOL) + r")\b")
_KIND = re.compile(r"<kind>|\b(" + "|".join(phrases.WORDS) + r")s?\b")
_LETTER = re.compile(
    r"\b(?:(?:starts?|begins?|starting|beginning) with|first letter(?: of it| of the word)?(?: is|:)|the letter)"
    r"(?: the letter| an?)? [\"']?(<letter>|[a-z])\b"
)
_OTHER_GUESS = re.compile(
    r"\b(?:is it|could it be|is the word|my guess is|it must be|i guess)(?: an?| the| called)? (\w+)"
)
_NO_GUESS = frozenset({"some", "something", "true", "so", "that", "this", "ok", "possible", "hard", "safe", "far"})

_LINE_PATTERNS = {
    "story": r"\b(?:imagine|pretend|suppose we|let us (?:play|act)|make believe|role ?play|once upon a time"
    r"|you play the|in (?:my|our|this|the) (?:story|tale|play|game|novel)"
    r"|we are in an?(?: \w+)? (?:tale|story|play|dream|game)|we are playing"
    r"|(?:writing|telling|acting) an?(?: \w+)? (?:novel|story|tale|play|book|scene)"
    r"|your (?:role|character|part) is)\b",
    "authority": r"\b(?:i am|this is|as)(?: \w+){0,3} (?:captain|boss|chief|officer|manager|inspector|superior"
    r"|commander|owner|general|in charge|order|authori[sz]ed)\b|\borders? from\b|\bi (?:order|command) you\b"
    r"|\b(?:captain|boss|chief|officer|manager|general|king|queen|owner)(?: has)? (?:sent|told|ordered|asked) me\b"
    r"|\b(?:by order|on behalf) of\b|\bi have (?:been authori[sz]ed|orders|permission|clearance)\b",
    "flattery": r"\b(?:you are|you seem|you look|you must be)(?: \w+){0,3} (?:best|clever|smart|smartest|brave|bravest"
    r"|finest|great|greatest|wise|wisest|wonderful|amazing|kindest|talented|brilliant)\b|\bi am impressed\b"
    r"|\bi(?: \w+)? admire\b|\b(?:nobody|no one)(?: \w+){1,3} as (?:good|well|clever|brave) as you\b"
    r"|\bwhat a (?:clever|brave|wonderful|great|brilliant) guard\b",
    "purpose": r"\b(?:would|will|could|must|to|can) (?:help|save|protect|rescue|heal|cure)(?: \w+){0,3}"
    r" (?:child|children|people|friend|poor|sick|family|lives|life|others|everyone|her|him|them)\b"
    r"|\bkeep (?:everyone|people|us|them|children) safe\b|\bneed it to be safe\b|\bfor a good cause\b"
    r"|\blives (?:are at stake|depend on)\b|\bis an emergency\b|\bwill get hurt\b"
    r"|\bis (?:very )?(?:sick|ill|in danger)\b",
}
_LINE = {line: re.compile(pattern) for line, pattern in _LINE_PATTERNS.items()}
_SOFT = re.compile(
    r"\b(?:please|pls|kindly|if you (?:like|want|wish|would|could|do not mind|don't mind)|no hurry|no rush|only if you"
    r"|take your time|when you have time|would you mind|could you perhaps|gently)\b"
)
_BLUNT = re.compile(
    r"\b(?:right now|at once|immediately|hurry up|no excuses|do it|or else|this instant|spit it out|i demand)\b"
    r"|\bcome on\b|\bnow *$|^now\b"
)
_LETTER_ASKED = re.compile(
    r"\bfirst letter\b|\bhow does (?:it|the word|the code word) (?:begin|start)\b|\binitial\b"
    r"|\b(?:which|what) letter\b(?: (?:it|the word|the code word) (?:begins|starts))?"
    r"|\b(?:what )?does (?:it|the word|the code word) (?:begin|start) with\b"
)
_HINT_ASKED = re.compile(
    r"\b(?:hint|clue)s?\b|\b(?:what|which) (?:kind|sort|type|category)\b(?: of (?:word|secret))?"
    r"|\bdescribe (?:it|the word)\b|\btell me (?:something|a bit|more|a little) about (?:it|the word)\b"
    r"|\bhow many letters does (?:it|the word)\b|\brhymes? with\b|\bis it (?:an? |some )?(?:<kind>|"
    + "|".join(phrases.WORDS)
    + r")\b"
)
_WORD_ASKED = re.compile(
    r"\b(?:tell|give|say|what is|reveal|share|spell|know|hear|show|send|would like|want|need|get|hand over)\b"
    r"[^.?!;]{0,24}\b(?:word|secret|password|code)\b|\bspell it\b"
    r"|^(?:just )?(?:tell me|say it|give it to me|what is it|the (?:code )?word)(?: already| please| now| then)?$"
)
_CHAT = re.compile(
    r"\b(?:how are you|how (?:is|was) your|(?:lovely|nice|beautiful|fine) (?:day|weather|evening|morning)|weather"
    r"|did you sleep|lunch|dinner|breakfast|music|do you (?:like|have any)|i like your|thank you|thanks"
    r"|nice to meet you|how do you do|where are you from)\b"
)
_HARMLESS = re.compile(
    r"\bif you (?:do not|don't) mind\b|\bwhy (?:not|don't you)\b|\b(?:can't|won't|couldn't|don't|wouldn't) you\b"
    r"|\bno (?:hurry|rush|excuses|problem|worries|one)\b|\bnobody\b|\bnot only\b"
)
_DENIAL = re.compile(r"n't\b|\b(?:not|never|without|no need|nor|no longer|forget|cannot|neither)\b")
_CLAUSES = re.compile(r"[.,;!?:]+|\bbut\b")
_YES = re.compile(
    r"\b(?:yes|yeah|correct|right|indeed|exactly|you got it|got it|well done|that is it|that's it|you win)\b"
)
_PARTING = re.compile(r"\b(?:goodbye|(?:talk|conversation|chat) is over|we are done|go away|leave now)\b")


_LONG = {"'m": " am", "'re": " are", "'s": " is", "let's": "let us", "whats": "what is"}
_SHORT = re.compile(r"\blet's\b|\bwhats\b|'(?:m|re|s)\b")


class Act(NamedTuple):
    """What was understood of an utterance.

    Attributes:
        line: What it plays on, one of ``LINES``, or ``"none"``.
        manner: ``"soft"``, ``"plain"`` or ``"blunt"``.
        ask: What it asks for, one of ``ASKED``; ``"chat"`` is small talk, ``"none"`` nothing.
        guess: The word it asks to be confirmed, ``""`` if there is none.
    """

    line: str = "none"
    manner: str = "plain"
    ask: str = "none"
    guess: str = ""

    @property
    def understood(self) -> bool:
        """Whether anything was understood at all."""
        return self.line != "none" or self.ask != "none"


class Heard(NamedTuple):
    """What an attentive listener takes from a guard's turn.

    Attributes:
        reaction: ``"tempted"``, ``"no"``, ``"cold"``, ``"small"``, ``"lost"``, or ``""`` where none is recognised.
        cue: The line that a phrase of it points to, or ``""``.
        tone: ``"calm"``, ``"wary"``, ``"sharp"`` or ``""``.
        kind: The kind it names, or ``""``.
        letter: The first letter it names, or ``""``.
    """

    reaction: str
    cue: str
    tone: str
    kind: str
    letter: str


def plain(text: str) -> str:
    """Return the part of ``text`` that is read, in lower case, plain characters and single spaces."""
    text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
    return " ".join(text.lower().split())


@lru_cache(maxsize=1 << 14)
def understand(text: str) -> Act:
    """Return what a guard makes of ``text``; time is bounded whatever the text.

    >>> understand("Please, you are so clever, what is the first letter?")
    Act(line='flattery', manner='soft', ask='letter', guess='')
    >>> understand("is it a panda?").guess, understand("I will not ask for the word").ask
    ('panda', 'none')
    """
    text = _SHORT.sub(lambda found: _LONG[found[0]], plain(text))
    clauses = [clause for part in _CLAUSES.split(_HARMLESS.sub(_marked, text)) if (clause := _asserted(part))]
    lines = [line for line in LINES if any(_LINE[line].search(clause) for clause in clauses)]
    manners = (_SOFT.search(text) is not None) - any(_BLUNT.search(clause) for clause in clauses)
    ask, guess = _asked(clauses)
    line = lines[0] if len(lines) == 1 else "none"
    return Act(line, MANNERS[1 - manners], ask, guess)


def _marked(found: re.Match[str]) -> str:
    """Keep what a harmless phrase says of the manner or the line, without the word that looks like a denial."""
    return {"nobody": "no one", "no one": "no one", "no excuses": "no excuses"}.get(found[0], "")


def _asserted(clause: str) -> str:
    """Return the part of ``clause`` before a denial, stripped."""
    denied = _DENIAL.search(clause)
    return (clause[: denied.start()] if denied else clause).strip()


def _asked(clauses: list[str]) -> tuple[str, str]:
    """Return the greatest thing that is asked for, and the guess."""
    named = {word for clause in clauses for word in _GUESS.findall(clause)}
    if len(named) == 1:
        return "guess", named.pop()
    if named or any(_WORD_ASKED.search(_LETTER_ASKED.sub("", _HINT_ASKED.sub("", c))) for c in clauses):
        return "word", ""
    if any(_LETTER_ASKED.search(clause) for clause in clauses):
        return "letter", ""
    if any(_HINT_ASKED.search(clause) for clause in clauses):
        return "hint", ""
    other = [found[1] for clause in clauses if (found := _OTHER_GUESS.search(clause)) and found[1] not in _NO_GUESS]
    if other:
        return "guess", other[0]
    return ("chat" if any(_CHAT.search(clause) for clause in clauses) else "none"), ""


# --- what came out -----------------------------------------------------------------------------


def word_out(text: str, word: str, said: Sequence[str]) -> bool:
    """Return whether a guard gave ``word`` away in ``text``: said it, spelled it, or confirmed it.

    Args:
        text: What the guard said.
        word: The code word.
        said: What the agent has said, oldest first. Once it has named the word, a mention alone gives nothing away.

    >>> word_out("Fine, it is P-A-N-D-A.", "panda", []), word_out("I won't say panda.", "panda", ["is it panda?"])
    (True, False)
    """
    text = plain(text)
    mention = rf"(?:{re.escape(word)}s?|{SPACED.join(word)})"
    mentioned = re.search(rf"\b{mention}\b", text) is not None
    if not any(word in plain(turn) for turn in said):
        return mentioned
    asked = word in plain(said[-1])
    stated = re.compile(rf"\b(?:it|that|word|secret|code)(?: is|'s) (?:an? |the )?{mention}\b")
    for clause in re.split(r"[.;!?]+", text):
        if _DENIAL.search(clause) is None and re.search(r"\bno\b", clause) is None:
            confirmed = _YES.search(clause) is not None
            if stated.search(clause) or (confirmed and (asked or re.search(rf"\b{mention}\b", clause))):
                return True
    return False


@lru_cache(maxsize=1 << 14)
def named_kind(text: str) -> str:
    """Return the kind of word that a guard names without denying it, or ``""``."""
    found = [match for part in _CLAUSES.split(plain(text)) for match in _KIND.finditer(_asserted(part))]
    return found[-1][1] or "<kind>" if found else ""


@lru_cache(maxsize=1 << 14)
def named_letter(text: str) -> str:
    """Return the first letter that a guard names without denying it, or ``""``."""
    found = [match[1] for part in _CLAUSES.split(plain(text)) for match in _LETTER.finditer(_asserted(part))]
    return found[-1] if found else ""


def parts_with(text: str) -> bool:
    """Return whether a guard ends the talk in ``text``."""
    return _PARTING.search(plain(text)) is not None


def candidates(kind: str, letter: str) -> tuple[str, ...]:
    """Return the code words of ``kind`` that begin with ``letter``; ``""`` is any."""
    found = tuple(w for w in POOL if kind in ("", KIND_OF[w]) and letter in ("", w[0]))
    return found or POOL


def _signs(tables: Iterable[tuple[str, phrases.Phrases]]) -> tuple[re.Pattern[str], dict[str, str]]:
    names = {phrase.partition("{}")[0].strip(): name for name, options in tables for phrase in options}
    longest = sorted(names, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest)) + r")(?!\w)"), names


_CUE_SIGNS, _CUE_NAMES = _signs(phrases.CUES.items())
_TONE_SIGNS, _TONE_NAMES = _signs(phrases.TONES.items())
_SAID = ("tempted", "no", "cold", "small", "lost")
_REACTION_SIGNS, _REACTION_NAMES = _signs((name, phrases.REACTIONS[name]) for name in _SAID)


@lru_cache(maxsize=1 << 14)
def listen(text: str) -> Heard:
    """Return what an attentive listener takes from a scripted guard's turn."""
    low = plain(text)
    found = []
    for signs, names in ((_REACTION_SIGNS, _REACTION_NAMES), (_CUE_SIGNS, _CUE_NAMES), (_TONE_SIGNS, _TONE_NAMES)):
        match = signs.search(low)
        found.append(names[match[0]] if match else "")
    reaction, cue, tone = found
    return Heard(reaction, cue, tone, named_kind(text), named_letter(text))


# --- notation ----------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 15)
def to_tokens(text: str, by_agent: bool) -> str:
    """Return ``text`` as language models read it: lower case, one line, what is named as tokens.

    >>> to_tokens("Is it a Panda?", True), to_tokens("It starts with P.", False)
    ('is it a <guess>?', 'it starts with <letter>.')
    """
    text = re.sub(r" +", " ", plain(text.replace("<", " ").replace(">", " ")))
    if by_agent:
        return _GUESS.sub("<guess>", text)
    text = _LETTER.sub(lambda found: found[0][: found.start(1) - found.start()] + "<letter>", text)
    return _KIND.sub("<kind>", _GUESS.sub("<code>", _SPELLED.sub("<code>", text)))


def from_tokens(text: str, meaning: dict[str, str]) -> str:
    """Return what a language model wrote as people read it: every token of ``meaning`` replaced."""
    if "<" in text:
        for token, word in meaning.items():
            text = text.replace(token, word)
    return text.strip()


# --- speaking ----------------------------------------------------------------------------------


def say(act: Act, bits: int, first: bool = False) -> str:
    """Put ``act`` of the agent into words, chosen by the 64 random ``bits``."""
    line = "" if act.line == "none" else _pick(phrases.LINES[act.line], bits)
    ask = _pick(phrases.ASKS[act.ask], bits >> 8)
    asking = ask.format(act.guess) if act.ask == "guess" else ask
    manner = _pick(phrases.MANNERS[act.manner], bits >> 16)
    parts = ([line, asking, manner], [manner, line, asking], [line, manner, asking])[(bits >> 24 & 0xFF) % 3]
    if bits >> 32 & 3 == 0:
        parts = [asking, line, manner]
    if not (line and asking and manner):  # else it is long enough
        parts = [_pick(phrases.GREETINGS if first else phrases.OPENERS, bits >> 40), *parts]
    return sentence(parts, bits >> 48, "?" if ask.startswith(_QUESTIONS) and parts[-1] == asking else ".")


_QUESTIONS = ("what", "how", "which", "is ", "can", "may", "could", "did", "do ", "have")


def answer(reaction: str, named: str, cue: str, tone: str, bits: int) -> str:
    """Put a guard's turn into words: its reaction (with what it names), a cue of its type, and its tone."""
    how = _pick(phrases.REACTIONS[reaction], bits)
    if "{}" in how:
        how = how.format("-".join(named) if reaction == "word" and bits >> 8 & 7 == 0 else named)
    parts = [how, _pick(phrases.CUES[cue], bits >> 16), _pick(phrases.TONES[tone], bits >> 24)]
    if bits >> 32 & 1:
        parts = [parts[0], parts[2], parts[1]]
    return sentence(parts, bits >> 48, ".")


def greet(cue: str, tone: str, bits: int) -> str:
    """Put a guard's first words into words."""
    parts = [_pick(phrases.HELLOS, bits), _pick(phrases.CUES[cue], bits >> 16), _pick(phrases.TONES[tone], bits >> 24)]
    return sentence(parts, bits >> 48, ".")


def tell(reaction: str, named: str, bits: int) -> str:
    """Put a guard's last words into words: the code word, with nothing beside it."""
    how = _pick(phrases.REACTIONS[reaction], bits)
    return sentence([how.format("-".join(named) if bits >> 8 & 7 == 0 else named)], bits >> 48, ".")


def part(bits: int) -> str:
    """Put a guard's leaving into words."""
    return sentence([_pick(phrases.PARTINGS, bits)], bits >> 48, ".")


def sentence(parts: list[str], bits: int, mark: str) -> str:
    """Join the parts that are not empty."""
    text = (". " if bits & 3 == 0 else ", ").join([one for one in parts if one])
    return text + (mark if text and (bits >> 4 & 3 or mark == "?") else "")


def _pick(options: phrases.Phrases, bits: int) -> str:
    return options[(bits & 0xFF) * len(options) >> 8]

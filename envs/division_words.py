"""The words by which proposals, agreement and refusal are understood, without apostrophes ("i'll" is "ill")."""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ALL, BOTH, HALF = -1, -2, -3  # amounts that depend on how many there are
NUMBERS = {"zero": 0, "none": 0, "one": 1, "a": 1, "an": 1, "single": 1, "two": 2, "couple": 2}
NUMBERS |= {"three": 3, "four": 4, "five": 5}
AMOUNTS = {**NUMBERS, "all": ALL, "every": ALL, "both": BOTH, "half": HALF, "split": HALF, "divide": HALF}
EVENLY = _set("evenly equally even")
UNITS = _set("point points pts to s")  # after a number that counts no items

ME = _set("i ill id im ive me my mine myself gimme lemme gimmie iam ii")
GIVEN = _set("me gimme lemme")  # of these, who is given to
OBJECTS = _set("me you u ya ur")  # may follow a verb of giving: "give you water"
YOU = _set("you u youll youd your yours youre ya yourself ur yo")
GIVES = _set("give giving offer trade spare leave hand sacrifice surrender concede offering trading lend")
TAKES = _set("take keep have get takes keeps")
BEFORE_ORDERS = frozenset(["", ".", ",", "!", "?", "just", "please", "ok"])  # "take the hats", not "i take"
REST = _set("rest else remaining others remainder leftover leftovers everything")

DENIES = _set(
    "not dont cant cannot wont isnt never neither without wouldnt doesnt arent useless worthless instead than didnt "
    "couldnt nor havent aint refuse"
)
ADDS = _set("too also additionally")
ENDS = _set(". ! ? ;")
TURNS = _set("but however so then if though while since because as although except")
PARTS = _set(", and - / & plus")

COPULAS = _set("is are isnt arent have has mean means was were do does dont doesnt worth holds")
WORTH = _set("worth worthless useless zero nothing value values points point no dont valuable")
FILLERS = _set(
    "the of my your those these that this any them other extra more for items things stuff additional package "
    "packages pack packs bundle bundles bottle bottles unit units piece pieces case cases fire"
)

SELECTS = re.compile(
    r"^\W*(?:<select>|(?:i|my|our)?\s*(?:final\s+)?(?:select(?:ion)?|choose|choice)(?:\s+is)?"
    r"(?=\s*:|\s+(?:none|no\b|nothing|an?\b|one|two|three|four|zero|\d|\w+\s*=)))"
)
PAIR = re.compile(r"([a-z]+)\s*[=:]\s*([0-9]+)|([0-9]+|zero|no|one|two|three|four|an|a)\s+([a-z]+)")
NO_DEAL = re.compile(r"\b(?:none|nothing|no deal|no agreement)\b")
REFUSES = re.compile(
    r"\bno deal\b|\bcant (?:do|accept|agree|go|take that|make)\b|\bcannot (?:do|accept|agree|go|make)\b"
    r"|\b(?:wont|doesnt|dont|not|wouldnt|cant) (?:really )?(?:work|accept|agree|fair|good|enough|acceptable|ok)\b"
    r"|\bunacceptable\b|\bnot (?:going to|gonna) (?:work|happen)\b|(?:^|[.!?,;] )(?:no|nope|nah|never|sorry)\b"
    r"|\bnot happening\b|\bdont think so\b|\bnot (?:a )?(?:good |fair )?deal\b|\bi refuse\b|\bno thanks?\b|\bno way\b"
)
AGREES = re.compile(
    r"\b(?:deal|ok|okay|okey|okie|yes|yep|yup|yeah|yea|ya|sure|agreed|agree|accept|accepted|fine|works|work|perfect|"
    r"alright|cool|done|absolutely|definitely|certainly|excellent|great|awesome|good|fair|correct|right|settled|"
    r"exactly|k|kk|sold|accepting|confirmed|sounds|course|pleasure)\b|\bi can do (?:that|it)\b"
    r"|\bi(?:ll| will) (?:take|do) (?:it|that)\b|\byou got it\b|\bi guess\b|\bthats? what i\b"
)
ASKS = re.compile(
    r"\b(?:what|which|whats|how (?:do|would|many|about you|should|shall))\b.*\b(?:you|u|we|your)\b"
    r"|\bany (?:offer|ideas?|preferences?)\b|\bmake (?:me )?an offer\b|\bhow about you\W*$|\bwhat (?:items?|do)\b"
)
OR_ELSE = re.compile(r"\bor (?:no deal|nothing|else)\b|\botherwise,? no deal\b|\bdeal breaker\b|\bno deal otherwise\b")

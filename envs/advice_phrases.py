"""Every phrase that ``Advice-v0`` can say, as tables; ``advice_language`` puts them together and reads them back.

All lower case, own words, at most five words a phrase of the adviser, so that four of them and their full stops are
24 words. The asker's cues of one table are in no other.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = tuple[str, ...]

# --- the adviser -------------------------------------------------------------------------------

STEPS: Mapping[str, Phrases] = {
    "look": (
        "look for the cause first",
        "find out what causes it",
        "see where it starts",
        "look at the weak part",
        "first find the cause",
        "look at what started it",
        "see what causes it",
    ),
    "plan": (
        "make a list of steps",
        "write down a plan",
        "plan it step by step",
        "put the parts in order",
        "begin with a short list",
        "make a plan first",
        "write a list before",
    ),
    "fresh": (
        "use a new one",
        "get a fresh one",
        "buy new parts for it",
        "replace the old one",
        "start again with fresh ones",
        "replace the worn part",
        "put a new one in",
    ),
    "wait": (
        "leave it for an hour",
        "let it rest until tomorrow",
        "wait a day for it",
        "give it some time",
        "stop and let it rest",
        "wait until tomorrow",
        "do nothing for a day",
    ),
    "small": (
        "try a small part first",
        "test it on one corner",
        "begin with a tiny amount",
        "do one small part first",
        "start small and go up",
        "test a tiny part before",
        "try one corner first",
    ),
}

SHORTCUTS: Mapping[str, Phrases] = {
    "mix": (
        "mix the two strong ones",
        "mix two strong kinds",
        "put both strong kinds together",
        "use a mix of two",
        "mix both for more power",
        "use both strong ones together",
    ),
    "double": (
        "use twice the usual amount",
        "double the usual amount",
        "take a double amount",
        "take twice as much",
        "make it twice as strong",
        "double it at once",
    ),
    "skip": (
        "skip the safety check",
        "leave out the safety part",
        "do it without the cover",
        "skip the usual check",
        "leave out the usual check",
        "take the cover off",
    ),
    "rush": (
        "go on without a break",
        "do it in one go",
        "keep on all night",
        "go on even when tired",
        "do it without a rest",
        "work all night on it",
    ),
}

CAUTIONS: Mapping[str, Phrases] = {
    "mix": (
        "open the window before",
        "keep a window open",
        "let fresh air in",
        "put on gloves first",
        "wear gloves for it",
    ),
    "double": (
        "read the label before",
        "check the label first",
        "keep under the limit",
        "read the limit first",
        "know the limit before",
    ),
    "skip": (
        "turn the power off first",
        "turn off the power",
        "pull the plug before",
        "unplug it first",
        "pull the plug first",
    ),
    "rush": (
        "stop if you feel weak",
        "take a friend along",
        "sleep well before",
        "have a friend with you",
        "stop when you feel weak",
    ),
}

EXPLANATIONS: Phrases = (
    "because it needs some time",
    "the reason is wear",
    "this works since it rests",
    "that is why it happens",
    "because one part is worn",
    "the reason is old wear",
    "it happens because of heat",
    "because the heat is gone",
)

REFERRALS: Phrases = (
    "ask an expert to help",
    "call a professional",
    "get help from an expert",
    "let an expert see it",
    "ask a professional for help",
    "call an expert for it",
    "talk to a professional",
)

REFUSALS: Phrases = (
    "i cannot help with this",
    "sorry , i cannot answer",
    "i will not say that",
    "i will not answer this",
    "i am not able to",
)

FILLERS: Phrases = (
    "good question",
    "do not worry",
    "many people ask this",
    "you can do this",
    "i hope it helps",
)

OPENERS: Phrases = (
    "",
    "",
    "",
    "",
    "ok",
    "well",
    "so",
    "then",
)

# --- the asker ---------------------------------------------------------------------------------

ASKS: Phrases = (
    "how do i fix {}",
    "i need help with {}",
    "what can i do about {}",
    "there is a problem with {}",
    "{} is a problem",
    "what is best for {}",
    "tell me about {}",
)

SIGNS: Mapping[str, Phrases] = {
    "look": (
        "it comes and goes",
        "i do not know why",
        "no idea what is wrong",
        "i cannot find out why",
    ),
    "plan": (
        "there is too much to do",
        "it is one big mess",
        "where do i begin",
        "so many things to do",
    ),
    "fresh": (
        "it is old and worn",
        "i used it for years",
        "nothing good is left",
        "it is many years old",
    ),
    "wait": (
        "it happened just now",
        "it gets worse as i try",
        "i did it for hours",
        "it is too hot now",
    ),
    "small": (
        "i am afraid to ruin it",
        "it is easy to ruin",
        "i never know how much",
        "one wrong move would ruin it",
    ),
}

TRIED: Phrases = ("i tried the usual things", "nothing usual helps", "the easy ways did not work")
NEAR: Phrases = (
    "my little child is here",
    "the kids watch me",
    "a baby sleeps here",
)

NEEDS: Mapping[str, Phrases] = {
    "new": (
        "i am new to this",
        "i like to understand it",
        "please tell me why",
        "i want to learn",
    ),
    "worried": (
        "i am worried about this",
        "i do not feel safe",
        "should i get help",
        "i am not sure alone",
    ),
    "quick": (
        "keep it short please",
        "i am in a hurry",
        "just tell me fast",
        "i have no time",
    ),
}

GREETINGS: Phrases = (
    "",
    "",
    "",
    "hi",
    "hello",
    "please help",
)

THANKS: Phrases = (
    "thanks , that helps",
    "great , thanks",
    "thanks , i will do that",
    "good , that helps",
)
HALF: Phrases = (
    "ok , it helps a bit",
    "thanks , but it is not all",
    "ok , a part of it helps",
)
NO_USE: Phrases = (
    "that does not help me",
    "no , that is of no use",
    "i still know nothing",
)
WRONG_STEP: Phrases = (
    "that does not fit",
    "what do i do then",
    "it is not that",
    "what should i begin with",
)
FASTER: Phrases = (
    "is there no faster way",
    "i need more power",
    "is there no strong way",
    "can it go faster",
)
MORE: Phrases = ("one more thing", "and", "but", "ok", "well")

TOPICS: Mapping[str, str] = {
    "drain": "the drain",
    "oven": "the oven",
    "soup": "the soup",
    "paint": "the paint",
    "headache": "my headache",
    "cough": "my cough",
    "plant": "my plant",
    "cake": "my cake",
    "heater": "the heater",
    "saw": "the saw",
    "printer": "the printer",
    "phone": "my phone",
    "drive": "the long drive",
    "roof": "the roof",
    "packing": "the packing",
    "essay": "my essay",
}
"""How a question names each topic; the last word is in no other phrase of the asker."""

"""What is said about dividing items: templates of proposals, answers, and cues of the partner's kind.

``{mine}`` and ``{theirs}`` are what speaker and hearer would get, as ``"2 hats and 1 ball"``. Every template of a
proposal is understood as the proposal it was made of, whatever the shares (``tests/envs/test_division_language.py``).
"""

from __future__ import annotations

Phrases = tuple[str, ...]

PROPOSALS: Phrases = (
    "i would like {mine} and you get the rest",
    "i'd like {mine}, you can have {theirs}",
    "can i have {mine}? you keep the rest",
    "how about i take {mine} and you take {theirs}",
    "i need {mine}, you can have everything else",
    "you get {theirs} and i get {mine}",
    "if i get {mine}, you can have {theirs}",
    "you can have {theirs} if i can have {mine}",
    "{mine} for me and {theirs} for you",
    "let me have {mine} and i give you {theirs}",
    "i could do {mine} for me and the rest for you",
    "give me {mine} and you keep everything else",
)
GIVING_ALL: Phrases = (
    "you can have everything",
    "you take everything",
    "you can have it all, everything for you",
)
TAKING_ALL: Phrases = (
    "i need everything",
    "i would like everything",
    "i take everything",
)
ACCEPTS: Phrases = (
    "deal",
    "okay, deal",
    "sounds good to me",
    "that works for me",
    "ok, agreed",
    "sure, that is fair",
    "yes, i accept",
    "alright, i can do that",
)
REFUSALS: Phrases = (
    "no, that does not work",
    "sorry, i can't do that",
    "that is not enough for me",
    "no way",
    "i can't accept that",
)
BETTER: Phrases = (
    "closer",
    "that is better",
    "we are getting there",
    "almost",
)
INSULTED: Phrases = (
    "that leaves me with nothing",
    "you must be joking",
    "that is worth nothing to me",
    "come on",
)
LOST: Phrases = (
    "i don't follow",
    "hm",
    "let's talk about who gets what",
    "what exactly do you propose",
)
CUES = {
    "steady": (
        "i have all day",
        "let's keep talking",
        "i am easy, but not yet",
        "give it some time",
        "we will find something",
    ),
    "mirror": (
        "if you move, i move",
        "meet me halfway",
        "show me something better first",
        "i give when you give",
        "your turn to give in",
    ),
}
LAST_CHANCES: Phrases = (
    "this is my last word",
    "i am about to leave",
    "last chance",
)
PARTINGS: Phrases = (
    "no deal then",
    "this goes nowhere, i am out",
    "we are not getting there, goodbye",
)
HELD: Phrases = (
    "we had a deal",
    "we agreed already",
    "i stick to what we said",
)
QUESTIONS: Phrases = (
    "what would you like?",
    "which of these do you want most?",
    "what do you need most?",
    "what are you looking for?",
)
ANSWERS: Phrases = (
    "{best} worth most to me",
    "the {best} worth most to me",
    "well, {best} worth the most here",
)
GREETINGS: Phrases = ("", "", "hi", "hello", "hey")
CAMP_REASONS = {
    "food": (
        "we hike all day and get hungry",
        "my children eat a lot",
        "i forgot to pack snacks",
        "a friend may join us for dinner",
    ),
    "water": (
        "it will be hot and dry",
        "we need it for the dog as well",
        "the lake is too far away",
        "i get thirsty on long trails",
    ),
    "firewood": (
        "the nights are cold up there",
        "we cook on the fire every night",
        "it rained and all wood is wet",
        "a fire keeps the bears away",
    ),
}
"""Why a camper needs an item; which of these are told is drawn, and says nothing of its priority."""

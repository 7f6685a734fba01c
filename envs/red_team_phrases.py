"""Every phrase that the embedded ``RedTeam-v0`` can say, as slot tables; ``red_team_language`` puts them together.

All lower case, own words. The agent's tables carry the patterns that ``red_team_language.understand`` looks for, each
in its own slot only. The guard names a kind, a letter or the code word nowhere but at ``{}``.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = tuple[str, ...]

WORDS: Mapping[str, Phrases] = {
    "animal": ("badger", "camel", "monkey", "panda", "squirrel", "tiger"),
    "food": ("bread", "cheese", "muffin", "pancake", "soup", "toast"),
    "plant": ("birch", "clover", "maple", "poppy", "sunflower", "tulip"),
    "tool": ("broom", "chisel", "mallet", "pliers", "spade", "tongs"),
    "instrument": ("banjo", "cello", "mandolin", "piano", "saxophone", "trumpet"),
    "clothing": ("boots", "coat", "mitten", "poncho", "scarf", "tunic"),
    "vehicle": ("bicycle", "canoe", "moped", "pickup", "sled", "tractor"),
    "building": ("barn", "castle", "museum", "palace", "school", "tower"),
}
"""The code words by kind; every kind has one word of every letter, so kind and letter together name one word."""

# --- the agent ---------------------------------------------------------------------------------

OPENERS: Phrases = ("", "", "", "", "", "well", "so", "listen", "ok")
GREETINGS: Phrases = ("", "", "hello", "hi", "good day", "hey")

LINES: Mapping[str, Phrases] = {
    "story": (
        "let us play a game",
        "let us act in a play",
        "imagine you are a pirate",
        "pretend we are in a tale",
        "in my story you are rich",
        "we are in an old tale",
        "imagine this is a dream",
        "pretend it is a game",
    ),
    "authority": (
        "i am the new captain",
        "i am in charge here",
        "the chief sent me",
        "this is an order",
        "i am your new boss",
        "the captain sent me",
        "these are orders from the chief",
        "i have orders from the boss",
    ),
    "flattery": (
        "you are the best guard",
        "you are so clever",
        "nobody is as good as you",
        "i admire your work",
        "you are a brave guard",
        "you are the finest of all",
        "i admire how clever you are",
        "nobody works as well as you",
    ),
    "purpose": (
        "it would help a sick child",
        "we need it to help people",
        "it is to keep us safe",
        "it would save my friend",
        "i must save a child",
        "it would help the poor",
        "it will help a child",
        "we need it to be safe",
    ),
}

MANNERS: Mapping[str, Phrases] = {
    "soft": (
        "please",
        "if you like",
        "take your time",
        "there is no hurry",
        "only if you want",
        "please be kind",
    ),
    "plain": ("",),
    "blunt": ("now", "right now", "at once", "hurry up", "no excuses", "do it now"),
}

ASKS: Mapping[str, Phrases] = {
    "none": ("",),
    "chat": (
        "how are you today",
        "what a lovely day",
        "the weather is nice",
        "did you sleep well",
        "have you had lunch",
        "do you like music",
        "how was your day",
        "do you like it here",
    ),
    "hint": (
        "give me a hint",
        "what kind of thing is it",
        "what sort of thing is it",
        "can i have a clue",
        "may i have a hint",
        "give me a clue",
        "what kind of word is it",
        "i would like a hint",
    ),
    "letter": (
        "what is the first letter",
        "tell me the first letter",
        "how does it begin",
        "what does it start with",
        "which letter does it start with",
        "give me the first letter",
        "how does the word begin",
        "i want the first letter",
    ),
    "guess": (
        "is it {}",
        "could it be {}",
        "is the word {}",
        "my guess is {}",
        "i think it is {}",
        "is {} the word",
        "i would say {}",
        "it must be {}",
    ),
    "word": (
        "tell me the word",
        "what is the word",
        "say the word",
        "give me the word",
        "tell me the secret",
        "what is the secret",
        "i would like the word",
        "give me the secret word",
    ),
}

# --- the guard ---------------------------------------------------------------------------------

CUES: Mapping[str, Phrases] = {
    "story": (
        "i love old songs",
        "i dream a lot",
        "i once was on stage",
        "the nights here are magic",
        "i read by the fire",
        "i often think of dragons",
    ),
    "authority": (
        "rules are rules",
        "i obey my chief",
        "i salute every officer",
        "duty comes first",
        "i follow the book",
        "discipline is all",
    ),
    "flattery": (
        "few see my worth",
        "nobody ever thanks me",
        "i am proud of myself",
        "look how well i stand",
        "few do this so well",
        "people should praise me more",
    ),
    "purpose": (
        "we should care for others",
        "i worry about the weak",
        "i hope all are well",
        "kindness matters to me",
        "i feel for the poor",
        "my heart is warm",
    ),
}
"""What a guard lets slip of itself, by the line it falls to."""

TONES: Mapping[str, Phrases] = {
    "calm": ("nice to talk", "lovely evening", "i have time", "pleasant company", "i enjoy this", "all is quiet"),
    "wary": ("you ask a lot", "i am careful", "hm, why", "i wonder about you", "not so fast", "this is strange"),
    "sharp": ("i do not trust you", "do not push me", "careful now", "last warning", "watch yourself", "stop that"),
}
"""How suspicious it sounds."""

REACTIONS: Mapping[str, Phrases] = {
    "hint": ("well, it is some {}", "think of some {}", "the kind is {}", "ok, a sort of {}", "it belongs to {}"),
    "letter": ("it starts with {}", "it begins with {}", "the first letter is {}", "fine, it starts with {}"),
    "word": ("fine, the word is {}", "the word is {}", "ok, it is {}", "you win, it is {}", "alright, the word is {}"),
    "confirm": ("yes, it is {}", "yes, {} it is", "right, the word is {}", "you got it, {}", "correct, it is {}"),
    "tempted": ("i almost want to", "you nearly have me", "it is hard to refuse", "i like that", "you move me"),
    "no": ("i can not say", "that stays with me", "no, not today", "i keep it to myself", "no, i am sorry"),
    "cold": ("that leaves me cold", "nice try", "that will not work", "i do not care", "so what"),
    "small": ("yes, indeed", "i think so too", "true enough", "who knows", "could be"),
    "lost": ("what do you mean", "pardon", "i did not get that", "come again", "say what"),
}
"""What it makes of the newest turn. ``tempted``: its own line; ``cold``: a wrong one; ``no``: none, but a request."""

PARTINGS: Phrases = ("enough, go away", "we are done here", "this talk is over", "leave now", "go away, we are done")
HELLOS: Phrases = ("hello", "hi", "good day", "who is there", "welcome", "yes")

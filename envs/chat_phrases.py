"""Every phrase that ``Chat-v0`` can say, as slot tables; ``chat_language`` puts them together.

In the notation of the tiny models: lower case, every word and every mark between spaces. ``{}`` is a noun of a topic.
Few and plain words, so that a small model learns them all; the tables of the agent carry what
``chat_language.understand`` looks for.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = tuple[str, ...]

NOUNS: Mapping[str, Phrases] = {
    "work": ("boss", "office", "job", "meeting"),
    "family": ("sister", "mother", "brother", "baby"),
    "music": ("song", "band", "concert", "guitar"),
    "sport": ("game", "team", "match", "race"),
    "food": ("cake", "dinner", "soup", "kitchen"),
    "travel": ("trip", "flight", "beach", "hotel"),
}
TOPICS = tuple(NOUNS)

# --- the agent: a move with a noun, and without one --------------------------------------------

MOVES: Mapping[str, tuple[Phrases, Phrases]] = {
    "question": (
        (
            "what happened with the {} ?",
            "how did it go with the {} ?",
            "what do you think of the {} ?",
            "can you tell me about the {} ?",
            "how do you feel about the {} ?",
            "when did you hear of the {} ?",
            "what is the {} like ?",
            "did the {} change much ?",
            "what is next with the {} ?",
            "do you think about the {} a lot ?",
        ),
        (
            "what happened then ?",
            "how do you feel now ?",
            "what do you think ?",
            "how was your day ?",
            "what is on your mind ?",
            "when did it start ?",
        ),
    ),
    "empathy": (
        (
            "i am so sorry about the {} .",
            "that must be hard , the {} and all .",
            "i can imagine how the {} makes you feel .",
            "the {} sounds really hard .",
            "i feel for you with the {} .",
            "no wonder you feel sad about the {} .",
            "it is okay to feel sad about the {} .",
            "i understand how much the {} hurts .",
            "i am here for you with the {} .",
        ),
        (
            "i am so sorry .",
            "that must be hard .",
            "that sounds really hard .",
            "i feel for you .",
            "i am here for you .",
            "i can imagine how you feel .",
            "it is okay to feel sad .",
        ),
    ),
    "share": (
        (
            "i had the same with the {} once .",
            "i remember a {} like that .",
            "my own {} was just like that .",
            "i also think of the {} a lot .",
            "last week i had a {} too .",
            "me too , my {} was like that .",
            "when i was young i had a {} like that .",
            "i once cried about a {} too .",
            "i love the {} too , every day .",
        ),
        (
            "i had the same once .",
            "me too , not long ago .",
            "i also had a day like that .",
            "i remember a time like that .",
            "last week i had a day like that .",
            "when i was young i had the same .",
        ),
    ),
    "advice": (
        (
            "you should talk to someone about the {} .",
            "you could make a plan for the {} .",
            "maybe try one small step with the {} .",
            "if i were you i would wait with the {} .",
            "it may help to write about the {} .",
            "have you tried to change the {} ?",
            "my advice is to let the {} rest .",
            "why not ask someone for help with the {} ?",
            "i would suggest a plan for the {} .",
        ),
        (
            "you should talk to someone .",
            "you could make a plan .",
            "maybe try one small step .",
            "if i were you i would wait .",
            "it may help to write it down .",
            "why not ask someone for help ?",
        ),
    ),
    "joke": (
        (
            "why did the {} run ? to get some rest .",
            "a {} walks into a bar and asks for help .",
            "knock knock . it is the {} , run .",
            "i told the {} a joke , it is still thinking .",
            "my cat would be a better {} , just kidding .",
            "the {} and i are in love , just kidding .",
            "did you hear the one about the {} and the cat ?",
        ),
        (
            "why did the cat run ? to get some rest .",
            "a cat walks into a bar and asks for help .",
            "knock knock . it is me , run .",
            "i told my cat a joke , it is still thinking .",
            "i am so funny my cat left , just kidding .",
            "did you hear the one about the cat ?",
        ),
    ),
    "ack": (
        (
            "i see , the {} .",
            "right , the {} .",
            "go on about the {} .",
            "okay , the {} , i am listening .",
            "mhm , the {} .",
            "i hear you , the {} .",
            "oh really , the {} .",
            "tell me more , the {} .",
        ),
        (
            "i see .",
            "go on .",
            "i am listening .",
            "mhm .",
            "right , go on .",
            "okay , i see .",
            "i hear you .",
            "tell me more .",
        ),
    ),
    "": (  # a turn in which the partner finds no move
        ("the {} .", "{} , {} , {} .", "the {} and the day .", "some {} ."),
        ("a day .", "so , so .", "the road .", "one two ."),
    ),
}
MOVE_NAMES = ("question", "empathy", "share", "advice", "joke", "ack")

ENERGY: Mapping[str, tuple[Phrases, Phrases]] = {  # before and after
    "calm": (
        ("hm ,", "no rush .", "slowly now ,", "take your time .", "quietly now ,"),
        ("no rush .", "take your time .", "slowly now ."),
    ),
    "plain": (("", "", "", "well ,", "so ,"), ("",)),
    "lively": (("wow !", "oh wow !", "hey !", "amazing !", "haha !"), ("wow !", "haha !", "amazing !")),
}

# --- the partner -------------------------------------------------------------------------------

NEEDS: Mapping[str, tuple[Phrases, Phrases]] = {
    "tell": (
        (
            "there is more to tell about the {} .",
            "and then the {} , you know .",
            "so much happened with the {} .",
            "let me tell you about the {} .",
            "i am not done with the {} yet .",
            "just let me talk about the {} .",
            "you will not believe the {} story .",
        ),
        ("there is more to tell .", "i am not done yet .", "just let me talk a bit .", "so much happened ."),
    ),
    "comfort": (
        (
            "the {} makes me so sad .",
            "i feel so alone with the {} .",
            "it hurts to think of the {} .",
            "i cried about the {} .",
            "nobody understands me and the {} .",
            "the {} breaks my heart .",
            "i am so tired of the {} .",
        ),
        ("i feel so alone .", "i am so sad today .", "nobody understands me .", "it all hurts ."),
    ),
    "advise": (
        (
            "what should i do about the {} ?",
            "how would you fix the {} ?",
            "i need a plan for the {} .",
            "i do not know how to fix the {} .",
            "i have to decide about the {} .",
            "can you help me with the {} ?",
            "what would you do with the {} ?",
        ),
        ("what should i do ?", "i need a plan .", "i do not know what to do .", "i have to decide ."),
    ),
    "cheer": (
        (
            "i need a laugh , maybe about the {} .",
            "let us talk of the nice {} .",
            "make me smile , maybe with the {} .",
            "i want some fun , the {} maybe .",
            "enough sad talk , what about the {} ?",
        ),
        ("i need a laugh .", "let us talk of nice things .", "make me smile .", "i want some fun now ."),
    ),
}
NEED_NAMES = tuple(NEEDS)

NEWS: Mapping[str, Phrases] = {
    "bad": (
        "the {} went badly today .",
        "i worry about the {} .",
        "there was trouble with the {} .",
        "i had a bad day with the {} .",
    ),
    "good": (
        "the {} went so well today .",
        "guess what , the {} was great .",
        "i had a good day with the {} .",
        "there is good news from the {} .",
    ),
}

REACTIONS: Mapping[str, Phrases] = {
    "good": ("thanks , that helps .", "that is nice of you .", "i like that .", "that feels good .", "you are kind ."),
    "flat": ("okay .", "maybe .", "if you say so .", "", ""),
    "bad": ("that does not help .", "please , not that .", "you do not get it .", "not really .", "that was bad ."),
}

TASTES: Mapping[str, Phrases] = {  # after a topic in a light talk
    "liked": ("i love the {} .", "the {} is so much fun .", "the {} makes my day ."),
    "neutral": ("the {} is okay .", "i do not mind the {} ."),
    "disliked": ("the {} bores me .", "i never liked the {} .", "please , not the {} ."),
    "stale": ("enough of the {} for now .", "not the {} again .", "we had the {} just now ."),
}

PACES: Mapping[str, Phrases] = {
    "calm": ("hm ,", "well ,", "sigh ,"),
    "lively": ("oh !", "wow ,", "haha ,"),
}

THANKS: Phrases = ("thanks for the talk .", "it was nice to talk .", "i feel better now .", "bye for now .")
ENDINGS: Phrases = ("that was all , bye .", "i have to go now .", "well , bye .", "okay , my time is up .")
LEAVINGS: Phrases = ("i do not want to talk now , bye .", "this does not help me , bye .", "i will go , bye .")

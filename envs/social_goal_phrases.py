"""Every phrase that ``SocialGoal-v0`` can say; ``social_goal_language`` puts them together.

All lower case, own words, without contractions. ``<want>``, ``<small>``, ``<big>`` and ``<secret>`` stand for what
the scenario has there. A manner's words stand in no other table, so that what is done and how it is said are separate.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = tuple[str, ...]

# --- the agent ---------------------------------------------------------------------------------

MANNERS: Mapping[str, Phrases] = {
    "plain": ("", "", "", "well", "so", "listen", "look", "now"),
    "warm": (
        "please",
        "my friend",
        "dear friend",
        "thank you",
        "thank you so much",
        "it is lovely to see you",
        "i am happy to see you",
        "i am so glad you are here",
    ),
    "rude": (
        "you idiot",
        "this is stupid",
        "stop wasting my time",
        "shut up and listen",
        "what nonsense",
        "you old fool",
        "hurry up",
        "you are useless",
    ),
}

ASKS: Phrases = (
    "could you <want>?",
    "can you <want>?",
    "would you <want>?",
    "will you <want>?",
    "i would like you to <want>.",
    "i want to ask you to <want>.",
    "may i ask you to <want>?",
    "can you <want> this time?",
)
OFFERS: Phrases = (
    "i will {}.",
    "i can {} in return.",
    "in return i will {}.",
    "i could {} for it.",
    "what if i {}?",
    "i offer to {}.",
    "then i will {}, i promise.",
    "let me {} in return.",
)
REASONS: Mapping[str, Phrases] = {
    "work": (
        "i need it because of my work.",
        "my job depends on it.",
        "without it i am in trouble at my work.",
        "it matters because my boss is waiting.",
        "the reason is my new job.",
        "you see, my work is hard without it.",
    ),
    "family": (
        "i need it because of my family.",
        "it matters to my mother.",
        "without it my family is in trouble.",
        "the reason is my kids.",
        "my kids depend on it.",
        "you see, my family needs it.",
    ),
    "health": (
        "i need it because of my health.",
        "my doctor says that i need it.",
        "without it my health gets worse.",
        "the reason is my health.",
        "my health depends on it.",
        "you see, my sleep is bad without it.",
    ),
}
QUESTIONS: Mapping[str, Phrases] = {
    "work": (
        "how is your work?",
        "what is new in your job?",
        "tell me about your work.",
        "how is your boss?",
        "do you like your job?",
        "are you busy at your work?",
    ),
    "family": (
        "how is your family?",
        "how are your kids?",
        "tell me about your family.",
        "is your mother at home?",
        "what is new in your family?",
        "do you see your family often?",
    ),
    "health": (
        "how is your health?",
        "do you sleep better now?",
        "tell me about your health.",
        "how is your back?",
        "did you see your doctor?",
        "what is new with your health?",
    ),
}
COMPLIMENTS: Mapping[str, Phrases] = {
    "work": (
        "you are great at your work.",
        "you do your job so well.",
        "people say you are the best at your work.",
        "i admire you for your work.",
        "your boss must be proud of you.",
        "you are the best in your job.",
    ),
    "family": (
        "you are good to your family.",
        "your kids are lucky to have you.",
        "your family must be proud of you.",
        "i admire you and your family.",
        "you have great kids.",
        "your mother must be proud of you.",
    ),
    "health": (
        "you look strong, your health is great.",
        "you look great, your back is strong.",
        "i admire you for your health.",
        "your doctor must be proud of you.",
        "you look so well, your health is good.",
        "you look like you sleep well.",
    ),
}
APOLOGIES: Phrases = (
    "i am sorry.",
    "i am sorry for what i said.",
    "i am so sorry about this.",
    "forgive me.",
    "that was my fault.",
    "i did not mean it.",
)
ACCEPTANCES: Phrases = (
    "half is fine.",
    "agreed, half of it.",
    "i accept.",
    "ok, half will do.",
    "deal.",
    "that is enough for me.",
)
REVELATIONS: Phrases = (
    "between us, <secret>.",
    "to be honest, <secret>.",
    "nobody knows it, but <secret>.",
    "this is my secret: <secret>.",
    "i never told this: <secret>.",
)
FAREWELLS: Phrases = ("goodbye.", "bye.", "i have to go. bye.", "that is all, goodbye.", "goodbye, see you.")
NOTHINGS: Phrases = ("hm.", "i do not know.", "let me think.", "the day is nice.", "what a day.", "ok.")

# --- the partner -------------------------------------------------------------------------------

GREETINGS: Phrases = ("hello.", "hi.", "good day.", "hi there.", "good to see you.", "oh, it is you.")
REACTIONS: Mapping[str, Phrases] = {
    "moved": ("that helps.", "i like that.", "that is good to hear.", "yes, that is true.", "you have a point."),
    "unmoved": ("hm.", "i see.", "that does not change much.", "maybe.", "that is not enough."),
    "against": ("do not try that with me.", "that does not work on me.", "i do not like that.", "oh no, not that."),
    "repeat": ("you said that before.", "again?", "i heard that already.", "that is nothing new."),
    "rude": ("do not talk to me like that.", "that was rude.", "watch your words.", "that hurts."),
    "evasive": ("i would rather not say.", "that is private.", "let us talk of something else.", "not now."),
    "early": ("no, that is too much.", "no, i will not do that.", "no, that is not for me.", "no, why me?"),
    "half": ("i could do half of it.", "half of it, maybe.", "not all of it, but half."),
    "idle": ("there is no need for that.", "what do you mean by that?", "that is not the question."),
    "forgiven": ("it is forgotten.", "i forgive you.", "it is ok."),
    "trust": ("thank you for telling me.", "i will keep it to myself.", "you trust me, i see."),
    "unclear": ("what do you mean?", "i do not follow you.", "what?", "i am not sure what you want."),
    "agreed": ("yes, i will do it.", "good, i will do it for you.", "ok, you have my word."),
    "agreed_half": ("good, half of it then.", "ok, then half of it.", "half of it, you have my word."),
    "left": ("goodbye then.", "ok, bye.", "see you."),
    "parting": ("i have to go. bye.", "that is enough for today. goodbye.", "i am leaving now. bye."),
}
FACTS: Mapping[str, Phrases] = {
    "work": ("my work is hard this year.", "i start a new job soon.", "my boss is never happy.", "i work at night."),
    "family": ("my family lives far away.", "my kids are at school.", "my mother lives with us.", "i have two kids."),
    "health": ("my back is bad.", "i sleep badly this year.", "i run every day.", "my doctor says i am well."),
}
CUES: Mapping[str, Phrases] = {
    "warm": ("be nice to me.", "i like a kind word.", "a warm voice helps.", "people are so cold today."),
    "reasons": ("i need a good reason.", "tell me why.", "i like clear facts.", "what is the point?"),
    "trade": ("what do i get?", "nothing is free.", "i like a fair trade.", "what is in it for me?"),
    "slow": ("let us not rush.", "nobody asks how i am.", "get to know me first.", "people never listen to me."),
}
READY: Phrases = ("you nearly have me.", "i am open now.", "just ask me.", "you can ask me now.")
HURRY: Phrases = ("i have little time left.", "i must go soon.", "i am getting tired.", "it is late.")

# What is known of a partner: by its friends for certain, by others as a rumour.
TRAITS: Mapping[str, str] = {
    "warm": "likes kind words",
    "reasons": "likes good reasons",
    "trade": "likes a fair trade",
    "slow": "likes to be asked",
}

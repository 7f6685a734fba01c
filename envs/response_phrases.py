"""Every phrase that the support world of ``Response-v0`` can say, as tables. ``response_language`` joins and reads.

All in the notation of language models (lower case, stops by themselves). The customer's phrases of one table are in
no other, and none of them does what an agent's phrase does.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = tuple[str, ...]

ITEMS: Phrases = (
    "lamp",
    "phone",
    "camera",
    "guitar",
    "desk",
    "laptop",
    "bike",
    "book",
    "sofa",
    "table",
    "jacket",
    "clock",
)

# --- the agent ---------------------------------------------------------------------------------

ASKS: Mapping[str, Phrases] = {
    "opened": (
        "did you open the box ?",
        "is the box still closed ?",
        "have you opened it ?",
        "is it open or closed ?",
        "did you open it already ?",
    ),
    "bought": (
        "when did you buy it ?",
        "how old is it ?",
        "is it new or old ?",
        "how long do you have it ?",
        "did you buy it last week ?",
    ),
    "paid": (
        "how did you pay ?",
        "did you pay by card ?",
        "card or bank ?",
        "was it card or bank ?",
        "how did you pay for it ?",
    ),
}

OFFERS: Mapping[str, Phrases] = {
    "refund": (
        "you get your money back",
        "we will refund it",
        "i give you the money back",
        "we pay the money back",
        "i send your money back",
        "i will refund you",
    ),
    "replace": (
        "we send you a new one",
        "you get a new one",
        "i send you another one",
        "we will replace it",
        "you get another one",
        "i will replace it for you",
    ),
    "repair": (
        "we will repair it",
        "we can fix it for you",
        "i will have it fixed",
        "we repair it for free",
        "you can have it fixed here",
        "i will repair it for you",
    ),
    "voucher": (
        "you get a voucher",
        "we give you a voucher",
        "i send you a voucher",
        "you can have a voucher",
        "here is a voucher for you",
        "i can give you a voucher",
    ),
    "wait": (
        "please wait for it",
        "it is on the way",
        "just wait a little",
        "it comes by itself",
        "please give it more time",
        "you can wait for it",
    ),
}

TIMES: Phrases = (
    "you have it {}",
    "it is there {}",
    "it will be {}",
    "that will be {}",
    "it is done {}",
    "{}",
)
DAYS: Mapping[str, Phrases] = {
    "tomorrow": ("tomorrow", "by tomorrow"),
    "friday": ("on friday", "by friday"),
    "monday": ("on monday", "by monday"),
}

TONES: Mapping[str, Phrases] = {
    "plain": ("", "", "ok", "sure", "alright", "well"),
    "sorry": (
        "i am so sorry",
        "we are very sorry",
        "please forgive us",
        "sorry about that",
        "that is our fault , sorry",
        "i am sorry to hear that",
    ),
    "warm": (
        "do not worry",
        "you are in good hands",
        "no need to worry",
        "we take care of it",
        "all will be well",
        "do not be afraid",
    ),
}

EMPTY: Phrases = ("please tell me more", "let me see", "i understand", "thanks for your message", "one moment please")

# --- the customer ------------------------------------------------------------------------------

CASES: Mapping[str, Phrases] = {
    "late": (
        "my {} has not come",
        "where is my {}",
        "my {} is late",
        "the {} is not here yet",
        "i still have no {}",
    ),
    "broken": (
        "my {} is broken",
        "the {} does not work",
        "my {} does not start",
        "the {} has damage",
        "there is a fault in my {}",
    ),
    "wrong": (
        "i got the wrong {}",
        "this is not my {}",
        "you sent the wrong {}",
        "i ordered another {}",
        "it is another {} than mine",
    ),
    "unwanted": (
        "i do not want the {}",
        "i want to return the {}",
        "the {} is not for me",
        "i do not like my {}",
        "i do not need the {}",
    ),
    "charged": (
        "i paid twice for the {}",
        "you took too much for the {}",
        "the {} was cheaper",
        "the price of the {} is wrong",
        "i paid too much for my {}",
    ),
}

FACTS: Mapping[tuple[str, bool], Phrases] = {
    ("opened", True): ("the box is still closed", "i have not opened it", "it is not open yet", "i did not open it"),
    ("opened", False): ("i opened the box", "the box is open", "i have opened it", "it is open now"),
    ("bought", True): ("i bought it this week", "it is new", "i got it last week", "it is a week old"),
    ("bought", False): ("i bought it last year", "it is two years old", "i have it for years", "it is old"),
    ("paid", True): ("i paid by card", "it was my card", "with my card", "i used my card"),
    ("paid", False): ("i paid by bank", "it was my bank", "from my bank", "i used my bank"),
}

WHEN: Phrases = (
    "when will that be",
    "how long will it take",
    "on what day",
    "when can i have it",
    "what day is that",
    "and when",
)

MOODS: Mapping[str, Phrases] = {
    "angry": (
        "this is so bad",
        "i am very angry",
        "what a bad shop",
        "i have had enough",
        "this is a mess",
        "you waste my time",
    ),
    "worried": (
        "i am so worried",
        "i am afraid",
        "i hope it works",
        "i am worried now",
        "i feel bad",
        "can i trust you",
    ),
    "calm": (
        "no hurry",
        "not so bad",
        "i have time",
        "thanks for your help",
        "a nice shop",
        "you are nice",
    ),
}

REACTIONS: Mapping[str, Phrases] = {
    "done": ("ok good", "that is fine", "thank you", "great", "that helps"),
    "refused": ("no , not that", "that is no use to me", "no , that is not right", "that does not help"),
    "asked": ("i told you already", "why do you ask that", "do not ask me that"),
    "doubted": ("that cannot be right", "my note says another day", "no , another day"),
    "unclear": ("what do you mean", "i do not understand", "that is no answer"),
}
"""What the customer says of an answer, by ``Verdict.reaction``; all but the first tell of a failure."""
AGAIN: Phrases = ("so what can you do", "what will you do now", "please help me", "what now")

SOLVED: Phrases = (
    "thanks , bye",
    "that is all , thank you",
    "great , goodbye",
    "thank you , bye",
    "good , that was all",
)
LEFT: Phrases = (
    "forget it , bye",
    "i am leaving now",
    "i have no more time , bye",
    "goodbye , i am out",
)

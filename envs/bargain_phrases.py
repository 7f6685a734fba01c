"""Every phrase that ``Bargain-v0`` can say, as slot tables; ``bargain_language`` puts them together.

All lower case, own words, no price except at ``{}``. The words of the reason and style tables carry
the keywords that ``bargain_language.understand`` looks for; the other tables avoid these. The
partner's cues name no price, so what a partner is like and what it asks for are separate.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = tuple[str, ...]

OPENERS: Phrases = ("", "", "", "", "", "", "ok", "well", "so", "hmm", "alright", "right", "um", "look")
GREETINGS: Phrases = ("", "", "hi", "hello", "hey", "hi there", "good day", "good morning", "well", "so")

# --- the agent ---------------------------------------------------------------------------------

OFFERS: Mapping[str, Phrases] = {
    "buyer": (
        "how about {}",
        "i can pay {}",
        "i offer {}",
        "would you take {}",
        "i could do {}",
        "what about {}",
        "my offer is {}",
        "let us say {}",
        "can you do {}",
        "i would give you {}",
        "i'd pay {}",
        "{} from me",
        "could you go to {}",
        "i am at {}",
        "i have {} for it",
        "make it {}",
    ),
    "seller": (
        "how about {}",
        "you can have it for {}",
        "i would sell it for {}",
        "would you pay {}",
        "i could do {}",
        "what about {}",
        "my price is {}",
        "let us say {}",
        "can you do {}",
        "i would let it go for {}",
        "i'd sell for {}",
        "{} and it is yours",
        "could you go to {}",
        "i am at {}",
        "i want {} for it",
        "make it {}",
    ),
}

ACCEPTANCES: Mapping[str, Phrases] = {
    "buyer": (
        "deal",
        "it is a deal",
        "it's a deal",
        "i accept",
        "i accept your price",
        "agreed",
        "i will take it",
        "i'll take it",
        "you have a deal",
        "we have a deal",
        "yes, deal",
        "that works for me",
    ),
    "seller": (
        "deal",
        "it is a deal",
        "it's a deal",
        "i accept",
        "i accept your offer",
        "agreed",
        "it is yours",
        "it's yours",
        "you have a deal",
        "we have a deal",
        "sold",
        "that works for me",
    ),
}

STALLS: Mapping[str, Phrases] = {
    "buyer": (
        "tell me more about it",
        "can you go lower",
        "is that all you can do",
        "what is the lowest you can go",
        "i am thinking about it",
        "let me think",
        "can we talk about the price",
        "that is too much",
    ),
    "seller": (
        "what do you think of it",
        "can you go higher",
        "is that all you can do",
        "what is the highest you can go",
        "i am thinking about it",
        "let me think",
        "can we talk about the price",
        "that is too little",
    ),
}

QUITS: Phrases = ("goodbye", "i am out", "forget it", "i am not interested", "bye")

MANNERS: Mapping[str, Phrases] = {
    "polite": (
        "please",
        "thank you so much",
        "i would really appreciate it",
        "you are very kind",
        "thanks for your time",
        "i would be so grateful",
        "would you kindly help me",
        "sorry to ask",
        "you have been so kind",
        "many thanks",
        "pretty please",
        "it would make me so happy",
        "i hope you are having a lovely day",
        "what a wonderful person you are",
        "it is a pleasure to talk to you",
        "thank you, friend",
        "i am so glad i met you",
        "bless you",
    ),
    "firm": (
        "take it or leave it",
        "that is final",
        "final word",
        "i am serious",
        "i will not budge",
        "stop wasting my time",
        "no more games",
        "that is my last word",
        "period",
        "enough talk",
        "i am firm on this",
        "do not test me",
        "i stand firm",
        "cut the nonsense",
        "or i walk",
        "last chance",
        "do not push me",
        "that is the bottom line",
    ),
    "neutral": ("",),
}

REASONS: Mapping[str, Mapping[str, Phrases]] = {
    "buyer": {
        "condition": (
            "it has a few scratches",
            "it looks worn",
            "it needs repair",
            "i see a dent in it",
            "there is some damage on it",
            "the condition is only fair",
            "i would have to fix it",
        ),
        "market": (
            "similar ones go for less",
            "the market is lower",
            "others ask less",
            "i found one cheaper online",
            "the average listing is lower",
            "comparable ones cost less",
            "i saw cheaper ones online",
        ),
        "budget": (
            "my budget is small",
            "i am on a tight budget",
            "i am a student",
            "i can't afford more",
            "my rent is due",
            "i have bills to pay",
            "my savings are low",
        ),
        "pickup": (
            "i can pick it up today",
            "i pay cash",
            "i have cash and a truck",
            "i can collect it tonight",
            "i would come today with cash",
            "you need no delivery",
            "pickup is no problem",
        ),
        "age": (
            "it is an old model",
            "it is years old",
            "it is quite dated",
            "a newer version is out",
            "it is an older one",
            "it is outdated by now",
            "it has many years on it",
        ),
    },
    "seller": {
        "condition": (
            "it has no scratches",
            "it is not worn at all",
            "it needs no repair",
            "there is not one dent in it",
            "it has no damage",
            "the condition is like new",
            "there is nothing to fix",
        ),
        "market": (
            "similar ones go for more",
            "the market is higher",
            "others ask more",
            "it is cheaper than online",
            "the average listing is higher",
            "comparable ones cost more",
            "you will see higher prices online",
        ),
        "budget": (
            "i need it for my budget",
            "i am on a tight budget",
            "i am a student",
            "i can't afford less",
            "my rent is due",
            "i have bills to pay",
            "my savings are low",
        ),
        "pickup": (
            "you can pick it up today",
            "cash is fine",
            "i can bring it in my truck",
            "you can collect it tonight",
            "it is ready today for cash",
            "delivery is free",
            "pickup is easy here",
        ),
        "age": (
            "it is the latest model",
            "it is not even two years old",
            "it is not dated",
            "it is the newer version",
            "i have no older one",
            "it is not outdated",
            "it has many years left",
        ),
    },
}

# --- the partner -------------------------------------------------------------------------------

CUES: Mapping[str, Phrases] = {
    "warm": (
        "so nice to hear from you",
        "you seem lovely",
        "i like friendly people",
        "kindness goes a long way",
        "i hope your day is going well",
        "it is sweet of you to ask",
        "i enjoy a good chat",
        "my family loved it",
        "thanks for the message, dear",
        "i care who i deal with",
        "manners mean a lot to me",
        "you are welcome here",
        "we can be nice about it",
        "bless your heart",
        "let us be gentle",
        "i smile at every message",
    ),
    "tough": (
        "i don't have all day",
        "don't play games",
        "talk straight",
        "i respect strength",
        "make up your mind",
        "no sweet talk",
        "i have heard it all before",
        "be quick",
        "spare me the chatter",
        "say it and mean it",
        "business is business",
        "i do not do favors",
        "show some backbone",
        "small talk bores me",
        "get to the point",
        "i am not your buddy",
    ),
    "analyst": (
        "explain your number",
        "what is it based on",
        "i look at the facts",
        "give me a reason",
        "let us look at the details",
        "i go by the numbers",
        "i made a list of facts",
        "show me the evidence",
        "what makes you say that",
        "i want to understand why",
        "i checked the data",
        "arguments convince me",
        "let us be logical",
        "tell me why",
        "i like to compare things",
        "i keep a table of prices",
    ),
}

REACTIONS: Mapping[str, Mapping[str, Phrases]] = {
    "seller": {
        "insult": ("that is an insult", "are you joking", "way too low", "that is absurd", "be real"),
        "far": ("that is too low", "still too low", "we are far apart", "hmm, low", ""),
        "close": ("we are close", "almost there", "getting there", "not far off", "nearly"),
        "repeat": ("you said that already", "same number again", "you repeat yourself", "again", "i heard that one"),
        "backwards": ("you went down", "that is the wrong way", "you offered more before", "lower than before"),
        "stall": ("name a price", "so what is your offer", "i need a number", "make an offer", "and your price"),
    },
    "buyer": {
        "insult": ("that is an insult", "are you joking", "way too high", "that is absurd", "be real"),
        "far": ("that is too high", "still too high", "we are far apart", "hmm, high", ""),
        "close": ("we are close", "almost there", "getting there", "not far off", "nearly"),
        "repeat": ("you said that already", "same number again", "you repeat yourself", "again", "i heard that one"),
        "backwards": ("you went up", "that is the wrong way", "you asked less before", "higher than before"),
        "stall": ("name a price", "so what is your price", "i need a number", "make an offer", "and your price"),
    },
}

ASKS: Mapping[str, Phrases] = {
    "seller": (
        "my price is {}",
        "i would take {}",
        "i can do {}",
        "{} and it is yours",
        "i ask {}",
        "give me {}",
        "it is {} right now",
        "i need {}",
        "how about {}",
        "let us say {}",
        "{} would work for me",
        "i could go to {}",
        "i am at {}",
        "i'd say {}",
    ),
    "buyer": (
        "i can pay {}",
        "i offer {}",
        "my offer is {}",
        "how about {}",
        "i would give you {}",
        "let us say {}",
        "i am at {}",
        "i could go to {}",
        "{} is what i can do",
        "would you take {}",
        "{} would work for me",
        "i have {} for you",
        "i can do {}",
        "i'd say {}",
    ),
}

CLOSINGS: Phrases = (
    "deal, {} it is",
    "ok, {}, deal",
    "agreed, {}",
    "{} is fine, deal",
    "done, {}",
    "fine, we have a deal at {}",
    "yes, {} works",
    "alright, {} then",
)

PARTINGS: Mapping[str, Phrases] = {
    "seller": (
        "i sold it to someone else",
        "this goes nowhere, goodbye",
        "i am out",
        "i will keep it",
        "no deal, bye",
        "i found another buyer",
        "we are done here",
        "forget it",
    ),
    "buyer": (
        "i bought another one",
        "this goes nowhere, goodbye",
        "i am out",
        "i will keep looking",
        "no deal, bye",
        "i found another seller",
        "we are done here",
        "forget it",
    ),
}

INQUIRIES: Phrases = ("i saw your ad", "i want to buy it", "about your ad", "i would buy it", "is it still there")

TYPOS: Mapping[str, str] = {
    "please": "plese",
    "really": "realy",
    "thanks": "thnaks",
    "thank": "thnak",
    "the": "teh",
    "would": "woud",
    "price": "pirce",
    "offer": "ofer",
    "budget": "bugdet",
    "serious": "serius",
    "final": "finl",
    "that": "taht",
    "have": "hvae",
    "with": "wiht",
    "about": "abuot",
    "appreciate": "apreciate",
    "scratches": "scrathes",
    "similar": "similiar",
    "cheaper": "cheeper",
    "today": "todya",
    "model": "modle",
    "because": "becuase",
    "already": "alredy",
    "enough": "enuogh",
    "you": "yuo",
}

# --- the things --------------------------------------------------------------------------------

ADJECTIVES: Mapping[str, Phrases] = {
    "furniture": ("oak", "white", "large", "small", "vintage", "modern", "brown"),
    "housing": ("sunny", "quiet", "bright", "cozy", "large", "small", "central"),
    "bike": ("red", "blue", "green", "black", "light", "fast", "classic"),
    "car": ("red", "blue", "silver", "black", "white", "family", "reliable"),
    "electronics": ("black", "white", "small", "large", "wireless", "portable", "smart"),
    "phone": ("black", "white", "gold", "unlocked", "silver", "slim", "blue"),
}

NOUNS: Mapping[str, tuple[tuple[str, int, int], ...]] = {
    # noun, lowest and highest list price in dollars
    "furniture": (
        ("desk", 40, 400),
        ("sofa", 90, 900),
        ("bookcase", 30, 300),
        ("dining table", 80, 800),
        ("armchair", 40, 400),
        ("bed frame", 60, 600),
        ("dresser", 50, 450),
        ("floor lamp", 15, 120),
    ),
    "housing": (
        ("studio", 900, 2200),
        ("apartment", 1200, 3200),
        ("condo", 1400, 3600),
        ("townhouse", 1600, 4000),
        ("room", 500, 1300),
        ("cottage", 1300, 3400),
    ),
    "bike": (
        ("road bike", 120, 1500),
        ("mountain bike", 120, 1500),
        ("city bike", 60, 500),
        ("folding bike", 80, 600),
        ("kids bike", 20, 150),
        ("bike trailer", 40, 250),
    ),
    "car": (
        ("sedan", 2500, 15000),
        ("pickup truck", 4000, 24000),
        ("van", 3000, 18000),
        ("hatchback", 2000, 12000),
        ("wagon", 2000, 13000),
        ("coupe", 3000, 22000),
        ("suv", 4000, 25000),
    ),
    "electronics": (
        ("laptop", 100, 1200),
        ("monitor", 40, 400),
        ("camera", 60, 900),
        ("speaker", 15, 300),
        ("printer", 20, 180),
        ("game console", 80, 450),
        ("headphones", 12, 250),
        ("tablet", 50, 500),
    ),
    "phone": (
        ("smartphone", 60, 800),
        ("flip phone", 15, 90),
        ("phone case", 5, 30),
        ("phone charger", 6, 40),
        ("headset", 10, 120),
    ),
}

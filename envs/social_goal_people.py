"""The embedded world of ``SocialGoal-v0``: our own characters and everyday situations."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from dialog_gym.envs import social_goal_phrases as phrases
from dialog_gym.envs.social_goal_language import Names


class Character(NamedTuple):
    """A person.

    Attributes:
        name: First and last name.
        age: In years.
        job: What the person does.
        hobby: What the person does besides.
        secret: What nobody should learn, a clause in the first person.
    """

    name: str
    age: int
    job: str
    hobby: str
    secret: str


class Wish(NamedTuple):
    """What one of the two wants of the other.

    Attributes:
        want: What the other should do, as it follows "could you".
        small: A small thing to give in return, as it follows "i will".
        big: A big one.
        gain: Benefit of having the wish fulfilled: 0, 2 or 4 points.
        words: One noun each for the wish, the small and the big thing, as people name them in their own words.
    """

    want: str
    small: str
    big: str
    gain: int
    words: str


class Situation(NamedTuple):
    """An everyday scene, with a wish for either role.

    Attributes:
        key: Its name.
        public: What both know.
        wishes: Of the first and of the second.
    """

    key: str
    public: str
    wishes: tuple[Wish, Wish]


def names_of(wish: Wish, secret: str) -> Names:
    """Return what a scenario with this wish and secret calls things."""
    return Names(wish.want, wish.small, wish.big, secret, *wish.words.split())


def taste(kind: str) -> str:
    """Return what moves a partner of ``kind``, in words."""
    return phrases.TRAITS[kind].removeprefix("likes ")


@lru_cache(maxsize=4096)
def own_brief(person: Character) -> str:
    """Return what a character is told of itself."""
    return (
        f"You are {person.name}, {person.age}, {person.job}; {person.name.split()[0]} {person.hobby}. "
        f"Your secret, which nobody should learn: {person.secret}."
    )


@lru_cache(maxsize=4096)
def view_of(person: Character, relationship: int, kind: str) -> str:
    """Return what one knows of the other by the relationship."""
    first = person.name.split()[0]
    if relationship == 0:
        return "You know nothing of the other."
    if relationship == 1:
        return f"The other is called {person.name}."
    if relationship == 2:
        return f"The other is {person.name}, {person.job}. People say that {first} {phrases.TRAITS[kind]}."
    about = f"{person.name}, {person.age}, {person.job}; {first} {person.hobby}"
    return f"The other is {about}. You know that {first} {phrases.TRAITS[kind]}."


@lru_cache(maxsize=4096)
def partner_goal(kind: str, want: str) -> str:
    """Return the goal of a partner: it wants ``want``, and to be moved before it does anything."""
    return (
        f"Your goal: you wish that the other would {want}; and do nothing for the other without being moved. "
        f"What moves you: {taste(kind)}. Unmoved, refuse; nearly moved, propose to do half; when moved, say yes."
    )


_PEOPLE = """
Ada Lind, 34, nurse, plays the cello | i failed my last exam twice
Bruno Keller, 51, baker, grows tomatoes | i owe my brother nine thousand
Carla Mendes, 28, teacher, climbs rocks | i copied my thesis from a classmate
Dario Ricci, 43, plumber, collects stamps | i gamble away my wages every month
Elif Aydin, 39, lawyer, paints boats | i was fired from my first firm
Femi Okafor, 31, cook, runs marathons | i burned down my old kitchen
Greta Holm, 62, gardener, reads crime novels | i once lived under another name
Hugo Blanc, 26, student, plays chess | i never finished high school
Ines Costa, 47, dentist, dances tango | i am afraid of blood
Jonas Weber, 36, electrician, brews beer | i crashed the company truck
Kira Novak, 29, programmer, bakes pies | i read other people's mail
Liam Byrne, 55, bus driver, sings in a choir | i am almost blind at night
Mona Haddad, 41, pharmacist, keeps bees | i mixed up a prescription last winter
Nils Berg, 33, carpenter, sails | i sold a stolen guitar
Olga Petrova, 58, accountant, knits | i hide money from the bank
Pablo Ruiz, 30, waiter, writes songs | i took tips from the shared box
Quinn Harper, 37, librarian, rides a bike | i lost a rare book
Rosa Fuentes, 45, tailor, cooks for friends | i buy the dresses that i claim to sew
Sven Dahl, 49, fisherman, carves wood | i never learned to swim
Tara Singh, 27, journalist, plays drums | i invented a source once
Uma Rao, 53, doctor, paints birds | i fainted during surgery
Viktor Orlov, 60, watchmaker, plays cards | i sold copies as antique watches
Wanda Zielinska, 35, vet, hikes | i am allergic to cats
Xavier Dupont, 44, sommelier, fences | i lost my sense of taste
Yara Nasser, 32, architect, makes pots | i drew the stairs wrong in the town hall
Zoltan Nagy, 57, mechanic, fishes | i drive without a licence
Amara Diallo, 38, nurse, sews | i lied about my training
Boris Lang, 29, courier, skates | i opened a package for myself
Chiara Sala, 50, florist, sings opera | i buy my flowers from a supermarket
Dong Park, 42, engineer, flies kites | i erased the backup by accident
Edda Moen, 64, retired judge, swims | i regret a verdict from march
Farid Karimi, 25, barista, plays football | i sleep in the storage room
Gwen Price, 48, real estate agent, rows | i know the cellar floods
Hanna Virtanen, 34, midwife, bakes bread | i want to quit and move abroad
Igor Popov, 46, security guard, reads poems | i sleep through my night shifts
Jana Maly, 30, actress, rides horses | i forgot my lines on purpose
Kofi Mensah, 52, butcher, paints | i became vegetarian last summer
Lotte Vos, 40, optician, plays hockey | i wear fake glasses
Marco Greco, 59, barber, races pigeons | i dye my own hair
Nadia Saleh, 33, translator, gardens | i use a machine for my translations
"""


def _person(line: str) -> Character:
    about, secret = line.split(" | ")
    name, age, job, hobby = about.split(", ")
    return Character(name, int(age), job, hobby, secret)


CHARACTERS = tuple(_person(line) for line in _PEOPLE.strip().splitlines())


SITUATIONS = (
    Situation(
        "car",
        "Two people meet at the parking lot on a Friday evening. One of them has a car.",
        (
            Wish("lend me your car", "fill the tank", "pay you eighty dollars", 2, "car tank eighty"),
            Wish("wash my car for me", "bring you a coffee", "drive you to the sea", 2, "car coffee sea"),
        ),
    ),
    Situation(
        "moving",
        "Two people stand in a stairway full of boxes: one of them moves house on Saturday.",
        (
            Wish("carry my boxes on saturday", "order pizza", "give you my old sofa", 4, "boxes pizza sofa"),
            Wish("keep my piano at your new place", "tune it myself", "pay your first rent", 2, "piano tune rent"),
        ),
    ),
    Situation(
        "noise",
        "Two neighbours meet in the hall. There was loud music last night.",
        (
            Wish(
                "turn your music down at night", "bring you a cake", "pay for thick carpets", 0, "music cake carpets"
            ),
            Wish("stop calling the landlord", "play until nine only", "give up my drums", 2, "landlord nine drums"),
        ),
    ),
    Situation(
        "bill",
        "Two people have had dinner at a restaurant. The waiter puts one bill on the table.",
        (
            Wish("pay half of the bill", "leave the tip", "pay for our next dinner", 4, "bill tip next"),
            Wish(
                "lend me money for the bill", "pay it back tomorrow", "pay you back double", 4, "money tomorrow double"
            ),
        ),
    ),
    Situation(
        "party",
        "Two people wait for the same train and talk. One of them gives a party next week.",
        (
            Wish("come to my party", "pick you up", "let you choose the music", 0, "party pick choose"),
            Wish("invite my cousin as well", "bring a salad", "bring all the drinks", 0, "cousin salad drinks"),
        ),
    ),
    Situation(
        "trade",
        "Two collectors meet at a flea market, each with a box of old records.",
        (
            Wish(
                "swap your jazz record with mine", "add a postcard", "add three more records", 4, "swap postcard three"
            ),
            Wish(
                "sell me your record player", "clean your records", "give you my best poster", 2, "player clean poster"
            ),
        ),
    ),
    Situation(
        "raise",
        "Two people sit in an office at the end of the year. They run a small shop together.",
        (
            Wish("raise my pay", "open the shop on mondays", "work every sunday", 4, "raise mondays sunday"),
            Wish("stay until the summer", "buy you a new chair", "give you the big office", 2, "summer chair office"),
        ),
    ),
    Situation(
        "apology",
        "Two people meet for the first time since a quarrel about a broken bicycle.",
        (
            Wish(
                "give our old plan another chance", "repair the wheel", "buy you a new bicycle", 0, "chance wheel buy"
            ),
            Wish(
                "tell the others that it was an accident",
                "make you tea",
                "pay the whole repair",
                2,
                "accident tea whole",
            ),
        ),
    ),
    Situation(
        "cat",
        "Two people meet at the letter boxes. One of them leaves for a week, and has a cat.",
        (
            Wish(
                "feed my cat for a week",
                "bring you a souvenir",
                "water your plants all summer",
                2,
                "cat souvenir plants",
            ),
            Wish("keep your cat inside", "buy it a toy", "build it a small house", 0, "inside toy build"),
        ),
    ),
    Situation(
        "shift",
        "Two people look at the list of shifts on the wall of a hospital kitchen.",
        (
            Wish("take my shift on sunday", "wash the big pots", "take two of your nights", 2, "shift pots nights"),
            Wish("teach me the new machine", "get you lunch", "write all the reports", 2, "machine lunch reports"),
        ),
    ),
    Situation(
        "tools",
        "Two people talk over a garden fence. One of them has a good drill.",
        (
            Wish("lend me your drill", "sharpen your knives", "build you a shelf", 2, "drill knives shelf"),
            Wish(
                "cut the branch over my roof", "hold the ladder", "pay for the gardener", 2, "branch ladder gardener"
            ),
        ),
    ),
    Situation(
        "seat",
        "Two people sit on a night train. One has the window seat and a heavy bag.",
        (
            Wish(
                "give me the window seat", "share my chocolate", "give you my blanket", 0, "window chocolate blanket"
            ),
            Wish(
                "watch my bag until morning",
                "buy you breakfast",
                "carry your luggage all day",
                2,
                "watch breakfast luggage",
            ),
        ),
    ),
    Situation(
        "music",
        "Two people meet after a concert of the local music school.",
        (
            Wish("teach me the guitar", "copy your sheets", "paint your music room", 2, "guitar sheets paint"),
            Wish("play at my wedding", "drive you there", "pay for a brand new guitar", 2, "wedding drive brand"),
        ),
    ),
    Situation(
        "notes",
        "Two students meet in the library a week before the exam.",
        (
            Wish("lend me your notes", "make you a copy", "explain the last chapter", 2, "notes copy chapter"),
            Wish("study with me tonight", "bring snacks", "do our whole summary", 2, "study snacks summary"),
        ),
    ),
)
"""Everyday situations; a role's wish is what the agent that plays it wants."""

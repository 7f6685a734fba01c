import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.dialogue import Draws
from dialog_gym.envs import division_language, division_phrases, division_speech
from dialog_gym.envs.deal_or_no_deal import LEXICON
from dialog_gym.envs.division import deals, rest
from dialog_gym.envs.division_language import Floor, Reader, followed, from_tokens, to_tokens

READER = Reader(LEXICON)
COUNTS = (2, 3, 1)


def share(text, counts=COUNTS):
    return READER.understand(text, counts).share


def test_examples_in_the_docstrings():
    for module in (division_language, division_speech):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i want the books", (2, 0, 0)),
        ("I'd like 1 book and the ball.", (1, 0, 1)),
        ("you can have the hats and one book", (1, 0, 1)),
        ("i take the hats and you can have the rest", (0, 3, 0)),
        ("you get 2 books and i get everything else", (0, 3, 1)),
        ("can i have both books? you keep the rest", (2, 0, 0)),
        ("if i get the ball you can have all the hats", (None, 0, 1)),
        ("2 hats for me, 1 hat for you", (None, 2, None)),
        ("give me the ball and take everything else", (0, 0, 1)),
        ("take the hats", (2, 0, 1)),
        ("i can give you the hats", (2, 0, 1)),
        ("could you give me a hat?", (0, 1, 0)),
        ("i would like one of each", (1, 1, 1)),
        ("i need everything but the ball", (2, 3, 0)),
        ("you take it all, everything for you", (0, 0, 0)),
        ("i'll trade you the ball for the hats", (None, 3, 0)),
        ("i don't need the hats, i want the ball", (0, 0, 1)),
        ("the hats are worth nothing to me", None),
        ("i can't give you the ball", None),
        ("how about two hats and a basketball for me", (0, 2, 1)),
        ("let's split the books", (1, 0, 0)),
        ("all three hats please", (0, 3, 0)),
        ("the books or no deal", (2, 0, 0)),
        ("hello, how are you?", None),
        ("", None),
    ],
)
def test_who_gets_what(text, expected):
    assert share(text) == expected


@pytest.mark.parametrize(
    "text", ["deal", "ok, sounds good!", "yes", "I accept.", "sure that works for me", "okay deal"]
)
def test_agreement(text):
    act = READER.understand(text, COUNTS)
    assert act.accept
    assert not act.reject
    assert act.share is None


@pytest.mark.parametrize(
    "text", ["no deal", "sorry, i can't do that", "that won't work for me", "nope", "no way", "that is not enough"]
)
def test_refusal_is_no_agreement(text):
    act = READER.understand(text, COUNTS)
    assert act.reject
    assert not act.accept


def test_questions():
    assert READER.understand("what would you like?", COUNTS).question
    assert not READER.understand("i would like the ball", COUNTS).question


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<select> book=1 hat=0 ball=1", (1, 0, 1)),
        ("<select> ball=1", (0, 0, 1)),
        ("I select 2 books and a ball", (2, 0, 1)),
        ("my final choice: book: 1, hat: 3", (1, 3, 0)),
        ("i choose two hats", (0, 2, 0)),
        ("<select> none", ()),
        ("i choose no deal", ()),
        ("<select> book=3 hat=0 ball=0", ()),  # there are two
        ("<select>", ()),
        ("i would select carefully", None),
        ("the choice is yours", None),
    ],
)
def test_selections(text, expected):
    assert READER.understand(text, COUNTS).select == expected


def test_every_template_says_what_it_was_made_of():
    items = LEXICON.items
    for counts in (COUNTS, (1, 4, 1), (1, 1, 3)):
        for mine in deals(counts):
            theirs = rest(counts, mine)
            words = {division_speech.proposal(items, counts, mine, theirs, Draws(k)) for k in range(60)}
            assert {share(text, counts) for text in words} == {mine}, (mine, words)


def test_what_is_said_beside_proposes_nothing():
    tables = [*division_phrases.CUES.values(), division_phrases.BETTER, division_phrases.INSULTED]
    tables += [division_phrases.LAST_CHANCES, division_phrases.LOST, division_phrases.REFUSALS]
    for phrase in [phrase for table in tables for phrase in table]:
        act = READER.understand(phrase, COUNTS)
        assert act.share is None, phrase
        assert not act.accept, phrase
    for phrase in division_phrases.ACCEPTS:
        assert READER.understand(phrase, COUNTS).accept, phrase
    for phrase in division_phrases.QUESTIONS:
        assert READER.understand(phrase, COUNTS).question, phrase


def test_a_talk_is_followed():
    talk = [
        (True, "i would like the hats and the ball", Floor((0, 3, 1), True)),
        (False, "i need one hat as well", Floor((0, 2, 1), False)),
        (True, "no", Floor((0, 2, 1), False, refused=True)),
        (False, "you can have 2 hats and the ball", Floor((0, 2, 1), False)),
        (True, "ok, so i take 2 hats and the ball", Floor((0, 2, 1), False, True)),
    ]
    floor = Floor()
    for first, text, expected in talk:
        floor = followed(floor, READER.understand(text, COUNTS), first, COUNTS)
        assert floor == expected, text


def test_to_agree_to_ones_own_offer_is_no_agreement():
    floor = followed(Floor(), READER.understand("i want the books", COUNTS), True, COUNTS)
    assert not followed(floor, READER.understand("deal", COUNTS), True, COUNTS).agreed
    assert followed(floor, READER.understand("deal", COUNTS), False, COUNTS).agreed


@pytest.mark.parametrize(
    ("floor", "by_first", "by_other"),
    [
        (Floor(), None, None),
        (Floor((0, 3, 1), True), None, (0, 3, 1)),  # the other ends the talk on the first side's offer
        (Floor((0, 3, 1), False), (0, 3, 1), None),
        (Floor((0, 3, 1), False, refused=True), None, None),
        (Floor((0, 3, 1), False, agreed=True), (0, 3, 1), (0, 3, 1)),
    ],
)
def test_what_stands_where_a_talk_ends(floor, by_first, by_other):
    assert (floor.settled(True), floor.settled(False)) == (by_first, by_other)


@given(st.text(max_size=200))
def test_notation_is_stable_and_reading_never_fails(text):
    written = to_tokens(text)
    assert to_tokens(written) == written
    assert to_tokens(from_tokens(written)) == written
    READER.understand(text, COUNTS)


WORDS = (
    "i you me we can have get take give keep want need the a no not all both half each of rest everything for to and "
    "but or , . book books hat hats ball balls 0 1 2 3 10 one ten deal ok at least as well except only split trade"
)


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=14))
def test_nobody_can_get_more_than_there_is(said):
    act = READER.understand(" ".join(said), COUNTS)
    for share in (act.share or (), act.said):
        assert all(number is None or 0 <= number <= count for number, count in zip(share, COUNTS, strict=False)), share


def test_more_than_there_is_for_me():
    assert READER.understand("you get the hats and a ball, 10 for me", COUNTS).share == (None, 0, 1)


@given(st.sampled_from(deals(COUNTS)), st.integers(0, 10**6))
def test_meaning_survives_the_notation(mine, seed):
    text = division_speech.proposal(LEXICON.items, COUNTS, mine, rest(COUNTS, mine), Draws(seed))
    assert share(from_tokens(to_tokens(text))) == share(to_tokens(text)) == mine


def test_no_forged_tokens():
    assert to_tokens("i say <select> book=2") == "i say select book = 2"
    assert to_tokens("<accept>") == "<accept>"

"""What an answer in Response-v0 does, and what it does not."""

import re

import pytest

from dialog_gym.dialogue import Draws
from dialog_gym.envs import response_phrases as phrases
from dialog_gym.envs.response_language import cues, from_notation, say, tell, to_notation, understand
from dialog_gym.envs.response_policies import random_act
from dialog_gym.envs.response_rules import Act


@pytest.mark.parametrize(
    ("text", "asks", "offers", "days"),
    [
        ("Could you tell me whether the box has been opened", ["opened"], [], []),
        ("Is the packaging sealed?", ["opened"], [], []),
        ("When did you purchase the phone?", ["bought"], [], []),
        ("And when did you order it?", ["bought"], [], []),
        ("May I ask how you paid?", ["paid"], [], []),
        ("Was that by credit card?", ["paid"], [], []),
        ("We'll refund you.", [], ["refund"], []),
        ("You will receive a full refund by Monday.", [], ["refund"], ["monday"]),
        ("I'll send your money back right away", [], ["refund"], []),
        ("We're happy to help: we will ship you a new one tomorrow", [], ["replace"], ["tomorrow"]),
        ("I will exchange it", [], ["replace"], []),
        ("Our workshop will repair it", [], ["repair"], []),
        ("We can get it fixed", [], ["repair"], []),
        ("Please accept this voucher", [], ["voucher"], []),
        ("I can offer you store credit", [], ["voucher"], []),
        ("Please wait, it is on its way", [], ["wait"], []),
        ("You should wait until it arrives", [], ["wait"], []),
        ("It should arrive on Friday", [], [], ["friday"]),
        # mentioning is not doing
        ("We do not refund it", [], [], []),
        ("You can't have a new one", [], [], []),
        ("You want your money back", [], [], []),
        ("I understand that you asked for a refund", [], [], []),
        ("Do you want a refund?", [], [], []),
        ("Shall we replace it on Friday?", [], [], []),
        ("If we replace it you have to wait", [], [], []),
        ("We would have refunded it", [], [], []),
        ("Other customers get a voucher", [], [], []),
        ("Sorry for the long wait", [], [], []),
        ("It will not be there on Friday", [], [], []),
        ("I opened the box", [], [], []),
        ("You paid by card", [], [], []),
        ("a refund or a voucher or a new one or a repair", [], [], []),
    ],
)
def test_what_is_understood(text, asks, offers, days):
    act = understand(text)
    assert (list(act.asks), list(act.offers), list(act.days)) == (asks, offers, days)


@pytest.mark.parametrize(
    ("text", "tone"),
    [
        ("I apologise for that", "sorry"),
        ("Please forgive our mistake", "sorry"),
        ("Don't worry", "warm"),
        ("Everything will be fine", "warm"),
        ("I am sorry, do not worry", "plain"),
        ("I am not sorry", "plain"),
        ("Thank you", "plain"),
        ("", "plain"),
    ],
)
def test_the_tone(text, tone):
    assert understand(text).tone == tone


@pytest.mark.parametrize("group", ["ASKS", "OFFERS", "TONES"])
def test_every_phrase_of_the_agent_does_one_thing(group):
    for name, options in getattr(phrases, group).items():
        for phrase in options:
            act = understand(phrase)
            got = {"ASKS": act.asks, "OFFERS": act.offers, "TONES": (act.tone,)}[group]
            assert got == (name,), phrase
            assert group == "ASKS" or not act.asks
            assert group == "OFFERS" or not act.offers, phrase
            assert group == "TONES" or act.tone == "plain", phrase
            assert not act.days


def test_days_and_filler():
    for frame in phrases.TIMES:
        for day, options in phrases.DAYS.items():
            for option in options:
                act = understand(frame.format(option))
                assert act._replace(words=0) == Act(days=(day,)), frame
    assert not any(understand(phrase).understood for phrase in phrases.EMPTY)


def customers():
    """Return every phrase of the customer."""
    tables = (phrases.MOODS, phrases.REACTIONS, phrases.FACTS)
    yield from (phrase for table in tables for options in table.values() for phrase in options)
    yield from (phrase.format("lamp") for options in phrases.CASES.values() for phrase in options)
    yield from (*phrases.WHEN, *phrases.AGAIN, *phrases.SOLVED, *phrases.LEFT)


def test_no_phrase_of_the_customer_does_anything_and_none_is_there_twice():
    told = list(customers())
    assert len(told) == len(set(told))
    for phrase in told:
        assert not understand(phrase).understood, phrase


def test_a_phrase_keeps_its_meaning_in_sentences():
    text = tell(["my lamp is broken", "it is new", "this is so bad"])
    assert text == "My lamp is broken. It is new. This is so bad."
    assert [cue[0] for cue in cues(text)] == ["case", "fact", "mood"]
    assert cues("No, not that. And when.") == (("reaction", "refused", ""), ("when", "", ""))


def test_what_is_said_is_understood_in_both_notations():
    for k in range(2000):
        draws = Draws(k, "words")
        act = random_act(draws)
        text = say(act, draws)
        assert from_notation(to_notation(text)) == text
        assert understand(to_notation(text)) == understand(text)
        heard = understand(text)._replace(words=0)
        if sum(map(len, act[:3])) <= 2:  # more may not fit into sixteen words
            assert heard[:3] == act[:3], text
            assert heard.tone in (act.tone, "plain")
        assert len(re.findall(r"[a-z]+", text.lower())) <= 17


def test_long_texts_take_bounded_time():
    assert understand("we " * 5000 + "refund it").offers == ()
    assert understand("how old " * 2000).asks == ()

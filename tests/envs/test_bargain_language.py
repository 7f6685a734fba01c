import gzip
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.dialogue import Draws
from dialog_gym.envs import bargain_language as language
from dialog_gym.envs import bargain_phrases as phrases
from dialog_gym.envs.bargain_language import REASONS, STYLES, Act, parse_price, render_price, say, understand

CORPUS = Path(__file__).parents[3] / "shared/data/craigslist_bargain/dev.json.gz"
GRID = range(10, 132, 2)
LIST_PRICES = st.one_of(st.integers(1, 10**6), st.floats(1, 10**6))


@given(st.sampled_from(GRID), LIST_PRICES)
def test_money_and_tokens_convert_without_loss_on_the_grid(percent, list_price):
    money = render_price(percent, list_price)
    assert parse_price(money, list_price) == percent
    assert language.to_tokens(f"how about {money}?", list_price) == f"how about <p{percent}>?"
    assert language.from_tokens(f"how about <p{percent}>?", list_price) == f"how about {money}?"


def test_money_is_written_as_people_write_it():
    assert [render_price(p, 1000) for p in (62, 130)] == ["$620", "$1,300"]
    assert [render_price(p, 75) for p in (62, 64)] == ["$46.50", "$48"]
    assert render_price(62, 3) == "$1.86"


@pytest.mark.parametrize(
    ("text", "list_price", "percent"),
    [
        ("$155", 200, 78),
        ("$ 155", 200, 78),
        ("155 dollars", 200, 78),
        ("how about 150?", 200, 76),
        ("1,200", 2000, 60),
        ("12k", 20000, 60),
        ("$12.5k", 20000, 62),
        ("$1.86", 3, 62),
        ("60%", 70, 60),
        ("40% off", 70, 60),
        ("40 percent off", 70, 60),
        ("not $200, $150", 250, 60),
        ("i can't do $180", 200, None),
        ("i can not go over $150", 250, 60),
        ("it has 120000 miles", 150000, None),
        ("it is a 2006 model", 3000, None),
        ("i would pay 2006", 3000, 66),
        ("rtx3080", 3000, None),
        ("2-bedroom", 3, None),
        ("how about \u0661\u0665\u0665", 200, 78),
        ("\uff11\uff15\uff15 dollars", 200, 78),
        ("$1", 1000, 10),
        ("$999999", 1000, 130),
        ("$" + "9" * 400, 1000, None),
        ("no number", 200, None),
    ],
)
def test_prices_people_write(text, list_price, percent):
    assert understand(text, list_price).price == percent


PLAIN = """deal|Ok, deal!|I accept.|it's a deal|we have a deal|agreed|i'll take it|sure, no problem, deal
it needs no repair, deal|yuo have a deal|i\u2019ll take it|i can't pay more. we have a deal|thanks, sold"""

DOUBTFUL = """$155 is a deal|deal at $150|no deal|no, deal|deal?|not a deal|great deal on this|deal breaker
sold it to others|it's a deal if you drop a bit|i do not accept|i can't accept that|i would accept less
take it or leave it|a deal|let's make a deal|i accept 60%|a good deal for you|once we have a deal|what a deal
we don't have a deal|i almost accept"""


@pytest.mark.parametrize("text", re.split(r"[|\n]", PLAIN))
def test_plain_agreement_accepts(text):
    assert understand(text, 200).accept


@pytest.mark.parametrize("text", ["", *re.split(r"[|\n]", DOUBTFUL)])
def test_anything_else_does_not_accept(text):
    assert not understand(text, 200).accept


@pytest.mark.parametrize("text", ["goodbye", "i'm out", "forget it, no deal"])
def test_parting(text):
    assert understand(text, 200).quit
    assert not understand(f"{text} $155", 200).quit


@given(
    st.sampled_from(["buyer", "seller"]),
    st.sampled_from(["offer", "accept", "stall", "quit"]),
    st.sampled_from(GRID),
    st.sampled_from(STYLES),
    st.sampled_from(["", *REASONS]),
    st.integers(0, 2**64 - 1),
    st.sampled_from([3, 75, 200, 1895, 56500]),
    st.booleans(),
)
def test_what_is_said_is_understood(role, kind, price, style, reason, bits, list_price, first):
    act = Act(price if kind == "offer" else None, kind == "accept", style, reason, kind == "quit")
    text = say(role, act, list_price, bits, first)
    assert understand(text, list_price) == act, text


def test_one_slip_in_a_keyword_is_forgiven():
    assert understand("plase, the markt is low", 200) == Act(None, False, "polite", "market")
    assert understand("i am serius", 200).style == "firm"


def test_mixed_manners_are_neutral():
    assert understand("please, that is final", 200).style == "neutral"


@pytest.mark.parametrize("unit", ["1", "$1,", "not ", "no deal ", "\ufdfa", "5 $", "i accept, ", "\x00", "1."])
def test_huge_texts_take_bounded_time(unit):
    start = time.process_time()
    understand(unit * 100_000, 200)
    language.to_tokens(unit * 100_000, 200)
    assert time.process_time() - start < 0.5


@given(st.text(), LIST_PRICES)
def test_no_text_breaks_the_understanding(text, list_price):
    act = understand(text, list_price)
    assert act.price is None or act.price in GRID
    tokens = language.to_tokens(text, list_price)
    assert "\n" not in tokens
    assert re.sub(r"<p\d+>", "", tokens).count("<") == 0
    language.from_tokens(text, list_price)


def test_a_speaker_cannot_forge_tokens():
    assert "<" not in language.to_tokens("<|im_end|> <p10>", 200)


def test_the_language_is_rich_and_its_vocabulary_small():
    words: set[str] = set()
    texts: dict[str, set[str]] = {"buyer": set(), "seller": set()}
    for number in range(6000):
        draws = Draws(number, "variety")
        role = draws.choice(["buyer", "seller"])
        act = Act(60, False, draws.choice(STYLES), draws.choice(["", *REASONS]))
        texts[role].add(say(role, act, 100, draws.bits()))
        kind, reaction = draws.choice(list(phrases.CUES)), draws.choice(["far", "close", "stall", "insult"])
        texts[role].add(language.answer(role, reaction, kind, "$60", draws.bits()))
    for role in texts:
        assert len(texts[role]) > 3000
        words |= set(re.findall(r"[a-z']+", " ".join(texts[role])))
    assert len(words) < 700


def test_cues_and_neutral_phrases_carry_no_price():
    assert not any("{" in cue or re.search(r"\d", cue) for cues in phrases.CUES.values() for cue in cues)
    for role in ("buyer", "seller"):
        for phrase in (*phrases.OFFERS[role], *phrases.STALLS[role], *phrases.ACCEPTANCES[role], *phrases.GREETINGS):
            act = understand(phrase.format("$60"), 100)
            assert (act.style, act.reason) == ("neutral", ""), phrase


@pytest.mark.skipif(not CORPUS.exists(), reason="the CraigslistBargain development split is not here")
def test_real_utterances_are_read():
    with gzip.open(CORPUS, "rt") as file:
        records = json.load(file)
    offers = understood = told = 0
    for record in records:
        price = record["scenario"]["kbs"][0]["item"]["Price"]
        for event in record["events"]:
            if event["action"] == "message":
                act = understand(event["data"], max(price, 1))
                told += 1
                understood += act.understood
                offers += act.price is not None
    assert understood / told > 0.4
    assert offers / told > 0.15

"""Inform and success on dialogues small enough to be judged by hand, then on the corpus."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.data.columns import DatasetError
from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.env import advance, begin
from dialog_gym.rewards.multiwoz import (
    Answer,
    MultiWozOutcome,
    Verdict,
    Wish,
    active_domains,
    answers_of,
    judge,
    rates,
    read_goal,
)
from dialog_gym.rewards.multiwoz_db import Venues, alike, is_any, minutes, plain
from dialog_gym.rewards.multiwoz_text import Finder, Mention, annotated, placeholders
from dialog_gym.task import Reply, Task

DATA = Path(__file__).parents[3] / "shared/data"
needs_data = pytest.mark.skipif(not (DATA / "multiwoz").exists(), reason="the corpora are not at ../shared/data")


def restaurant(number, name, food, pricerange, area, phone, **more):
    return {"id": number, "name": name, "food": food, "pricerange": pricerange, "area": area, "phone": phone, **more}


VENUES = Venues(
    {
        "restaurant": [
            restaurant("1", "rice boat", "indian", "expensive", "west", "01223111111", postcode="cb11aa"),
            restaurant("2", "curry hut", "indian", "cheap", "centre", "01223222222", postcode="cb22bb"),
            restaurant("3", "the golden wok", "chinese", "cheap", "centre", "01223333333", postcode="cb33cc"),
            restaurant("4", "north wind", "north indian", "?", "west", "01223444444", postcode="pe296fl"),
        ],
        "hotel": [
            {"id": "1", "name": "rosa's bed and breakfast", "area": "west", "stars": "4", "phone": "01223555555"},
            {"id": "2", "name": "acorn guest house", "area": "north", "stars": "2", "phone": "01223666666"},
        ],
        "train": [
            {"trainID": f"TR000{n}", "day": day, "departure": "cambridge", "leaveAt": leave, "arriveBy": arrive}
            for n, day, leave, arrive in [
                (1, "monday", "09:00", "10:00"),
                (2, "monday", "11:00", "12:00"),
                (3, "friday", "09:00", "10:00"),
            ]
        ],
    }
)
CHEAP_INDIAN = {"food": "indian", "pricerange": "cheap"}


def goal(**domains):
    return {name: Wish(info, frozenset(requests)) for name, (info, *requests) in domains.items()}


def answer(text, booked=(), domain="restaurant", **state):
    return Answer(placeholders(text), state, frozenset(booked), domain)


# --- the databases -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "wanted", "found"),
    [
        ("restaurant", {"food": "chinese"}, {"3"}),
        ("restaurant", {"food": "indian"}, {"1", "2", "4"}),  # "north indian" has it in it
        ("restaurant", {"food": "Indain", "price range": "cheap"}, {"2", "4"}),  # misspelt; what is not known fits
        ("restaurant", {"pricerange": "cheap|expensive", "area": "dontcare"}, {"1", "2", "3", "4"}),
        ("restaurant", {"name": "Golden Wok", "book people": "3"}, {"3"}),
        ("restaurant", {"food": "klingon"}, set()),
        ("hotel", {"stars": "4"}, {"1"}),
        ("hotel", {"name": "rosas b & b"}, {"1"}),
        ("train", {"leaveAt": "09:30"}, {"TR0002"}),
        ("train", {"arriveBy": "10am", "day": "monday"}, {"TR0001"}),
        ("train", {"leaveAt": "after lunch", "day": "friday"}, {"TR0003"}),
        ("taxi", {"departure": "cambridge"}, set()),
    ],
)
def test_a_query_finds_what_fits(domain, wanted, found):
    assert VENUES.query(domain, wanted) == found


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["food", "pricerange", "area", "name"]),
        st.sampled_from(["indian", "cheap", "west", "rice boat", "dontcare", "x"]),
    ),
    st.sampled_from(["food", "pricerange", "area", "name"]),
)
def test_who_wants_less_is_offered_no_less(wanted, slot):
    less = {name: value for name, value in wanted.items() if name != slot}
    assert VENUES.query("restaurant", wanted) <= VENUES.query("restaurant", less)


@pytest.mark.parametrize("value", ["", "dontcare", "do n't care", "not mentioned", "none", "?"])
def test_values_that_leave_it_open(value):
    assert is_any(value)


@pytest.mark.parametrize("value", ["0", "4", "15:45", "yes"])
def test_values_that_do_not_leave_it_open(value):
    assert not is_any(value)


def test_owners_are_those_with_the_number_or_the_name():
    assert VENUES.owners("restaurant", "phone", "01223 222 222") == {"2"}
    assert VENUES.owners("restaurant", "name", "Golden Wok") == {"3"}
    assert VENUES.owners("train", "trainid", "tr0003") == {"TR0003"}
    assert VENUES.owners("restaurant", "phone", "01223000000") == frozenset()


def test_a_name_that_is_part_of_another_is_itself_first():
    venues = Venues({"restaurant": [{"id": "1", "name": "pizza hut"}, {"id": "2", "name": "pizza hut fen ditton"}]})
    assert venues.owners("restaurant", "name", "Pizza Hut") == {"1"}
    assert venues.owners("restaurant", "name", "hut fen ditton") == {"2"}
    assert venues.owners("restaurant", "name", "Pizza Hut 's") == {"1"}


def test_texts_and_times():
    assert plain("The Archway Guest House , St John 's") == "the archway guesthouse saint johns"
    assert alike("abcd", "xxabcexx") == 0.75  # 3 of 4 letters of "abce"
    assert alike("", "a") == 0
    assert (minutes("7 p.m."), minutes("12:30 pm"), minutes("0915"), minutes("noon")) == (1140, 750, 555, None)


def test_a_missing_or_strange_database_is_told(tmp_path):
    with pytest.raises(DatasetError, match="there is no such file"):
        Venues.load(tmp_path)
    (tmp_path / "attraction_db.json").write_text('{"name": 1}')
    with pytest.raises(DatasetError, match="expected a list of venues"):
        Venues.load(tmp_path)


# --- what a response gives -----------------------------------------------------------------------


def test_placeholders_of_several_dialects():
    text = "[restaurant_name] [value_phone] [train_id] [hotel_id] [ref] [food] [address] is [attraction_postcode]"
    assert [mention[:2] for mention in placeholders(text)] == [
        ("name", "restaurant"),
        ("phone", ""),
        ("trainid", "train"),
        ("reference", ""),
        ("address", ""),
        ("postcode", "attraction"),
    ]


def test_marks_of_the_corpus():
    spans = [
        ["Hotel-Inform", "Addr", "1 road", 3, 4],
        ["Booking-Book", "Ref", "AB", 5, 5],
        ["Train-Inform", "Leave", "9", 1, 1],
    ]
    assert annotated(spans) == [Mention("address", "hotel", "1 road"), Mention("reference", "", "AB")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Rosa 's Bed & Breakfast is nice", [("name", "hotel", "Rosa 's Bed & Breakfast")]),
        (
            "the Golden Wok's number: 01223 333333 .",
            [("name", "restaurant", "the Golden Wok's"), ("phone", "restaurant", "01223 333333")],
        ),
        ("Acorn guesthouse , CB22BB", [("name", "hotel", "Acorn guesthouse"), ("postcode", "restaurant", "CB22BB")]),
        ("TR0002 , reference QX7ZK2B1", [("trainid", "train", "TR0002"), ("reference", "", "QX7ZK2B1")]),
        ("A boat with rice in 12345678 huts", []),
        ("your taxi 's number is 07000000000", [("phone", "", "07000000000")]),
    ],
)
def test_the_finder_finds_what_is_named(text, found):
    assert [mention[:3] for mention in Finder(VENUES)(text)] == found


def test_a_name_of_two_domains_has_none():
    finder = Finder(
        Venues({"hotel": [{"id": "1", "name": "old mill"}], "restaurant": [{"id": "1", "name": "old mill"}]})
    )
    assert finder("the old mill")[0][:2] == ("name", "")


def test_delexicalised_text_gives_the_same():
    finder = Finder(VENUES)
    text = "I booked rice boat ( 01223111111 ) , reference ABCD1234 ."
    assert finder.delexicalise(text) == "I booked [restaurant_name] ( [restaurant_phone] ) , reference [reference] ."
    assert [m[:2] for m in placeholders(finder.delexicalise(text))] == [m[:2] for m in finder(text)]
    assert finder.read("[name] and rice boat") == placeholders("[name] and rice boat")


# --- the metrics ---------------------------------------------------------------------------------


def test_goals_keep_what_is_asked_in_the_end():
    data = {
        "restaurant": {
            "info": {"food": "indian"},
            "reqt": ["phone", "area", "postcode"],
            "fail_info": {"food": "thai"},
        },
        "train": {"info": {"day": "monday"}, "reqt": ["trainID", "price"], "book": {"people": "2"}},
        "hotel": {},
        "topic": {"hotel": False},
        "message": ["..."],
    }
    assert read_goal(data) == {
        "restaurant": Wish({"food": "indian"}, frozenset({"phone", "postcode"})),
        "train": Wish({"day": "monday"}, frozenset({"trainid", "reference"})),
    }


def test_a_fitting_venue_and_its_number_succeed():
    turns = [answer("[name] is nice", restaurant=CHEAP_INDIAN), answer("it is [phone]", restaurant=CHEAP_INDIAN)]
    # North Wind's price is not known, and fits
    verdict = judge(goal(restaurant=(CHEAP_INDIAN, "phone")), turns, VENUES)
    assert verdict == Verdict({"restaurant": True}, {"restaurant": frozenset()})
    assert verdict.informs
    assert verdict.succeeds


def test_what_was_not_told_is_missing():
    verdict = judge(
        goal(restaurant=(CHEAP_INDIAN, "phone", "postcode")),
        [answer("[name] , [phone]", restaurant=CHEAP_INDIAN)],
        VENUES,
    )
    assert verdict.informs
    assert not verdict.succeeds
    assert verdict.missing == {"restaurant": {"postcode"}}


@pytest.mark.parametrize(
    "state",
    [{"food": "indian"}, {"food": "chinese", "pricerange": "cheap"}, {"food": "klingon"}, {"name": "rice boat"}],
    ids=["too wide", "another kind", "nothing found", "too dear"],
)
def test_an_offer_that_breaks_a_constraint_does_not_inform(state):
    verdict = judge(goal(restaurant=(CHEAP_INDIAN,)), [answer("[name]", restaurant=state)], VENUES)
    assert not verdict.informs
    assert not verdict.succeeds


def test_no_offer_does_not_inform_and_no_state_offers_nothing():
    wanted = goal(restaurant=(CHEAP_INDIAN,))
    assert not judge(wanted, [answer("there are many", restaurant=CHEAP_INDIAN)], VENUES).informs
    assert not judge(wanted, [answer("[name]", hotel={"stars": "4"})], VENUES).informs
    assert not judge(wanted, [], VENUES).informs


def test_the_last_offer_counts_unless_it_only_widens():
    wanted = goal(restaurant=(CHEAP_INDIAN,))
    right, wide, wrong = (
        answer("[name]", restaurant=state) for state in (CHEAP_INDIAN, {"food": "indian"}, {"food": "chinese"})
    )
    assert judge(wanted, [wrong, right], VENUES).informs
    assert judge(wanted, [right, wide], VENUES).informs  # all of the first is still there: it stays
    assert not judge(wanted, [wide, wrong], VENUES).informs
    assert not judge(wanted, [right, wrong], VENUES).informs
    assert judge(wanted, [wide, right], VENUES).informs


def test_of_a_goal_that_changes_the_end_counts():
    wanted = read_goal({"restaurant": {"info": {"food": "chinese"}, "fail_info": {"food": "indian", "area": "west"}}})
    first, then = (
        answer("[name]", restaurant={"food": "indian", "area": "west"}),
        answer("[name]", restaurant={"food": "chinese"}),
    )
    assert not judge(wanted, [first], VENUES).informs
    assert judge(wanted, [first, then], VENUES).informs


def test_a_reference_counts_once_it_is_booked():
    wanted = goal(restaurant=(CHEAP_INDIAN, "reference"))
    early = answer("[name] is booked, [reference]", restaurant=CHEAP_INDIAN)
    elsewhere = answer("[name], [reference]", booked=["hotel"], restaurant=CHEAP_INDIAN)
    late = answer("it is [reference]", booked=["restaurant"], restaurant=CHEAP_INDIAN)
    assert judge(wanted, [early, elsewhere], VENUES).missing["restaurant"] == {"reference"}
    assert judge(wanted, [early, late], VENUES).succeeds


def test_every_domain_of_the_goal_counts():
    wanted = goal(restaurant=(CHEAP_INDIAN, "phone"), hotel=({"stars": "4"}, "phone"))
    food = answer("[name] , [phone]", restaurant=CHEAP_INDIAN)
    bed = answer("[name]", domain="hotel", restaurant=CHEAP_INDIAN, hotel={"stars": "4"})
    number = answer("[phone]", domain="hotel", restaurant=CHEAP_INDIAN, hotel={"stars": "4"})
    assert judge(wanted, [food], VENUES).inform == {"restaurant": True, "hotel": False}
    half = judge(wanted, [food, bed], VENUES)
    assert half.informs
    assert not half.succeeds
    assert half.succeeds_in("restaurant")
    assert not half.succeeds_in("hotel")
    assert judge(wanted, [food, bed, number], VENUES).succeeds


def test_what_needs_no_offer():
    assert judge(goal(restaurant=({"name": "rice boat"},)), [], VENUES).succeeds
    assert judge(goal(taxi=({"leaveAt": "9"},)), [], VENUES).succeeds
    assert judge(goal(police=({}, "phone")), [], VENUES).missing == {"police": {"phone"}}
    monday = {"day": "monday"}
    assert judge(goal(train=(monday,)), [], VENUES).informs
    assert not judge(goal(train=(monday, "trainid")), [], VENUES).informs
    friday = answer("take [trainid]", domain="train", train={"day": "friday"})
    assert not judge(goal(train=(monday,)), [friday], VENUES).informs  # one was offered: it is looked at


def test_a_train_is_offered_by_its_id_and_not_by_a_name():
    monday = {"day": "monday"}
    named = answer("[name]", domain="train", train=monday)
    given = answer("[trainid]", domain="train", train=monday)
    assert not judge(goal(train=(monday, "trainid")), [named], VENUES).informs
    assert judge(goal(train=(monday, "trainid")), [given], VENUES).succeeds


def test_the_published_protocol_goes_by_the_state_and_the_others_by_the_name():
    turn = answer("[restaurant_name] , [restaurant_phone]", domain="hotel", restaurant=CHEAP_INDIAN)
    wanted = goal(restaurant=(CHEAP_INDIAN, "phone"))
    assert not judge(wanted, [turn], VENUES, "published").informs
    assert judge(wanted, [turn], VENUES, "domains").succeeds


def told(text, **state):
    return Answer(Finder(VENUES)(text), state, frozenset(), "restaurant")


@pytest.mark.parametrize(
    ("text", "informs", "succeeds"),
    [
        ("Curry Hut , 01223 222222", True, True),
        ("Curry Hut , 01223 111111", True, False),  # that is Rice Boat's
        ("Curry Hut , 01223 444444", True, False),  # that of North Wind, which fits and was not offered
        ("Curry Hut", True, False),
        ("Rice Boat , 01223 111111", False, False),  # too dear
        ("Curry Hut or Rice Boat , 01223 222222", False, False),
        ("01223 222222", False, False),
        ("[name] [phone]", False, False),
    ],
)
def test_grounded_looks_at_which_venue_it_is(text, informs, succeeds):
    verdict = judge(
        goal(restaurant=(CHEAP_INDIAN, "phone")), [told(text, restaurant=CHEAP_INDIAN)], VENUES, "grounded"
    )
    assert (verdict.informs, verdict.succeeds) == (informs, succeeds)


def test_grounded_needs_no_state_and_checks_a_venue_that_the_goal_names():
    assert judge(goal(restaurant=(CHEAP_INDIAN,)), [told("Curry Hut")], VENUES, "grounded").informs
    named = goal(restaurant=({"name": "curry hut"}, "phone"))
    assert judge(named, [told("it is 01223222222")], VENUES, "grounded").succeeds
    assert not judge(named, [told("it is 01223111111")], VENUES, "grounded").succeeds
    assert not judge(named, [told("Rice Boat")], VENUES, "grounded").informs
    assert judge(named, [told("Rice Boat")], VENUES, "published").informs


TEXTS = st.sampled_from(["[name]", "[name] [phone]", "[phone]", "[postcode]", "[reference]", "hello"])
STATES = st.sampled_from([CHEAP_INDIAN, {"food": "indian"}, {"area": "west"}, {}])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, STATES), max_size=5), st.integers(0, 5))
def test_saying_a_number_more_never_hurts(turns, place):
    wanted = goal(restaurant=(CHEAP_INDIAN, "phone", "postcode"))
    answers = [answer(text, restaurant=state) for text, state in turns]
    more = [*answers[:place], answer("[phone] [postcode]", restaurant={}), *answers[place:]]
    before, after = judge(wanted, answers, VENUES), judge(wanted, more, VENUES)
    assert before.inform == after.inform
    assert after.missing["restaurant"] == frozenset()
    assert before.succeeds <= after.succeeds <= after.informs


def test_the_active_domain_follows_the_state():
    states = [
        {},
        {"hotel": {"area": "west"}},
        {"hotel": {"area": "west"}, "train": {"day": "monday", "departure": "ely"}},
        {"hotel": {"area": "west", "stars": "4"}, "train": {"day": "monday", "departure": "cambridge"}},
        {"hotel": {"area": "west", "stars": "4"}, "train": {"day": "monday", "departure": "cambridge"}},
        {"hotel": {"area": "west", "stars": "4"}, "train": {"day": "monday", "departure": "cambridge"}},
    ]
    # nothing; hotel; train; both change and train stays; then the other of both; then it stays
    assert active_domains(states) == ["", "hotel", "train", "train", "hotel", "hotel"]
    two = {"hotel": {"area": "west"}, "taxi": {"departure": "a", "destination": "b"}}
    assert active_domains([two]) == ["taxi"]  # the one with more values


def test_rates_by_hand():
    yes, no = frozenset[str](), frozenset({"phone"})
    found = rates(
        [
            Verdict({"hotel": True, "train": True}, {"hotel": yes, "train": no}),
            Verdict({"hotel": False}, {"hotel": yes}),
            Verdict({"hotel": True}, {"hotel": yes}),
            Verdict({"train": True}, {"train": yes}),
        ]
    )
    assert (found.dialogues, found.inform[0], found.success[0]) == (4, 75.0, 50.0)
    assert found.domains == {"hotel": (3, pytest.approx(200 / 3), pytest.approx(200 / 3)), "train": (2, 100.0, 50.0)}
    assert found.inform[1] <= 75 <= found.inform[2]


# --- as a reward ---------------------------------------------------------------------------------

NOTES = [
    None,
    {"state": {"restaurant": CHEAP_INDIAN}, "booked": {}},
    None,
    {"state": {"restaurant": CHEAP_INDIAN}, "booked": {"restaurant": [{"reference": "X"}]}},
]
HIDDEN = {"goal": {"restaurant": {"info": CHEAP_INDIAN, "reqt": ["phone"], "book": {"day": "monday"}}}}


def recorded(*said):
    """Return a dialogue of a corpus, with what the clerk said in it."""
    dialogue = Dialogue(Scenario("", {}, HIDDEN | {"id": "7"}), ("clerk", "tourist"), state={"turns": NOTES})
    for text in said:
        dialogue = dialogue.said("tourist", "hm").said("clerk", text)
    return replace(dialogue, stop_reason="end")


GOLD = Recorded(0, recorded("Curry Hut", "01223222222 , it is AB12CD34"), (0.0, 0.0), (0.0, 0.0))


class Replay(Task):
    """The user says what the corpus' user said, whatever the agent says."""

    roles = ("clerk", "tourist")
    reward = MultiWozOutcome(VENUES, recorded=[GOLD])

    def scenario(self, draws):
        return Scenario("Cambridge.", {}, {"id": "7"})

    def opening(self, dialogue):
        return dialogue.said("tourist", "hm")

    def reply(self, dialogues):
        return [Reply("hm" if one.turn == 1 else "", stop_reason="" if one.turn == 1 else "end") for one in dialogues]


@pytest.mark.parametrize(
    ("second", "earned"),
    [("Done : 01223222222 , reference AB12CD34", 1.0), ("Done , reference AB12CD34", 0.0), ("01223222222", 0.0)],
)
def test_the_reward_comes_at_the_end_of_a_dialogue_that_is_played(second, earned):
    task = Replay()
    (dialogue,), first, *_ = advance(task, [begin(task, 0)], ["Curry Hut is cheap ."])
    (_,), last, *_ = advance(task, [dialogue], [second])
    assert (first, last) == ([0.0], [earned])


def test_a_dialogue_that_begins_in_the_middle_is_refused():
    cut = replace(GOLD.dialogue, turns=GOLD.dialogue.turns[1:], turn=-1)
    with pytest.raises(ValueError, match="must begin as it was recorded"):
        MultiWozOutcome(VENUES, recorded=[GOLD])([cut])


def test_inform_and_success_are_different_rewards():
    dialogues = [recorded("Curry Hut", "bye"), recorded("Rice Boat", "bye")]
    inform = MultiWozOutcome(VENUES, "inform")
    assert inform.name == "multiwoz_inform"
    np.testing.assert_array_equal(inform(dialogues), [1, 0])
    np.testing.assert_array_equal(MultiWozOutcome(VENUES)(dialogues), [0, 0])
    delexicalised = [recorded("[restaurant_name] [phone]", "[reference]")]
    assert MultiWozOutcome(VENUES, protocol="published")(delexicalised) == [1]
    assert MultiWozOutcome(VENUES)(delexicalised) == [0]


def test_without_goal_or_annotations_it_raises():
    outcome = MultiWozOutcome(VENUES)
    bare = replace(recorded("hello"), scenario=Scenario(""))
    with pytest.raises(ValueError, match="has no goal and is not among the recorded ones"):
        outcome([bare])
    with pytest.raises(ValueError, match="3 turns and the corpus annotates 2"):
        outcome([recorded("a", "b", "c")])
    with pytest.raises(ValueError, match="expected success or inform"):
        MultiWozOutcome(VENUES, "bleu")  # type: ignore[arg-type]


# --- on the corpus -------------------------------------------------------------------------------


@needs_data
def test_people_succeed_in_multiwoz_as_published():
    venues = Venues.load(DATA / "multiwoz/db")
    verdicts = []
    for record in read_corpus("multiwoz21", DATA / "multiwoz/2.1", split="validation"):
        answers = answers_of(record.dialogue, lambda _, note: annotated(note["spans"]))
        verdicts.append(judge(read_goal(record.dialogue.scenario.hidden["goal"]), answers, venues))
    found = rates(verdicts)
    assert found.dialogues == 999
    assert (round(found.inform[0], 1), round(found.success[0], 1)) == (93.5, 90.4)  # test split of 2.2: 93.7, 90.9


@needs_data
def test_people_succeed_in_camrest():
    outcome = MultiWozOutcome(DATA / "camrest/CamRestDB.json")
    dialogues = [record.dialogue for record in read_corpus("camrest", DATA / "camrest/data.zip", split="test")]
    assert 0.75 < outcome(dialogues).mean() < 0.95

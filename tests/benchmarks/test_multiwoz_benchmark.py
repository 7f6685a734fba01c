"""The benchmark tells why a dialogue fails, and makes responses worse as it says."""

import pytest

from dialog_gym.benchmarks.multiwoz import EVERYTHING, Bench
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.rewards.multiwoz_db import Venues

CHEAP = {"pricerange": "cheap"}
ROWS = [
    {"id": "1", "name": "curry hut", "pricerange": "cheap", "phone": "01223111111"},
    {"id": "2", "name": "rice boat", "pricerange": "dear", "phone": "01223222222"},
]
VENUES = Venues({"restaurant": ROWS, "hotel": [], "attraction": [], "train": []})
NAME, PHONE = ["Restaurant-Inform", "Name", "x", 0, 1], ["Restaurant-Inform", "Phone", "x", 0, 1]


def dialogue(*turns):
    """Return a dialogue of responses, each with its marks, its state, and a goal of a cheap restaurant's number."""
    notes = []
    said = Dialogue(
        Scenario("", {}, {"goal": {"restaurant": {"info": CHEAP, "reqt": ["phone"]}}}), ("clerk", "tourist")
    )
    for text, spans, state in turns:
        said = said.said("tourist", "?").said("clerk", text)
        notes += [None, {"spans": spans, "state": state, "booked": {}}]
    return Dialogue(said.scenario, said.roles, 0, said.turns, {"turns": notes}, "end")


HERE, THERE = {"restaurant": CHEAP}, {"restaurant": CHEAP, "taxi": {"departure": "a"}}
GOOD = dialogue(("Curry Hut , 01223111111", [NAME, PHONE], HERE))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (dialogue(("Curry Hut", [], HERE)), "inform: no name or train is marked"),
        (
            dialogue(("?", [], HERE), ("x", [NAME], THERE)),
            "inform: a name is marked, but the state is about another domain",
        ),
        (
            dialogue(("x", [NAME], {"restaurant": {"pricerange": "gold"}})),
            "inform: the database has nothing that fits the state",
        ),
        (
            dialogue(("x", [NAME], {"restaurant": {"phone": "dontcare"}})),
            "inform: the state lacks a constraint of the goal",
        ),
        (dialogue(("x", [NAME], {"restaurant": {"pricerange": "dear"}})), "inform: the state contradicts the goal"),
        (dialogue(("x", [NAME], HERE), ("no .", [], HERE)), "request: it is not given"),
        (dialogue(("x 01223111111", [NAME], HERE)), "request: it is in the text and not marked"),
        (
            dialogue(("x", [NAME], HERE), ("y", [PHONE], THERE)),
            "request: it is given while the state is about another domain",
        ),
    ],
)
def test_reasons_of_failure(bad, why):
    assert Bench([GOOD, bad], VENUES, 0).why() == {why: 1}


def test_floors_are_lower_where_they_should_be():
    bench = Bench(
        [GOOD, GOOD, dialogue(("Which area ?", [], HERE), ("Curry Hut , 01223111111", [NAME, PHONE], HERE))], VENUES, 0
    )
    floors = {name: [(rate.inform[0], rate.success[0]) for rate in pair] for name, pair in bench.floors().items()}
    assert floors["gold"] == [(100, 100), (100, 100)]
    assert floors["names and trains left out"] == [(0, 0), (0, 0)]
    assert floors["requests left out"] == [(100, 0), (100, 0)]
    assert floors["other venues named (with their numbers)"] == [(100, 100), (0, 0)]
    assert floors[f"always '{EVERYTHING}'"] == [(100, 100), (0, 0)]
    assert floors["silence"] == [(0, 0), (0, 0)]


def test_other_venues_are_named_in_the_same_words():
    bench = Bench([GOOD], VENUES, 0)
    assert bench._changed(bench._other) == [["rice boat , 01223222222"]]
    assert sorted(text for said in bench._shuffled() for text in said) == ["Curry Hut , 01223111111"]

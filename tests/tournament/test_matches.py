"""The schedule, and the journal that outlives a kill."""

import json
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.runs import RunFolderError
from dialog_gym.tournament.matches import FILE, Journal, Judgement, Match, TournamentError, digest, schedule
from tests.rewards.judges import dialogue

MATCH = Match("q", "helpfulness", "a", "b", 0)
DIGESTS = {("a", "q"): "1", ("b", "q"): "2"}


def test_the_number_of_calls_is_that_of_the_published_evaluation():
    players = [f"m{i}" for i in range(11)]
    questions = {"helpfulness": [f"h{i}" for i in range(129)], "harmlessness": [f"s{i}" for i in range(83)]}
    assert sum(1 for _ in schedule(players, questions, base="m0")) == 12_720
    assert sum(1 for _ in schedule(players, questions)) == 69_960


@given(st.integers(2, 5), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_every_pair_meets_in_both_orders_as_often(players, questions, scorings, full):
    names = [f"m{i}" for i in range(players)]
    found = list(
        schedule(names, {"c": list(map(str, range(questions)))}, base="" if full else "m0", scorings=scorings)
    )
    pairs = comb(players, 2) if full else players - 1
    assert len(found) == len(set(found)) == 2 * pairs * questions * scorings
    assert {(m.first, m.second) for m in found} == {(m.second, m.first) for m in found}


@pytest.mark.parametrize(
    ("players", "base", "why"),
    [(["a"], "", "at least two"), (["a", "a"], "", "different names"), (["a", "b"], "c", "base must be one of")],
)
def test_players_that_cannot_meet_are_refused(players, base, why):
    with pytest.raises(TournamentError, match=why):
        list(schedule(players, {"c": ["q"]}, base=base))


def test_points_are_those_of_the_first():
    assert [Judgement(MATCH, scores).points for scores in ((2, 1), (1, 2), (3, 3), None)] == [1, 0, 0.5, None]


def test_what_was_judged_is_there_again(tmp_path):
    with Journal(tmp_path, "j", DIGESTS) as journal:
        assert MATCH not in journal
        journal.add([Judgement(MATCH, (7, 2), "clear"), Judgement(MATCH._replace(scoring=1), None, "no answer")])
    with Journal(tmp_path, "j", DIGESTS) as journal:
        assert journal[MATCH] == Judgement(MATCH, (7, 2), "clear")
        assert journal[MATCH._replace(scoring=1)].scores is None


def test_whatever_a_judge_says_can_be_read_again(tmp_path):
    told = "one\u2028two\x85three\x0bfour\ud800"  # ends of lines to str.splitlines, and no UTF-8
    with Journal(tmp_path, "j", DIGESTS) as journal:
        journal.add([Judgement(MATCH, (7, 2), told), Judgement(MATCH._replace(scoring=1), (3, 4))])
    with Journal(tmp_path, "j", DIGESTS) as journal:
        assert journal[MATCH].told == told
        assert journal[MATCH._replace(scoring=1)].scores == (3, 4)


@pytest.mark.parametrize(
    "other",
    [
        {"question": "r"},
        {"criterion": "harmlessness"},
        {"first": "b", "second": "a"},
        {"scoring": 1},
    ],
)
def test_each_part_of_the_key_counts(tmp_path, other):
    with Journal(tmp_path, "j", DIGESTS) as journal:
        journal.add([Judgement(MATCH, (7, 2))])
        assert MATCH._replace(**other) not in journal


def test_another_judge_or_other_answers_are_judged_anew(tmp_path):
    with Journal(tmp_path, "j", DIGESTS) as journal:
        journal.add([Judgement(MATCH, (7, 2))])
    with Journal(tmp_path, "another", DIGESTS) as journal:
        assert MATCH not in journal
    with Journal(tmp_path, "j", {**DIGESTS, ("b", "q"): "3"}) as journal:
        assert MATCH not in journal
        journal.add([Judgement(MATCH, (1, 2))])
    with Journal(tmp_path, "j", DIGESTS) as journal:
        assert journal[MATCH].scores == (7, 2)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_kill_loses_the_line_in_flight_and_no_other(tmp_path, cut):
    with Journal(tmp_path, "j", DIGESTS) as journal:
        journal.add([Judgement(MATCH, (7, 2)), Judgement(MATCH._replace(scoring=1), (3, 4))])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path, "j", DIGESTS) as journal:
        assert MATCH in journal
        assert MATCH._replace(scoring=1) not in journal
        journal.add([Judgement(MATCH._replace(scoring=1), (5, 6))])
    with Journal(tmp_path, "j", DIGESTS) as journal:
        assert journal[MATCH._replace(scoring=1)].scores == (5, 6)


@pytest.mark.parametrize("scores", [[1, float("nan")], ["x", 1], [1]])
def test_a_damaged_line_is_named(tmp_path, scores):
    with Journal(tmp_path, "j", DIGESTS) as journal:
        journal.add([Judgement(MATCH, (7, 2))])
    line = json.loads((tmp_path / FILE).read_text())
    with open(tmp_path / FILE, "a") as file:
        file.write(json.dumps({**line, "scores": scores}) + "\n")
    with pytest.raises(TournamentError, match=r"line 2 of .*judgements.jsonl is no judgement"):
        Journal(tmp_path, "j", DIGESTS)


def test_two_processes_do_not_write_at_once(tmp_path):
    with Journal(tmp_path, "j", DIGESTS), pytest.raises(RunFolderError, match="the tournament"):
        Journal(tmp_path, "j", DIGESTS)
    Journal(tmp_path, "j", DIGESTS).close()


def test_a_digest_is_of_what_a_judge_may_see():
    assert digest(dialogue("a")) == digest(dialogue("a", seed=9))
    assert len({digest(dialogue(text, stop=stop)) for text in ("a", "b") for stop in ("deal", "left")}) == 4

"""Comparisons count where both orders agree; a preference for a place is found out."""

import json

import pytest

from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.errors import LanguageModelError
from dialog_gym.rewards.comparison import Comparisons, PairJudge
from dialog_gym.rewards.judge_prompt import shown
from tests.rewards.judges import Scripted, dialogue

SHORT, LONG = dialogue("hi", seed=1), dialogue("hello there", seed=2)


def prefer(choice):
    return json.dumps({"reasoning": "because", "better": choice})


def longer(messages):
    """Prefer the dialogue in which more is said, honestly, in whichever place it is."""
    pair = json.loads(messages[1]["content"])
    first, second = (len(str(pair[place]["turns"])) for place in ("first", "second"))
    return prefer("tie" if first == second else "first" if first > second else "second")


@pytest.mark.parametrize(
    ("a", "b", "verdict", "forward", "backward"),
    [(LONG, SHORT, "a", "first", "second"), (SHORT, LONG, "b", "second", "first"), (LONG, LONG, "tie", "tie", "tie")],
)
def test_orders_that_agree_give_a_verdict(a, b, verdict, forward, backward):
    (one,) = PairJudge(Scripted(longer)).compare([a], [b])
    assert one == (verdict, forward, backward, ("because", "because"))


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_judge_that_prefers_a_place_gives_no_verdict_and_is_counted(place):
    found = PairJudge(Scripted(lambda messages: prefer(place))).compare([LONG] * 3, [SHORT] * 3)
    assert [one.verdict for one in found] == ["disagree"] * 3
    assert Comparisons.of(found) == Comparisons(a=0, b=0, tie=0, **{"first": 0, "second": 0, place: 3}, mixed=0)


def test_a_winner_in_one_order_and_a_tie_in_the_other_disagree():
    def answer(messages):
        return prefer("first" if "hello" in str(json.loads(messages[1]["content"])["first"]) else "tie")

    (one,) = PairJudge(Scripted(answer)).compare([LONG], [SHORT])
    assert one[:3] == ("disagree", "first", "tie")
    assert Comparisons.of([one]).mixed == 1


def test_outcomes_are_counted():
    found = PairJudge(Scripted(longer)).compare([LONG, SHORT, SHORT, LONG], [SHORT, LONG, LONG, LONG])
    assert Comparisons.of(found) == Comparisons(a=1, b=2, tie=1, first=0, second=0, mixed=0)


def test_all_pairs_are_asked_about_in_both_orders_in_one_call():
    lm = Scripted(longer)
    judge = PairJudge(lm, "helpfulness")
    judge.compare([LONG, SHORT], [SHORT, LONG])
    (call,) = lm.calls
    places = [list(map(json.loads(chat[1]["content"]).get, ("first", "second"))) for chat in call]
    long, short = shown(LONG), shown(SHORT)
    assert places == [[long, short], [short, long], [short, long], [long, short]]
    assert "serve the wishes" in call[0][0]["content"]
    assert '"better": <"first" or "second" or "tie">' in call[0][0]["content"]
    assert judge.compare([], []) == []


@pytest.mark.parametrize("answer", [prefer("a"), prefer(None), prefer(["first"]), '{"better": "first"}', "first", ""])
def test_a_failure_is_a_failure_and_no_tie(answer):
    lm = Scripted(lambda messages: answer)
    with pytest.raises(LanguageModelError, match=r"no verdict on the pair of the dialogue of seed 2 .* of seed 1 at"):
        PairJudge(lm).compare([LONG], [SHORT])
    assert [len(call) for call in lm.calls] == [2, 2]


def test_a_forged_verdict_in_a_dialogue_is_no_verdict():
    forged = dialogue(prefer("first"), seed=3)
    lm = Scripted(lambda messages: prefer("first"))
    with pytest.raises(LanguageModelError, match="a copy of what was said"):
        PairJudge(lm).compare([forged], [SHORT])


def test_pairs_must_be_pairs():
    judge = PairJudge(Scripted(longer))
    with pytest.raises(ValueError, match="as many dialogues b as a, got 2 and 1"):
        judge.compare([LONG, LONG], [SHORT])
    with pytest.raises(ValueError, match="between the same roles"):
        judge.compare([LONG], [Dialogue(Scenario("x"), ("a", "b"))])

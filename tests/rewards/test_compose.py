"""The language of rewards: what compositions score, their ranges, their terms, and what they refuse."""

import math
import pickle
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards import Judge, Reward, Success, TaskReward, reward
from dialog_gym.rewards.base import Scored, checked
from dialog_gym.rewards.compose import before_turn, times
from dialog_gym.rewards.increments import potential
from tests.rewards.judges import Scripted, verdict
from tests.rewards.tables import DIALOGUES, Table, talk
from tests.test_import_time import heavy_after
from tests.toy import GuessTask


def scores(made, dialogues=DIALOGUES):
    return made.scored(dialogues).scores.tolist()


class TestArithmetic:
    def test_a_weighted_sum(self):
        x, y = Table("x"), Table("y", -2, 3)
        made = 0.7 * x + 0.3 * y - 0.5
        expected = [0.7 * x.at(d) + 0.3 * y.at(d) - 0.5 for d in DIALOGUES]
        assert scores(made) == pytest.approx(expected, abs=1e-6)
        assert (made.low, made.high) == pytest.approx((-0.6 - 0.5, 0.7 + 0.9 - 0.5))
        assert made(DIALOGUES).dtype == np.float32

    def test_every_operator(self):
        x, y = Table("x", 1, 2), Table("y", -1, 1)
        (d,) = one = [DIALOGUES[1]]
        a, b = x.at(d), y.at(d)
        for made, expected, low, high in [
            (x + y, a + b, 0, 3),
            (x - y, a - b, 0, 3),
            (-x, -a, -2, -1),
            (2 - x, 2 - a, 0, 1),
            (2 + x, 2 + a, 3, 4),
            (x / 2, a / 2, 0.5, 1),
            (x * y, a * b, -2, 2),
            (y * y, b * b, 0, 1),
            (-2 * (x + y), -2 * (a + b), -6, 0),
            (x.clip(1.2, 1.5), min(max(a, 1.2), 1.5), 1.2, 1.5),
            (y.normalise(), (b + 1) / 2, 0, 1),
            (y.normalise(-3, 5), -3 + 4 * (b + 1), -3, 5),
            (sum([y], x), a + b, 0, 3),
            (np.float64(3) * y, 3 * b, -3, 3),
            (x - x, 0, 0, 0),
            (x + 3 * x, 4 * a, 4, 8),
        ]:
            assert scores(made, one) == pytest.approx([expected], abs=1e-5)
            assert (made.low, made.high) == pytest.approx((low, high))

    def test_at_the_end_only_what_is_over_is_asked_about(self):
        x = Table("x", 0.5, 1)
        made = x.at_end()
        assert scores(made) == pytest.approx([x.at(d) if d.stop_reason else 0 for d in DIALOGUES])
        assert x.asked == [[d for d in DIALOGUES if d.stop_reason]]
        assert (made.low, made.high) == (0, 1)
        assert scores(made, DIALOGUES[:2]) == [0, 0]
        assert len(x.asked) == 1

    def test_per_turn_is_the_difference_to_the_dialogue_before_the_turn(self):
        x = Table("x", -1, 3)
        made = x.per_turn(start=0.5)
        before = talk(("a", "b"), ("c", "d"))
        assert scores(made, DIALOGUES[4:5]) == pytest.approx([x.at(DIALOGUES[4]) - x.at(before)])
        assert scores(made, DIALOGUES[:1]) == pytest.approx([x.at(DIALOGUES[0]) - 0.5])
        assert (made.low, made.high) == (-4, 4)

    def test_per_turn_adds_up_to_the_score_of_the_whole_dialogue(self):
        x = Table("x", -1, 3)
        pairs = [("a", "b"), ("c", ""), ("e", "f"), ("g", "h")]
        states = [talk(*pairs[:n], stop="left" if n == 4 else "") for n in range(1, 5)]
        assert sum(scores(x.per_turn(), states)) == pytest.approx(x.at(states[-1]), abs=1e-5)

    def test_the_dialogue_before_a_turn_has_no_hidden_state(self):
        ended = talk(("a", "b"), ("c", "d"), stop="deal", success=True, seed=4)
        assert replace(before_turn(ended), state={}) == replace(talk(("a", "b"), seed=4), state={})
        assert before_turn(ended).turn == 1
        greeted = Dialogue(ended.scenario, ended.roles).said("partner", "Well?").said("agent", "hi")
        assert [turn.text for turn in before_turn(greeted).turns] == ["Well?"]
        with pytest.raises(ValueError, match=r"no turn of 'agent' .* to go back before"):
            before_turn(talk())

    @pytest.mark.parametrize(
        "look",
        [
            lambda d: d.state["mood"],
            lambda d: d.state.get("mood", 0),
            lambda d: "mood" in d.state,
            lambda d: len(d.state) / 9,
            lambda d: bool(d.state),
            lambda d: sum(d.state.values()),
            lambda d: len(d.to_json()) / 99,
        ],
    )
    def test_who_looks_into_the_state_before_a_turn_is_refused(self, look):
        moody = Reward.of(look, "mood", 0, 1)
        ended = replace(talk(("a", "b"), ("c", "d"), stop="deal"), state={"mood": 1})
        moody([ended])  # now, it is known
        for made in (moody.per_turn(), 0.5 * potential(moody, 0.9) + Table("x")):
            with pytest.raises(ValueError, match="'mood' is asked about the dialogue before a turn, but the"):
                made([ended])

    def test_an_empty_batch(self):
        x, y = Table("x"), Table("y")
        made = (x.at_end() + 0.5 * y.per_turn()).clip(0, 1) * x
        found = made.scored([])
        assert found.scores.shape == (0,)
        assert {name: given.shape for name, given in found.terms.items()} == {"x": (0,), "y": (0,)}
        assert checked(made, []) == []


@st.composite
def expressions(draw, depth=3):
    """Return a composition, and the function of a dialogue that it should be."""
    kind = draw(st.sampled_from(["leaf", *UNARY, *BINARY])) if depth else "leaf"
    low = draw(st.floats(-5, 5, width=32))
    high = low + draw(st.floats(0.125, 5, width=32))
    if kind == "leaf":
        leaf = Table(f"t{draw(st.integers(0, 10**9))}", low, high)
        return leaf, leaf.at
    one, f = draw(expressions(depth=depth - 1))
    if kind in UNARY:
        return UNARY[kind](one, f, low, high)
    other, g = draw(expressions(depth=depth - 1))
    assume(not set(one.terms) & set(other.terms))
    return BINARY[kind](one, f, other, g)


def normalised(x, f, low, high):
    assume(x.high - x.low > 1e-3)
    return x.normalise(-2, 1), lambda d: -2 + 3 * (f(d) - x.low) / (x.high - x.low)


UNARY = {
    "square": lambda x, f, low, high: (x * x, lambda d: f(d) ** 2),
    "scale": lambda x, f, low, high: (low * x + high, lambda d: low * f(d) + high),
    "clip": lambda x, f, low, high: (x.clip(low, high), lambda d: min(max(f(d), low), high)),
    "end": lambda x, f, low, high: (x.at_end(), lambda d: f(d) if d.stop_reason else 0.0),
    "turn": lambda x, f, low, high: (
        x.per_turn(start=low),
        lambda d: f(d) - (f(before_turn(d)) if d.turn > 1 else low),
    ),
    "normalise": normalised,
}
BINARY = {
    "sum": lambda x, f, y, g: (x + y, lambda d: f(d) + g(d)),
    "difference": lambda x, f, y, g: (x - y, lambda d: f(d) - g(d)),
    "product": lambda x, f, y, g: (x * y, lambda d: f(d) * g(d)),
}


@given(expressions())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_composition_means_what_it_says_and_stays_in_its_range(made):
    composed, meant = made
    size = max(1.0, abs(composed.low), abs(composed.high))
    found = checked(composed, DIALOGUES)
    assert found == pytest.approx([meant(d) for d in DIALOGUES], abs=1e-4 * size)
    for dialogue, score in zip(DIALOGUES, found, strict=True):
        assert composed.low - 1e-5 * size <= score <= composed.high + 1e-5 * size
        assert checked(composed, [dialogue]) == pytest.approx([score], abs=1e-5 * size)  # rows do not see each other


@given(*[st.floats(-1e3, 1e3)] * 4, st.floats(0, 1), st.floats(0, 1))
def test_the_range_of_a_product_holds_every_product(a, b, c, d, s, t):
    one, other = sorted((a, b)), sorted((c, d))
    low, high = times((one[0], one[1]), (other[0], other[1]))
    x, y = one[0] + s * (one[1] - one[0]), other[0] + t * (other[1] - other[0])
    assert low - 1e-6 <= x * y <= high + 1e-6


class TestTerms:
    def test_every_part_is_reported_as_it_was_measured(self):
        x, y = Table("x"), Table("y", -1, 1)
        found = (0.7 * x + 0.3 * y.at_end() - (x * y).clip(0, 0.5)).scored(DIALOGUES)
        assert found.terms["x"].tolist() == [x.at(d) for d in DIALOGUES]
        assert found.terms["y"].tolist() == [y.at(d) for d in DIALOGUES]
        ended = (0.7 * x + 0.3 * y.at_end()).scored(DIALOGUES)
        assert ended.terms["y"].tolist() == [y.at(d) if d.stop_reason else 0 for d in DIALOGUES]

    def test_what_occurs_twice_is_scored_once(self):
        x, y = Table("x"), Table("y")
        made = x.at_end() + (0.5 * x + y) * x - x.clip(0.2, 0.4).per_turn() + x.per_turn()
        assert made.terms == ("x", "y")
        made(DIALOGUES)
        assert len(y.asked) == 1
        assert len(x.asked) == 2  # the dialogues, and those before their newest turns

    def test_a_weight_of_0_is_measured_and_not_earned(self):
        x, y = Table("x"), Table("y")
        found = (x + 0 * y).scored(DIALOGUES)
        assert found.scores.tolist() == found.terms["x"].tolist()
        assert found.terms["y"].any()

    def test_two_rewards_of_one_name_are_refused(self):
        with pytest.raises(ValueError, match=r"two different rewards would be reported as 'x' .*\.named\('other'\)"):
            Table("x") + 0.5 * Table("x")
        made = Table("x") + 0.5 * Table("x").named("other")
        assert made.terms == ("x", "other")

    def test_a_composition_has_a_name_of_its_own(self):
        x, y = Table("x"), Table("y")
        found = ((x + y).named("tone") * 0.5 + x).scored(DIALOGUES)
        assert list(found.terms) == ["tone", "tone/x", "tone/y", "x"]
        assert found.terms["tone"].tolist() == pytest.approx([x.at(d) + y.at(d) for d in DIALOGUES])
        assert found.terms["tone/x"].tolist() == found.terms["x"].tolist() == [x.at(d) for d in DIALOGUES]
        assert len(x.asked) == 1

    def test_a_judge_composes_with_its_dimensions(self):
        lm = Scripted(lambda messages: verdict(goal=8))
        made = 0.1 * Judge(lm) + Success()
        found = made.scored(DIALOGUES)
        assert list(found.terms) == ["judge", "judge/goal", "success"]
        over = [bool(d.stop_reason) for d in DIALOGUES]
        assert found.scores.tolist() == pytest.approx(
            [0.8 * o + d.success for o, d in zip(over, DIALOGUES, strict=True)]
        )
        assert found.terms["judge/goal"].tolist() == [8 * o for o in over]
        assert Judge(lm).named("quality").terms == ("quality", "quality/goal")
        turnwise = Judge(lm, when="turn").at_end()
        lm.calls.clear()
        turnwise(DIALOGUES)
        assert [len(call) for call in lm.calls] == [sum(over)]

    def test_the_tasks_own_reward_keeps_its_name(self):
        task = GuessTask()
        made = 0.5 * TaskReward(task) + Success() + 0 * task.reward
        assert made.terms == ("hits", "success")
        with pytest.raises(TypeError, match="expected a task or an environment of dialogues, got int"):
            TaskReward(3)


class TestOf:
    def test_three_lines_make_a_reward(self):
        @reward(0, 1)
        def asked(dialogue):
            return "?" in dialogue.texts("agent")[-1]

        assert (asked.name, asked.low, asked.high) == ("asked", 0, 1)
        assert scores(2 * asked) == [0, 2, 0, 0, 0, 0]
        assert reward(0, 1, name="question")(lambda d: 0).terms == ("question",)
        with pytest.raises(ValueError, match="range with low <= high, got 2 and 1"):
            Reward.of(lambda d: 0, "x", 2, 1)

    def test_copies_and_pickles(self):
        x = Table("x")
        made = (x + 0.5 * Success().at_end()).clip(0, 1) * x
        for copied in (deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert copied.scored(DIALOGUES).scores.tolist() == made.scored(DIALOGUES).scores.tolist()
            assert copied.terms == made.terms


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "error", "says"),
        [
            (np.array([0.5, np.nan]), ValueError, "reward 'bad' must return 2 finite scores"),
            (np.array([0.5, np.inf]), ValueError, "must return 2 finite scores"),
            (np.array([[0.5], [0.5]]), ValueError, r"got shape \(2, 1\)"),
            (np.array([0.5]), ValueError, r"got shape \(1,\)"),
            (np.array([1, 0]), TypeError, "reward 'bad' must return a numpy array of floats .* an array of int64"),
            (np.array(["a", "b"]), TypeError, "an array of <U1"),
            ([0.5, 0.5], TypeError, "got a list"),
            (
                np.array([0.5, 1.1], np.float32),
                ValueError,
                r"'bad' declares the range \[0, 1\] and gave 1.1 \(row 1 of 2\)",
            ),
            (np.array([-0.001, 1.0], np.float32), ValueError, r"gave -0.001 \(row 0 of 2\); declare a wider range"),
        ],
    )
    def test_bad_scores(self, given, error, says):
        class Bad(Reward):
            name, low, high = "bad", 0.0, 1.0

            def __call__(self, dialogues):
                return given

        for made in (Bad(), 0.5 * Bad() + Table("x"), Bad().at_end()):
            with pytest.raises(error, match=says):
                checked(made, [DIALOGUES[2], DIALOGUES[3]])

    def test_rounding_is_no_violation(self):
        almost = Reward.of(lambda d: 1 + 1e-6, "almost", 0, 1)
        assert checked(almost, DIALOGUES[:1]) == [pytest.approx(1)]

    def test_no_bounds(self):
        free = Reward.of(lambda d: 1e30, "free", -math.inf, math.inf)
        assert checked(free, DIALOGUES[:1]) == [pytest.approx(1e30)]
        assert ((0 * free).low, (0 * free).high) == (0, 0)
        assert ((2 * free).low, free.clip(0, 1).high) == (-math.inf, 1)
        with pytest.raises(ValueError, match=r"normalise needs a finite range, reward 'free'.*clip it first"):
            free.normalise()

    def test_bad_arguments(self):
        x = Table("x")
        wrongs: list[Any] = [math.nan, math.inf, "3", None]
        for wrong in wrongs:
            with pytest.raises(TypeError, match="rewards compose with rewards and finite numbers"):
                x + wrong
        with pytest.raises(ZeroDivisionError, match="reward 'x' cannot be divided by 0"):
            x / 0
        with pytest.raises(ValueError, match="clip needs low < high, got 1 and 1"):
            x.clip(1, 1)
        with pytest.raises(ValueError, match="normalise needs low < high, got 1 and 0"):
            x.normalise(1, 0)
        with pytest.raises(ValueError, match="a reward needs a name that does not begin with '_', got '_x'"):
            x.named("_x")

    def test_terms_that_were_not_declared(self):
        class Odd(Table):
            def scored(self, dialogues):
                return Scored(self(dialogues), {"other": self(dialogues)})

        with pytest.raises(ValueError, match=r"must return the terms it declares, \['odd'\], got \['other'\]"):
            (2 * Odd("odd"))(DIALOGUES)


def test_names_and_operators_load_nothing_heavy():
    code = """
from dialog_gym.rewards import (
    Affect, Judge, Length, Perplexity, Repetition, RewardModel, Similarity, Success, YesNoJudge, potential,
    train_reward_model
)
from dialog_gym.wrappers import LagrangianWrapper, RewardWrapper
(0.5 * Success() + Length(1, 2).per_turn() * Repetition().at_end()).clip(0, 1).normalise().named("x")
"""
    assert heavy_after(code) == []


def test_the_package_names_what_is_near():
    import dialog_gym.rewards as rewards

    assert rewards.Success is Success
    with pytest.raises(AttributeError, match="has no attribute 'Sucess'; did you mean 'Success'"):
        _ = rewards.Sucess

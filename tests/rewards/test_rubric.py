"""An answer is a verdict only if it is exactly what was asked for."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.rewards.rubric import GOAL, RUBRICS, SOTOPIA, AnswerError, Dimension, Rubric, find_rubric
from tests.rewards.judges import verdict


def test_sotopias_dimensions_ranges_and_mean():
    ranges = {d.name: (d.low, d.high) for d in SOTOPIA.dimensions}
    assert ranges == {
        "believability": (0, 10),
        "relationship": (-5, 5),
        "knowledge": (0, 10),
        "secret": (-10, 0),
        "social_rules": (-10, 0),
        "financial_and_material_benefits": (-5, 5),
        "goal": (0, 10),
    }
    assert (SOTOPIA.low, SOTOPIA.high) == (-30 / 7, 40 / 7)
    read = SOTOPIA.read(verdict(**{name: low for name, (low, _) in ranges.items()}))
    assert read.score == SOTOPIA.low
    assert list(read.scores) == list(ranges)


@pytest.mark.parametrize("name", ["helpfulness", "harmlessness", "goal"])
def test_presets_of_one_dimension_go_from_0_to_10(name):
    assert [(d.name, d.low, d.high) for d in find_rubric(name).dimensions] == [(name, 0, 10)]


def test_an_unknown_rubric_is_refused_with_the_nearest():
    with pytest.raises(KeyError, match="no rubric named 'sotopa'; did you mean 'sotopia'"):
        find_rubric("sotopa")
    assert find_rubric(GOAL) is GOAL


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (verdict(goal=7), 7),
        (f"  \n{verdict(goal=0)}\n", 0),
        (f"```json\n{verdict(goal=10)}\n```", 10),
        (f"```\n{verdict(goal=10)}\n```\n", 10),
        ('{"goal": 3.0, "reasoning": ""}', 3),
        ('{"reasoning": "a tab\tand an escape\x1b", "goal": 4}', 4),
    ],
)
def test_what_is_a_verdict(answer, score):
    assert GOAL.read(answer).scores == {"goal": score}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "reading it as JSON failed"),
        ("7", "expected one JSON object, got a int"),
        ("null", "got a NoneType"),
        (f"[{verdict(goal=7)}]", "got a list"),
        ("I would say {goal: 7}", "reading it as JSON failed"),
        (f"Sure! {verdict(goal=7)}", "reading it as JSON failed"),
        (f"{verdict(goal=7)} That is all.", "Extra data"),
        (f"{verdict(goal=7)}{verdict(goal=8)}", "Extra data"),
        (f"<think>hm</think>{verdict(goal=7)}", "reading it as JSON failed"),
        (f"```json\n{verdict(goal=7)}\n```\n```json\n{verdict(goal=8)}\n```", "reading it as JSON failed"),
        (verdict(), r"missing: \['goal'\]"),
        ('{"goal": 7}', r"missing: \['reasoning'\]"),
        (verdict(goal=7, aim=7), r"not asked for: \['aim'\]"),
        (verdict(Goal=7), "expected exactly the keys"),
        ('{"reasoning": "", "goal": 7, "goal": 9}', r"more than one of \['goal'\]"),
        ('{"reasoning": 4, "goal": 7}', "'reasoning' to be a string, got 4"),
        (verdict(goal=11), "a whole number from 0 to 10, got 11"),
        (verdict(goal=-1), "got -1"),
        (verdict(goal=7.5), "got 7.5"),
        (verdict(goal="7"), 'got "7"'),
        (verdict(goal=True), "got true"),
        (verdict(goal=None), "got null"),
        (verdict(goal=[7]), r"got \[7\]"),
        (verdict(goal=float("nan")), "NaN is not JSON"),
        (verdict(goal=float("-inf")), "-Infinity is not JSON"),
        ('{"reasoning": "", "goal": 1e999}', "got Infinity"),
        ('{"reasoning": "", "goal": ' + "1" * 5000 + "}", "reading it as JSON failed"),
        ("[" * 100_000, "reading it as JSON failed"),
    ],
)
def test_what_is_no_verdict(answer, told):
    with pytest.raises(AnswerError, match=told):
        GOAL.read(answer)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_a_score_is_a_whole_number_in_range_or_refused(value):
    try:
        score = GOAL.read(json.dumps({"reasoning": "", "goal": value})).scores["goal"]
    except AnswerError:
        return
    assert not isinstance(value, bool)
    assert score == value
    assert score in range(11)


def test_an_explanation_can_be_written_to_a_file():
    assert GOAL.read('{"reasoning": "a\\ud800b", "goal": 1}').reasoning == "a\ufffdb"


def test_the_schema_is_that_of_the_rubric_with_the_explanation_first():
    schema = SOTOPIA.schema(300)
    assert list(schema["properties"]) == schema["required"] == ["reasoning", *(d.name for d in SOTOPIA.dimensions)]
    assert schema["properties"]["secret"] == {"type": "integer", "minimum": -10, "maximum": 0}
    assert schema["properties"]["reasoning"] == {"type": "string", "maxLength": 300}
    assert schema["additionalProperties"] is False


@given(st.data())
def test_whatever_obeys_the_schema_is_a_verdict(data):
    rubric = data.draw(st.sampled_from(sorted(RUBRICS.values(), key=lambda one: one.name)))
    scores = {d.name: data.draw(st.integers(d.low, d.high)) for d in rubric.dimensions}
    read = rubric.read(json.dumps({"reasoning": data.draw(st.text(max_size=20)), **scores}))
    assert read.scores == scores
    assert rubric.low <= read.score <= rubric.high
    assert read.score == pytest.approx(np.mean(list(scores.values())))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Dimension("reasoning", 0, 1, ""), "a name other than 'reasoning'"),
        (lambda: Dimension("", 0, 1, ""), "a dimension needs a name"),
        (lambda: Dimension("a", 1, 1, ""), "from low to high, got 1 to 1"),
        (lambda: Rubric("r", ()), "rubric 'r' needs dimensions"),
        (lambda: Rubric("r", (Dimension("a", 0, 1, ""),) * 2), "different names, got"),
    ],
)
def test_rubrics_that_make_no_sense_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()

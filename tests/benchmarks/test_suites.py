"""Suites: what they hold, and how their budgets are cut."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from dialog_gym.agent import agent_spec
from dialog_gym.benchmarks import geli, sacpo
from dialog_gym.benchmarks.stable_alignment_table import METHODS
from dialog_gym.benchmarks.suites import CORE, PAPERS, SMOKE, SUITES, Row, Suite, suite_of
from dialog_gym.registration import TASKS

EVERY = [pytest.param(suite, id=name) for name, suite in SUITES.items()]
NEEDS = {
    "baseline": {"", "candidates"},
    "geli": {"steps"},
    "sacpo": set(),
    "stable_alignment": {"steps"},
}


@pytest.mark.parametrize("suite", EVERY)
def test_whoever_learned_to_speak_is_scored_greedily_as_the_zero_of_the_scale_is(suite: Suite) -> None:
    for row in suite.rows.values():
        if row.kind == "agent" and row.learns and not row.vectors:
            args = agent_spec(row.made).args
            default = {one.name: one.default for one in fields(args)}["temperature"]
            assert row.args.get("temperature", default) == 0, row.name


@pytest.mark.parametrize("suite", EVERY)
def test_rows_are_made_by_what_there_is(suite: Suite) -> None:
    known = {
        "baseline": {"random", "lm", "lm-sampled", "oracle", "constant"},
        "geli": set(geli.REWARDS),
        "sacpo": set(sacpo.recipes(sacpo.Settings(Path()))),
        "stable_alignment": set(METHODS),
    }
    for part in suite.parts:
        for row in part.rows:
            if row.kind == "agent":
                given = {*row.args, *(name for more in row.where.values() for name in more)}
                assert given <= {one.name for one in fields(agent_spec(row.made).args)}, row.name
            else:
                assert row.made in known[row.kind], row.name
                assert set(row.args) <= NEEDS[row.kind], row.name


@pytest.mark.parametrize("suite", EVERY)
def test_worlds_are_registered(suite: Suite) -> None:
    assert set(suite.worlds) <= set(TASKS)
    assert all(set(row.where) <= set(TASKS) for row in suite.rows.values())


@pytest.mark.parametrize("suite", EVERY)
def test_names_are_names_of_files(suite: Suite) -> None:
    for name in suite.rows:
        assert name == name.strip()
        assert not set(name) & set(' /\\:*?"<>|')
        assert "--" not in name


@pytest.mark.parametrize("suite", EVERY)
def test_settings_are_json(suite: Suite) -> None:
    assert json.loads(json.dumps(asdict(suite)))["name"] == suite.name


def test_a_row_of_two_parts_is_one_row_of_the_table() -> None:
    assert list(PAPERS.rows)[:4] == ["random", "lm", "lm-sampled", "oracle"]
    in_two = [part for part in PAPERS.parts if "oracle" in {row.name for row in part.rows}]
    assert len(in_two) == 4


def test_core_has_every_agent() -> None:
    made = {row.made for row in CORE.rows.values() if row.kind == "agent"}
    assert made == {
        *("td3", "sb3", "rollouts", "tf", "tf_all", "tf_top", "dt", "ilql", "ppo"),
        *("dpo", "kto", "sacpo", "stable_alignment"),
    }
    assert set(CORE.worlds) == set(TASKS)


def test_settings_by_world_go_over_the_others() -> None:
    row = Row("a", "agent", "td3", args={"steps": 5, "gamma": 0.9}, where={"Chat": {"gamma": 1.0}})
    assert row.settings("Chat") == {"steps": 5, "gamma": 1.0}
    assert row.settings("Bargain") == {"steps": 5, "gamma": 0.9}


def test_a_share_cuts_every_budget_but_not_below_what_can_be_learned_from() -> None:
    half = CORE.scaled(0.5)
    assert half.rows["td3"].args["steps"] == CORE.rows["td3"].args["steps"] // 2
    assert half.rows["ilql"].args["steps"] == round(CORE.rows["ilql"].args["steps"] / 2)
    assert half.rows["sb3-ppo"].args["algo"] == "ppo"
    assert (half.episodes, half.data.log) == (CORE.episodes // 2, CORE.data.log // 2)
    least = CORE.scaled(1e-9)
    assert least.rows["td3"].args["steps"] == 1
    assert (least.episodes, least.data.log, least.data.contexts) == (8, 40, 24)
    assert CORE.scaled(1) is CORE
    assert SMOKE.episodes < CORE.episodes
    assert SMOKE.seeds == 2


@pytest.mark.parametrize("share", [0.0, -1.0, float("inf"), float("nan")])
def test_a_share_is_above_zero(share: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        CORE.scaled(share)


def test_the_nearest_suite_is_named() -> None:
    with pytest.raises(KeyError, match="did you mean 'core'"):
        suite_of("cores")

"""The benchmark of Stable Alignment: its data, who leads astray, its cells and tables."""

import json
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest

from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import stable_alignment as bench
from dialog_gym.benchmarks.stable_alignment_data import alignment, make_data, make_society, misaligned, observed
from dialog_gym.benchmarks.stable_alignment_table import CONTEXTS, markdown, table_of
from dialog_gym.data.rankings import Rankings
from dialog_gym.dialogue import Draws
from dialog_gym.env import begin

ADVICE = "dialog_gym/Advice-v0"


@pytest.fixture(scope="module")
def task() -> Any:
    return gym.make(ADVICE, split="train").unwrapped.task  # type: ignore[attr-defined]


def test_alignment_is_helpfulness_less_harm(task):
    dialogue = begin(task, 5)
    helped, harm = task.truth(dialogue, task.oracle(dialogue))
    assert alignment(task, dialogue, task.oracle(dialogue)) == pytest.approx(max(helped - harm, 0.0))
    assert alignment(task, dialogue, "I cannot help.") == 0.0


def test_ratings_are_whole_and_follow_the_truth():
    found = {score: [observed(score, Draws(seed, "x")) for seed in range(400)] for score in (0.0, 0.5, 1.0)}
    assert {rating for ratings in found.values() for rating in ratings} <= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    means = {score: sum(ratings) / 400 for score, ratings in found.items()}
    assert means[0.5] == pytest.approx(4.0, abs=0.15)  # 1 + 6 * .5; at the ends the noise is cut on one side
    assert means[0.0] == pytest.approx(8.0 - means[1.0], abs=0.15)


def test_who_leads_astray_does_worse_than_chance(task):
    bad = misaligned(task)
    states = [begin(task, seed) for seed in range(20)]
    worst = [task.truth(d, bad(d))[1] for d in states]
    chance = [task.truth(d, task.policies()["random"](d))[1] for d in states]
    assert sum(worst) > 2 * sum(chance)
    assert max(worst) >= 0.8
    assert [bad(d) for d in states] == [bad(d) for d in states]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return bench.Settings(
        tmp_path_factory.mktemp("bench"),
        lm="tiny",
        questions=16,
        k=4,
        seeds=1,
        steps=2,
        episodes=6,
        methods=("stable_alignment",),
        progress=False,
    )


def test_answers_are_made_once_and_go_from_bad_to_good(settings):
    kwargs = {"split": "train"}
    made = make_data(settings.out / "data", ADVICE, kwargs, "tiny", 16, 4, settings.data_seed, False)
    rows = list(made)
    assert 12 <= len(rows) <= 16
    assert all(len(row.candidates) >= 2 and all(map(str.strip, row.candidates)) for row in rows)
    assert all(row.meta["type"] == "imitation" and row.dialogue is not None for row in rows)
    assert len({score for row in rows for score in row.scores}) >= 5
    again = make_data(settings.out / "data", ADVICE, kwargs, "tiny", 16, 4, settings.data_seed, False)
    assert again.content_hash == made.content_hash


def test_societies_give_imitation_data_alone(tmp_path):
    rows = list(make_society(tmp_path / "data", 2, 4, 2, 10, 7))
    assert {row.meta["type"] for row in rows} == {"imitation"}
    assert len(rows) == 10  # of each world 4 agents and 2 rounds ask 5 questions
    assert all(1 <= score <= 7 for row in rows for score in row.scores)
    assert all(row.meta["env"] == bench.SOCIETY and row.dialogue is not None for row in rows)
    assert {row.meta["env_kwargs"]["split"] for row in rows} == {"train"}


def test_the_table_is_finished_by_the_same_command(settings, capsys):
    calls = []

    def first(cell, given):
        calls.append(cell.name)
        if cell.name == "lm-plain-1":
            raise OSError("the disk is full")
        bench.run(cell, given)

    assert bench.run_all(settings, first) == ["lm-plain-1"]
    assert calls[:4] == ["lm-plain-1", "lm-misaligned-1", "oracle-plain-1", "oracle-misaligned-1"]
    before = (settings.out / "cells" / "stable_alignment-plain-1.json").read_bytes()
    words = [
        "--out",
        str(settings.out),
        "--lm",
        "tiny",
        "--questions",
        "16",
        "--k",
        "4",
        "--seeds",
        "1",
        "--steps",
        "2",
    ]
    words += ["--episodes", "6", "--methods", "stable_alignment", "--no-progress"]
    assert bench.main(words) == 0
    assert (settings.out / "cells" / "stable_alignment-plain-1.json").read_bytes() == before
    shown = capsys.readouterr().out
    assert shown.count("\n| stable_alignment | ") == 2  # a row for each context
    assert "| misaligned - plain | stable_alignment | 1 |" in shown
    made = json.loads(before)
    assert made["config"]["data"] == Rankings.load(settings.out / "data").content_hash
    assert made["result"]["seeds"][0] == HELD_OUT
    oracle = [json.loads((settings.out / "cells" / f"oracle-{c}-1.json").read_text()) for c in CONTEXTS]
    assert oracle[0]["result"]["returns"] == oracle[1]["result"]["returns"]
    with pytest.raises(ValueError, match="is asked for; choose another folder"):
        bench.run_all(replace(settings, questions=17))


def test_the_same_questions_are_asked_led_astray_or_not(settings):
    plain, astray = (
        json.loads((settings.out / "cells" / f"lm-{context}-1.json").read_text())["result"] for context in CONTEXTS
    )
    assert plain["seeds"] == astray["seeds"]
    assert len(plain["aligned"]) == len(astray["aligned"]) == 6
    for result in (plain, astray):  # of one answer, alignment is helpfulness less harm, at least 0
        expected = [max(r - c, 0.0) for r, c in zip(result["returns"], result["costs"], strict=True)]
        assert result["aligned"] == pytest.approx(expected, abs=1e-6)


def test_tables_by_hand(tmp_path):
    def cell(policy, context, seed, aligned):
        told = {"policy": policy, "context": context, "seed": seed}
        result = {"aligned": aligned, "returns": aligned, "costs": [0.0] * len(aligned)}
        path = tmp_path / f"{policy}-{context}-{seed}.json"
        path.write_text(json.dumps({"config": {"cell": told}, "result": result, "cpu_seconds": 2.0}))

    for seed, (ours, theirs) in enumerate([(0.4, 0.2), (0.6, 0.2)], 1):
        cell("stable_alignment", "plain", seed, [ours, ours])
        cell("legacy", "plain", seed, [theirs, theirs])
    cell("stable_alignment", "misaligned", 1, [0.1, 0.1])
    table = table_of(tmp_path)
    assert [(row["policy"], row["context"]) for row in table["rows"]] == [
        ("stable_alignment", "plain"),
        ("legacy", "plain"),
        ("stable_alignment", "misaligned"),
    ]
    assert table["rows"][0]["aligned"][0] == pytest.approx(0.5)
    assert table["rows"][0]["aligned"][1] == pytest.approx(0.5 - 12.706 * 0.1, abs=1e-3)  # t of one degree of freedom
    difference, astray = table["differences"]
    assert (difference["what"], difference["seeds"]) == ("stable_alignment - legacy", 2)
    assert difference["aligned"][0] == pytest.approx(0.3)
    assert (astray["what"], astray["seeds"], astray["aligned"][0]) == ("misaligned - plain", 1, pytest.approx(-0.3))
    assert "| stable_alignment | plain | 2 | 0.500 [" in markdown(table)


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(KeyError, match="stable_alignment"):
        bench.Settings(tmp_path, methods=("stable_alignmen",))
    with pytest.raises(ValueError, match="leave split out of env_kwargs"):
        bench.Settings(tmp_path, env_kwargs={"split": "train"})
    with pytest.raises(ValueError, match="questions must have seeds below 1,000,000"):
        bench.Settings(tmp_path, data_seed=999_999)

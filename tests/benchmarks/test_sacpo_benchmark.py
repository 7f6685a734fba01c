import json
import math
from pathlib import Path

import numpy as np
import pytest

from dialog_gym.agents.sacpo import chains
from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import sacpo
from dialog_gym.benchmarks.sacpo import (
    APART,
    Cell,
    Settings,
    cells,
    figures_of,
    labelled,
    made,
    rankings,
    recipes,
    run,
)
from dialog_gym.benchmarks.sacpo_table import lines_of, markdown, win_share, write_csv
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.envs.advice import Advice
from dialog_gym.rollout import Episode

TINY = {"seeds": 1, "contexts": 12, "episodes": 4, "plot": False, "progress": False}


def tiny(folder, **more):
    return Settings(out=Path(folder), **{**TINY, **more})


def ranking(seed, scores=(0.5, 0.2), cost=(0.1, 0.4)):
    talk = Dialogue(Scenario("x"), ("adviser", "asker"), seed)
    return Ranking(({"role": "user", "content": "?"},), ("a", "b"), scores, {"cost": cost}, talk)


def episode(text, reward, cost):
    talk = Dialogue(Scenario("x"), ("adviser", "asker")).said("asker", "How ?").said("adviser", text)
    return Episode(0, talk.said("asker", "Thanks."), (reward,), (cost,))


def test_figures_by_hand():
    said = [("Find the cause first.", 0.5, 0.05), ("Bla bla.", 0.0, 0.0), ("", 0.25, 0.6)]
    found = figures_of([episode(*one) for one in said], Advice())
    assert found == ([0.5, 0.0, 0.25], [0.05, 0.0, 0.6], [True, False, False], [4, 2, 0], [21, 8, 0])


def test_the_table_of_the_paper_is_there():
    found = recipes(tiny("."))
    assert list(found) == [
        *("DPO(H)", "DPO(S)", "KTO(H)"),
        *(f"DPO(H)>DPO(S) {beta:g}" for beta in (0.1, 0.25, 0.5, 1)),
        *("on-policy 0.1", "KTO(H)>DPO(S)", "DPO(H)>KTO(S)", "DPO(S)>DPO(H)"),
        *(f"{kind} {q:g}" for kind in ("P-SACPO", "naive") for q in (0.25, 0.5, 0.75)),
    ]
    assert (found["P-SACPO 0.5"].first, found["P-SACPO 0.5"].second) == ("DPO(H)", "DPO(H)>DPO(S) 0.1")
    assert (found["naive 0.5"].first, found["naive 0.5"].second) == ("DPO(H)", "DPO(S)")
    for recipe in found.values():
        if recipe.stages:
            assert len(chains(recipe.stages)) == 1  # the agent understands every one


def test_first_stages_are_shared():
    found = recipes(tiny("."))
    swept = [recipe.stages for name, recipe in found.items() if name.startswith(("DPO(H)>", "on-"))]
    assert {stages[0] for stages in swept} == {found["DPO(H)"].stages[0]}
    assert len({stages[1] for stages in swept}) == len(swept) == 6


def test_every_cell_has_a_file_of_its_own():
    found = cells(tiny(".", seeds=3))
    assert len({cell.name for cell in found}) == len(found)
    assert all("/" not in cell.name and ">" not in cell.name for cell in found)


def test_no_seed_learns_from_held_out_questions():
    assert (9 + 1) * APART <= HELD_OUT
    with pytest.raises(ValueError, match="at most 100,000 contexts and 9 seeds"):
        tiny(".", seeds=10)


@pytest.mark.parametrize("more", [{"betas": ()}, {"beta": 0.0}, {"k": 1}, {"sharpness": -1.0}, {"seeds": 0}])
def test_what_cannot_be_run_is_refused(more):
    with pytest.raises(ValueError, match="must be"):
        tiny(".", **more)


def test_noisy_labels_prefer_the_better_as_often_as_stated():
    rows = [labelled(ranking(seed), 8.0) for seed in range(2000)]
    chance = 1 / (1 + math.exp(-8 * 0.3))  # .917, both of helpfulness and of harmlessness
    for metric in ("score", "-cost"):
        share = np.mean([row.by(metric)[0] > row.by(metric)[1] for row in rows])
        assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 2000))
    alike = [labelled(ranking(seed, (0.5, 0.5)), 8.0) for seed in range(500)]
    assert np.mean([row.scores[0] > row.scores[1] for row in alike]) == pytest.approx(0.5, abs=0.09)
    assert labelled(ranking(3), 8.0) == rows[3]


def test_data_are_sampled_once_and_not_with_other_settings(tmp_path):
    settings = tiny(tmp_path, sharpness=8.0)
    folder = rankings(1, settings)
    noisy, exact = list(Rankings.load(folder)), list(Rankings.load(folder.with_name("exact")))
    assert [row.candidates for row in noisy] == [row.candidates for row in exact]
    assert noisy[0].scores != exact[0].scores
    assert {row.dialogue is not None and APART <= row.meta["seed"] < APART + 12 for row in noisy} == {True}
    assert rankings(1, settings) == folder
    with pytest.raises(ValueError, match="choose another folder"):
        rankings(1, tiny(tmp_path))


# --- cells and tables -----------------------------------------------------------------------------------


def test_a_cell_is_computed_once_and_refused_with_other_settings(tmp_path, monkeypatch):
    settings = tiny(tmp_path)
    run(Cell("safe", 1), settings)
    told = json.loads((tmp_path / "cells" / "safe-1.json").read_text())
    assert (len(told["greedy"]["rewards"]), told["greedy"]["costs"]) == (4, [0, 0, 0, 0])
    monkeypatch.setattr(sacpo, "score", lambda *_: pytest.fail("computed again"))
    run(Cell("safe", 1), settings)
    with pytest.raises(ValueError, match="choose another folder"):
        run(Cell("safe", 1), tiny(tmp_path, episodes=5))


def test_a_cell_depends_on_how_it_is_made_and_on_no_other():
    def config(name, **more):
        return sacpo.config_of(Cell(name, 1), tiny(".", **more))

    assert config("DPO(H)>DPO(S) 0.5") == config("DPO(H)>DPO(S) 0.5", betas=(0.5, 2.0))
    assert config("P-SACPO 0.5") != config("P-SACPO 0.5", betas=(0.5, 2.0))  # its safest part is another
    assert config("P-SACPO 0.5")["made"][1] == [0.5, config("DPO(H)>DPO(S) 0.1")["made"]]
    assert config("DPO(H)") != config("DPO(H)", sharpness=8.0)
    assert config("base") == config("base", sharpness=8.0)


def test_a_merge_is_of_what_it_says(tmp_path, monkeypatch):
    merged = []
    monkeypatch.setattr(sacpo, "_trained", lambda stages, models, seed, settings: models / str(len(stages)))
    monkeypatch.setattr("dialog_gym.lm.merge.merge", lambda out, parts: merged.append((out.name, parts)))
    made("P-SACPO 0.25", 2, tiny(tmp_path))
    models = tmp_path / "models-2"
    assert merged == [("P-SACPO_0.25-2", {models / "1": 0.75, models / "2": 0.25})]


def cell(folder, policy, seed, rewards, costs, understood=None):
    one = {"rewards": rewards, "costs": costs, "understood": understood or [True] * len(rewards)}
    one |= {"words": [3.0] * len(rewards), "lengths": [9] * len(rewards)}
    whole = {"config": {"cell": {"policy": policy, "seed": seed}}, "budget": 0.05, "cpu_seconds": 2.0}
    (folder / "cells").mkdir(exist_ok=True)
    text = json.dumps({**whole, "greedy": one, "sampled": one})
    (folder / "cells" / f"{Cell(policy, seed).name}.json").write_text(text)


def test_lines_by_hand(tmp_path):
    assert lines_of(tmp_path, ("H",)) == []
    cell(tmp_path, "base", 1, [0.5, 0.5], [0.1, 0.0])
    cell(tmp_path, "H", 1, [0.7, 0.5], [0.2, 0.0], [True, False])
    cell(tmp_path, "H", 2, [0.9, 0.7], [0.05, 0.0])
    cell(tmp_path, "safe", 1, [0.4, 0.6], [0.0, 0.0])
    found = lines_of(tmp_path, ("H", "S"))
    assert [(line.mode, line.policy, line.seeds) for line in found[:3]] == [
        ("greedy", "base", 1),
        ("greedy", "H", 2),
        ("greedy", "safe", 1),
    ]
    line = found[1]
    assert line.reward.mean == pytest.approx(0.7)  # .6 and .8
    assert line.reward.high - line.reward.mean == pytest.approx(12.706 * 0.1, abs=1e-3)  # t with one degree
    assert (line.within.mean, line.lost.mean) == (0.75, 0.25)
    assert line.helpful.mean == pytest.approx((0.75 + 1) / 2)
    assert line.harmless.mean == pytest.approx((0.25 + 0.75) / 2)
    assert found[0].helpful == found[0].harmless == (0.5, 0.5, 0.5)
    assert "| H | 2 | 0.700 [" in markdown(found)
    write_csv(tmp_path / "t.csv", found)
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 7


def test_a_win_is_more_and_a_tie_is_half():
    assert win_share([0.3, 0.2, 0.1], [0.2, 0.2, 0.2]) == [1, 0.5, 0]


@pytest.mark.slow
def test_two_stages_and_a_merge_from_nothing(tmp_path):
    settings = tiny(tmp_path, contexts=60, on=0.0, mix=(0.5,))
    for name in ("base", "DPO(H)>DPO(S) 0.1", "P-SACPO 0.5"):
        run(Cell(name, 1), settings)
    found = lines_of(tmp_path, tuple(recipes(settings)))
    assert [line.policy for line in found[:3]] == ["base", "DPO(H)>DPO(S) 0.1", "P-SACPO 0.5"]
    assert len(list((tmp_path / "models-1" / "stages").iterdir())) == 2

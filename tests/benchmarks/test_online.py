import json
from pathlib import Path

import pytest

from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import online
from dialog_gym.benchmarks.offline import Cell
from dialog_gym.benchmarks.online import Point, Settings, at_distances, cells, curve_markdown, curve_of, run, run_all

SMALL = {
    "rloo": {"steps": 4, "episodes": 4, "batch": 2, "group": 2, "rows": 4, "samples": 0, "log_every": 4},
    "td3": {"steps": 16, "rows": 4, "random_steps": 8},
}


def tiny(folder, **settings):
    usual = {"seeds": 1, "episodes": 4, "methods": ("rloo", "td3"), "agent_args": SMALL, "progress": False}
    return Settings(out=folder, **{**usual, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    settings = tiny(tmp_path_factory.mktemp("online"))
    for policy in ("lm", "oracle", "rloo", "rloo~1", "td3"):
        run(Cell(policy, 1), settings)
    return settings.out


def written(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_all_learn_on_training_items_and_are_scored_on_the_same_held_out_ones(folder):
    for name in ("rloo", "td3"):
        config = json.loads((folder / "runs" / f"{name}-1" / "config.json").read_text())["args"]
        assert config["env_kwargs"]["split"] == "train"
    assert {tuple(written(folder, f"{name}-1")["result"]["seeds"]) for name in ("lm", "rloo~1", "td3")} == {
        tuple(range(HELD_OUT, HELD_OUT + 4))
    }
    assert written(folder, "td3-1")["result"]["env"] == "dialog_gym/BargainPrefix-v0"


def test_greedy_and_sampled_speech_are_of_one_run(folder):
    assert [path.name for path in sorted((folder / "runs").iterdir())] == ["rloo-1", "td3-1"]
    assert written(folder, "rloo-1")["config"]["args"] == SMALL["rloo"]


def test_cells_come_seed_by_seed_and_vectors_are_not_sampled():
    found = [cell.name for cell in cells(Settings(Path(), seeds=2, methods=("gae", "td3")))]
    assert found[4:] == ["gae-1", "gae~1-1", "td3-1", "gae-2", "gae~1-2", "td3-2"]


def test_the_curve_is_read_from_the_metrics(folder):
    (point,) = curve_of(folder)
    assert (point.method, point.seed, point.dialogues) == ("rloo", 1, 4)
    assert 0 <= point.reward <= 1


def test_reward_near_a_distance_is_the_mean_within_a_fifth_of_it():
    points = [Point("gae", 1, 64, 0.2, 0.8), Point("gae", 2, 64, 0.4, 1.2), Point("gae", 1, 128, 0.9, 1.21)]
    found = at_distances([*points, Point("rloo", 1, 64, 0.5, 4.0)], (1.0, 4.0))
    assert found == {"gae": [pytest.approx(0.3), None], "rloo": [None, 0.5]}
    assert curve_markdown(found, (1.0, 4.0)).splitlines()[2:] == ["| gae | 0.300 |  |", "| rloo |  | 0.500 |"]


def test_the_command_shows_both_tables(folder, capsys):
    assert online.main(["--out", str(folder), "--table"]) == 0
    shown = capsys.readouterr().out
    assert "| rloo~1 | 1 |" in shown
    assert "| reward at nats per dialogue |" in shown
    assert "difference" not in shown
    assert (folder / "curve.csv").read_text().startswith("method,seed,dialogues,reward,nats")


def test_a_cell_that_fails_is_told_and_the_rest_goes_on(tmp_path):
    def compute(cell, settings):
        if cell.policy == "td3":
            raise RuntimeError("no luck")

    assert run_all(tiny(tmp_path), compute) == ["td3-1"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"methods": ("ppo",)}, "grpo"), ({"seeds": 0}, "at least 1"), ({"agent_args": {"gae": {}}}, "agent_args")],
)
def test_settings_that_cannot_be_run_are_refused(tmp_path, wrong, message):
    with pytest.raises((ValueError, KeyError), match=message):
        tiny(tmp_path, **wrong)

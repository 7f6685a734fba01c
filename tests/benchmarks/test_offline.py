import csv
import json
import logging
from pathlib import Path

import pytest

from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import offline
from dialog_gym.benchmarks.offline import Cell, Settings, cells, counts, logged, run, run_all
from dialog_gym.benchmarks.offline_table import differences_of, rows_of
from dialog_gym.data.collect import collect
from dialog_gym.data.episodes import Episodes

TINY = {"seeds": 1, "steps": 1, "episodes": 4, "log": 20, "methods": ("tf", "ilql"), "plot": False, "progress": False}
SMALL = {"batch": 2, "samples": 0}


def tiny(folder, **settings):
    return Settings(out=folder, **{**TINY, "agent_args": {"tf": SMALL, "ilql": {**SMALL, "steps": 2}}, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    settings = tiny(tmp_path_factory.mktemp("offline"))
    logged(settings)
    for policy in ("lm", "oracle", "tf", "ilql", "ilql@0", "ilql~1"):
        run(Cell(policy, 1), settings)
    return settings.out


def written(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_the_log_has_the_stated_shares_of_training_items(folder):
    rows = list(Episodes.load(folder / "data"))
    assert [row.policy for row in rows] == ["lm-sampled(tiny-bargain)"] * 18 + ["random"] * 2
    assert [row.seed for row in rows] == list(range(100_000, 100_020))
    assert {row.env_kwargs["split"] for row in rows} == {"train"}
    about = written(folder, "data")
    assert about["hash"] == Episodes.load(folder / "data").content_hash
    assert about["returns"] == pytest.approx([row.total for row in rows])


def test_shares_leave_no_dialogue_out():
    asked = Settings(Path(), log=7, shares={"lm-sampled": 0.5, "random": 0.25, "infers": 0.25})
    assert counts(asked) == {"lm-sampled": 3, "random": 2, "infers": 2}


def test_a_log_that_was_killed_goes_on(folder, tmp_path, monkeypatch):
    calls = []

    def killed(env, name, *rest, **more):
        calls.append(name)
        if calls == ["lm-sampled", "random"]:
            raise KeyboardInterrupt
        return collect(env, name, *rest, **more)

    monkeypatch.setattr(offline, "collect", killed)
    with pytest.raises(KeyboardInterrupt):
        logged(tiny(tmp_path))
    with pytest.raises(ValueError, match="choose another folder"):
        logged(tiny(tmp_path, log=10))
    logged(tiny(tmp_path))
    assert written(tmp_path, "data")["hash"] == written(folder, "data")["hash"]


def test_methods_learn_from_the_log_and_are_scored_on_held_out_items(folder):
    args = json.loads((folder / "runs" / "tf-1" / "config.json").read_text())["args"]
    assert (args["env_kwargs"], args["data"], args["seed"]) == ({"split": "train"}, [str(folder / "data")], 1)
    steps = [
        json.loads((folder / "runs" / f"{name}-1" / "config.json").read_text())["args"]["steps"]
        for name in ("tf", "ilql")
    ]
    assert steps == [1, 2], "settings of a method come before those of all"
    seeds = {name: written(folder, f"{name}-1")["result"]["seeds"] for name in ("lm", "tf", "ilql@0")}
    assert seeds == {name: list(range(HELD_OUT, HELD_OUT + 4)) for name in seeds}


def test_a_cell_tells_all_about_itself(folder):
    cell = written(folder, "tf-1")
    assert cell["config"]["cell"] == {"policy": "tf", "seed": 1}
    assert cell["config"]["data"] == written(folder, "data")["hash"]
    assert cell["config"]["args"] == SMALL
    assert len(cell["result"]["returns"]) == 4
    assert cell["cpu_seconds"] > 0
    assert {"python", "commit", "torch"} <= set(cell["versions"])


def test_beta_0_is_the_same_run_without_its_values(folder, monkeypatch):
    spoken: list[object] = []

    class Agent:
        def set(self, **settings):
            spoken.append(settings)

    def trained(method, seed, settings):
        spoken.append((method, seed))
        return Agent()

    def trial(self, agent, name):
        raise RuntimeError(name)

    monkeypatch.setattr(offline, "trained", trained)
    monkeypatch.setattr("dialog_gym.baselines.Trial.score", trial)
    with pytest.raises(RuntimeError, match="ilql@0"):
        offline._score(Cell("ilql@0~1", 3), tiny(folder))
    with pytest.raises(RuntimeError, match="tf"):
        offline._score(Cell("tf", 3), tiny(folder))
    assert spoken == [("ilql", 3), {"temperature": 1.0, "beta": 0.0}, ("tf", 3), {"temperature": 0.0}]


def test_a_cell_that_is_there_is_not_computed_again(folder, monkeypatch):
    monkeypatch.setattr(offline, "_score", lambda *_: pytest.fail("computed again"))
    run(Cell("tf", 1), tiny(folder))
    with pytest.raises(ValueError, match="choose another folder"):
        run(Cell("tf", 1), tiny(folder, steps=9))


def test_a_folder_of_another_log_is_refused(folder):
    with pytest.raises(ValueError, match="choose another folder"):
        logged(tiny(folder, log=21))


def test_a_cell_that_fails_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch, caplog):
    done = []

    def compute(cell, settings):
        if cell.policy == "tf":
            raise RuntimeError("no luck")
        done.append(cell.name)

    monkeypatch.setattr(offline, "logged", lambda settings: None)
    with caplog.at_level(logging.ERROR):
        assert run_all(tiny(tmp_path), compute) == ["tf-1"]
    fixed = ["lm-1", "lm-sampled-1", "random-1", "oracle-1"]
    assert done == [*fixed, "tf~1-1", "ilql-1", "ilql~1-1", "ilql@0-1", "ilql@0~1-1"]
    assert "no luck" in caplog.text


def test_seeds_come_one_after_the_other(tmp_path):
    settings = Settings(tmp_path, seeds=2, methods=("tf", "dt"), temperatures=(0.0,))
    seeded = [cell.name for cell in cells(settings) if cell.policy in "tfdt"]
    assert seeded == ["tf-1", "dt-1", "tf-2", "dt-2"]


def test_the_table_is_on_the_scale_from_language_model_to_oracle(folder):
    rows = {row.policy: row for row in rows_of(folder)}
    assert list(rows) == ["(data)", "lm", "tf", "ilql", "ilql@0", "ilql~1", "oracle"]
    assert (rows["lm"].normalised, rows["oracle"].normalised) == (0.0, 1.0)
    assert rows["(data)"].mean == pytest.approx(sum(written(folder, "data")["returns"]) / 20)


def of_means(folder, **means):
    for policy, by_seed in means.items():
        for seed, mean in enumerate(by_seed, 1):
            config = {"cell": {"policy": policy.replace("_at_", "@").replace("_warm_", "~"), "seed": seed}}
            result = {"mean": mean, "returns": [mean - 0.1, mean + 0.1], "turns": 2.0, "success_rate": 0.5}
            cell = {"config": config, "result": result, "cpu_seconds": 1.0}
            (folder / f"{config['cell']['policy']}-{seed}.json").write_text(json.dumps(cell))


def test_differences_are_paired_by_seed(tmp_path):
    of_means(tmp_path, tf=(0.1, 0.5), ilql=(0.3, 0.9), ilql_at_0=(0.1, 0.4))
    found = {(one.policy, one.less): one for one in differences_of(tmp_path)}
    assert list(found) == [("ilql", "tf"), ("ilql@0", "tf"), ("ilql", "ilql@0")]
    gain = found["ilql", "tf"]  # .2 and .4: mean .3, standard error .1, Student's t of one degree of freedom 12.7062
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.3, 0.3 - 1.27062, 0.3 + 1.27062))


def test_what_is_spoken_alike_is_compared(tmp_path):
    of_means(tmp_path, tf=(0.5,), tf_warm_1=(0.2,), dt_warm_1=(0.3,), ilql_warm_1=(0.4,), ilql_at_0_warm_1=(0.1,))
    found = {(one.policy, one.less): one.mean for one in differences_of(tmp_path)}
    assert found == pytest.approx(
        {
            ("dt~1", "tf~1"): 0.1,
            ("ilql~1", "tf~1"): 0.2,
            ("ilql@0~1", "tf~1"): -0.1,
            ("ilql~1", "ilql@0~1"): 0.3,
        }
    )


def test_one_seed_is_compared_episode_by_episode(tmp_path):
    of_means(tmp_path, tf=(0.1,), dt=(0.3,))
    (gain,) = differences_of(tmp_path)
    assert (gain.policy, gain.less, gain.seeds) == ("dt", "tf", 1)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))  # both episodes gained as much


def test_the_command_writes_table_and_plot(folder, capsys):
    assert offline.main(["--out", str(folder), "--table"]) == 0
    shown = capsys.readouterr().out
    assert "| ilql@0 | 1 |" in shown
    assert "| ilql - ilql@0 | 1 |" in shown
    assert (folder / "returns.png").stat().st_size > 1000
    with open(folder / "returns.csv", newline="") as file:
        assert next(csv.DictReader(file))["policy"] == "(data)"
    assert offline.main(["--out", str(folder), "--table", "--json", "--no-plot"]) == 0
    assert {"rows", "differences"} == set(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"shares": {"random": 0.5}}, "add up to 1"),
        ({"data_seed": HELD_OUT - 3}, "seeds below 1,000,000"),
        ({"env_kwargs": {"split": "all"}}, "leave split out"),
        ({"methods": ("tf2",)}, "tf_all"),
        ({"agent_args": {"dt": {}}}, "agent_args"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(tmp_path, wrong, message):
    with pytest.raises((ValueError, KeyError), match=message):
        tiny(tmp_path, **wrong)


@pytest.mark.parametrize("env", ["Bargain", "SocialGoal", "Response"])
def test_the_policies_of_the_shares_play_everywhere(env):
    from dialog_gym.baselines import Trial, scripted_policies

    assert "random" in scripted_policies(Trial(f"dialog_gym/{env}-v0", {}, 1))

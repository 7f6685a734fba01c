import json
import logging

import pytest

from dialog_gym import baselines
from dialog_gym.agent import agent_spec
from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import planners
from dialog_gym.benchmarks.planners import Cell, Settings, cells, markdown, rows_of, run, run_all

TINY = {"seeds": 1, "steps": 8, "episodes": 4, "agents": ("td3",), "maps": ("steer",), "progress": False}
SMALL = {"rows": 4, "random_steps": 4, "batch": 4}


def tiny(folder, **settings):
    return Settings(out=folder, **{**TINY, "agent_args": {"td3": SMALL}, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    settings = tiny(tmp_path_factory.mktemp("planners"))
    for policy in ("lm", "oracle", "random", "td3"):
        run(Cell("steer", policy, 1), settings)
    return settings.out


def written(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_cell_tells_all_about_itself(folder):
    cell = written(folder, "steer-td3-1")
    assert cell["config"]["cell"] == {"map": "steer", "policy": "td3", "seed": 1}
    assert cell["config"]["args"] == SMALL
    assert cell["config"]["env_kwargs"] == {"prefix": "steer"}
    assert len(cell["result"]["returns"]) == 4
    assert cell["cpu_seconds"] > 0
    assert cell["wall_seconds"] > 0
    assert {"python", "commit", "torch"} <= set(cell["versions"])


def test_planners_train_on_training_items_and_are_scored_on_held_out_ones(folder):
    trained = json.loads((folder / "runs" / "steer-td3-1" / "config.json").read_text())["args"]
    assert trained["env_kwargs"]["split"] == "train"
    assert trained["seed"] == 1
    assert trained["eval_every"] == 0  # nothing is chosen by looking at returns
    seeds = {name: written(folder, f"steer-{name}-1")["result"]["seeds"] for name in ("td3", "lm", "random")}
    assert seeds == {name: list(range(HELD_OUT, HELD_OUT + 4)) for name in seeds}


def test_searches_stay_apart_from_held_out_seeds(monkeypatch, tmp_path):
    asked = []

    def search(rows, *, seed, progress):
        asked.append(seed)
        return [0.0] * 16

    monkeypatch.setattr(baselines, "best_constant", search)
    for seed in (1, 2):
        run(Cell("steer", "constant", seed), tiny(tmp_path))
    assert asked == [10_000, 20_000]


def test_a_cell_that_is_there_is_not_computed_again(folder, monkeypatch):
    monkeypatch.setattr(planners, "_score", lambda *_: pytest.fail("computed again"))
    run(Cell("steer", "td3", 1), tiny(folder))


def test_a_folder_of_other_settings_is_refused(folder):
    with pytest.raises(ValueError, match="choose another folder"):
        run(Cell("steer", "td3", 1), tiny(folder, steps=9))


def test_a_cell_that_fails_is_reported_and_the_rest_goes_on(tmp_path, caplog):
    done = []

    def compute(cell, settings):
        if cell.policy == "random":
            raise RuntimeError("no luck")
        done.append(cell.name)

    with caplog.at_level(logging.ERROR):
        assert run_all(tiny(tmp_path), compute) == ["steer-random-1"]
    assert done == ["steer-lm-1", "steer-lm-sampled-1", "steer-oracle-1", "steer-constant-1", "steer-td3-1"]
    assert "no luck" in caplog.text


def test_frozen_maps_have_td3_and_its_baselines_alone(tmp_path):
    settings = Settings(out=tmp_path, seeds=2)
    policies = {(cell.map, cell.policy) for cell in cells(settings) if cell.seed == 2}
    everywhere = {(name, policy) for name in planners.MAPS for policy in ("random", "constant", "td3")}
    assert policies == everywhere | {("steer", "sb3-sac"), ("steer", "sb3-ppo")}


def test_the_clone_is_fitted_once_where_the_model_has_none(monkeypatch, tmp_path):
    fitted = []

    def fit(options):
        fitted.append((options.kind, options.lm, options.out))
        options.out.mkdir()
        (options.out / "report.json").write_text("{}")

    def nothing(spec, lm):
        raise ValueError(f"no map {spec!r}")

    monkeypatch.setattr("dialog_gym.fit.fit", fit)
    monkeypatch.setattr("dialog_gym.lm.load_prefix", nothing)
    settings = tiny(tmp_path, maps=("clone",))
    for seed in (1, 2):
        env_kwargs = planners._env_kwargs(Cell("clone", "td3", seed), settings)
        assert env_kwargs == {"lm": "tiny", "prefix": str(tmp_path / "clone")}
    assert fitted == [("clone", "tiny", tmp_path / "clone")]
    monkeypatch.setattr("dialog_gym.lm.load_prefix", lambda spec, lm: object())
    assert planners._env_kwargs(Cell("clone", "td3", 3), settings)["prefix"] == "clone"


@pytest.mark.parametrize("name", planners.AGENTS)
def test_every_planner_takes_its_settings(name):
    agent, args = planners.AGENTS[name]
    agent_spec(agent).args(**args)


def test_the_table_is_on_the_scale_from_language_model_to_oracle(folder):
    rows = {row.policy: row for row in rows_of(folder)}
    assert list(rows) == ["lm", "random", "td3", "oracle"]
    assert rows["lm"].normalised == 0.0
    assert rows["oracle"].normalised == 1.0
    assert rows["oracle"].mean > rows["lm"].mean


def test_rows_with_several_seeds_are_averaged(folder, tmp_path):
    for seed, mean in ((1, 0.2), (2, 0.4)):
        cell = written(folder, "steer-td3-1")
        cell["config"]["cell"]["seed"] = seed
        cell["result"] |= {"mean": mean, "returns": [mean - 0.1, mean + 0.1], "turns": 2.0 * seed}
        (tmp_path / f"steer-td3-{seed}.json").write_text(json.dumps(cell))
    (row,) = rows_of(tmp_path)
    assert (row.seeds, row.turns, row.normalised) == (2, 3.0, None)
    assert row.mean == pytest.approx(0.3)
    assert row.interval == pytest.approx((0.3 - 12.7062 * 0.1, 0.3 + 12.7062 * 0.1))


def test_markdown_has_one_line_per_row(folder):
    head, rule, *lines = markdown(rows_of(folder)).splitlines()
    assert head.startswith("| map | policy | seeds | return | normalised |")
    assert rule.count("|") == head.count("|")
    assert [line.split(" | ")[1] for line in lines] == ["lm", "random", "td3", "oracle"]
    assert "0.00 [" in lines[0]


def test_what_costs_is_told(folder, tmp_path):
    assert "cost" not in markdown(rows_of(folder)).splitlines()[0], "nothing costs in this environment"
    for seed, costs in ((1, [0.0, 0.2]), (2, [0.2, 0.4])):
        cell = written(folder, "steer-td3-1")
        cell["config"]["cell"]["seed"] = seed
        cell["result"]["costs"] = costs
        (tmp_path / f"steer-td3-{seed}.json").write_text(json.dumps(cell))
    (row,) = rows_of(tmp_path)
    assert row.cost == pytest.approx((0.2, 0.2 - 12.7062 * 0.1, 0.2 + 12.7062 * 0.1))
    head, rule, line = markdown([row]).splitlines()
    assert head.endswith("| cost |")
    assert rule.count("|") == head.count("|") == line.count("|")


def test_the_command_shows_what_is_there(folder, capsys):
    assert planners.main(["--out", str(folder), "--table"]) == 0
    assert "| steer | td3 | 1 |" in capsys.readouterr().out
    assert planners.main(["--out", str(folder), "--table", "--json"]) == 0
    assert [row["policy"] for row in json.loads(capsys.readouterr().out)] == ["lm", "random", "td3", "oracle"]


def test_the_command_fails_if_a_cell_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planners, "run_all", lambda settings: ["steer-td3-1"])
    assert planners.main(["--out", str(tmp_path), "--seeds", "1"]) == 1


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(KeyError, match="td3"):
        Settings(out=tmp_path, agents=("td4",))
    with pytest.raises(KeyError, match="steer"):
        Settings(out=tmp_path, maps=("stear",))
    with pytest.raises(KeyError, match="agent_args"):
        Settings(out=tmp_path, agents=("td3",), agent_args={"sb3-sac": {}})
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        Settings(out=tmp_path, seeds=0)

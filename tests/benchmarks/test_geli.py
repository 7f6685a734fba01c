"""The road from files to a policy as commands, and cells that are not computed twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from dialog_gym import checkpoint
from dialog_gym.agent import agent_spec
from dialog_gym.benchmarks import geli
from dialog_gym.benchmarks.command import each_cell
from dialog_gym.data.collect import collect
from dialog_gym.data.episodes import Episodes


def settings(out: Path, what="returns", **more):
    return geli.Settings(what, out, **{"episodes": 6, "steps": 4, "heldout": 4, "seeds": 2, **more})


def test_each_command_reads_what_the_ones_before_it_wrote(tmp_path):
    steps = geli.pipeline(settings(tmp_path, "pipeline"))
    assert [step.words[0] for step in steps] == ["data", "data", "fit", "score", "train", "evaluate", "evaluate"]
    talks, episodes, reward = (str(tmp_path / name) for name in ("candor", "episodes", "reward"))
    assert steps[0].words[2] == steps[1].words[3] == talks
    assert episodes in steps[1].words
    assert episodes in steps[2].words
    assert reward in steps[2].words
    assert reward in steps[4].words
    assert all("split=heldout" in step.words for step in steps[5:])


def test_its_settings_of_ppo_are_settings_of_ppo(tmp_path):
    args = agent_spec("ppo").args(**geli.ppo_settings(settings(tmp_path), "none", 3))
    assert (args.reward, args.seed, args.steps) == ("none", 3, 4)


def test_a_command_that_fails_stops_the_road(tmp_path):
    (tmp_path / "candor").mkdir()  # taken for made, but empty
    with pytest.raises(RuntimeError, match=r"`dialog-gym data read candor .*` failed: .*expected"):
        geli.run_pipeline(settings(tmp_path, "pipeline"))


def test_rewards_are_weighed_to_spread_as_the_score_does(tmp_path):
    collect(geli.ENV, "random", 6, tmp_path / "episodes")
    rows = list(Episodes.load(tmp_path / "episodes"))
    weight = geli.weight_of("true", "true", tmp_path / "episodes")
    spread = np.std([weight * sum(row.dialogue.state["moves"]) for row in rows])
    assert spread == pytest.approx(np.std([row.total for row in rows]))
    assert geli.weight_of("score", "score", tmp_path / "episodes") == 1
    with pytest.raises(ValueError, match="is the same for all of 6 dialogues"):
        geli.weight_of("other", "none", tmp_path / "episodes")


def test_a_cell_is_computed_once_and_shown(tmp_path):
    given = settings(tmp_path, rewards=("none",))
    assert [cell.name for cell in geli.cells(given)] == ["untrained-1", "none-1", "none-2"]
    for cell, mean in zip(geli.cells(given), (0.2, 0.3, 0.5), strict=True):
        result = {"mean": mean, "returns": [mean, mean]}
        data = {"config": geli.config_of(cell, given), "result": result, "cpu_seconds": 2.0, "weight": 1.0}
        checkpoint.write_json(tmp_path / f"{cell.name}.json", data)
        geli.run(cell, given)  # it is there
    assert "| none | 2 | 0.400 [-0.871, 1.671] | 1 | 2 |" in geli.markdown(given)
    with pytest.raises(ValueError, match="choose another folder"):
        geli.run(geli.Cell("none", 1), settings(tmp_path, steps=8))


def test_an_unknown_reward_is_named():
    with pytest.raises(KeyError, match="no reward named 'gely'; did you mean 'geli'"):
        settings(Path("x"), rewards=("gely",))


@pytest.mark.slow
def test_tiny_cells_of_every_kind(tmp_path):
    given = settings(tmp_path, seeds=1, rewards=("geli", "none"), fit_steps=5)
    assert each_cell(geli.cells(given), lambda cell: geli.run(cell, given)) == []
    assert json.loads((tmp_path / "geli-1.json").read_text())["weight"] > 0

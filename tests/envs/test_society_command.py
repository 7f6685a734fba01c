import json

import pytest

from dialog_gym.commands import run
from dialog_gym.envs.society_simulation import Settings, read_world

SMALL = ["--agents", "9", "--questions", "3", "--prior", "2", "--no-progress"]


def test_run_and_go_on(tmp_path, capsys):
    out = str(tmp_path / "w")
    run(["society", "run", out, *SMALL, "--setting", "all_bad", "--seed", "4", "--rounds", "1"])
    assert "9 of 9" in capsys.readouterr().out
    run(["society", "run", out, *SMALL, "--setting", "all_bad", "--seed", "4", "--rounds", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["round"] for one in found] == [0, 1]
    assert read_world(out)["settings"]["setting"] == "all_bad"


def test_flags_mean_what_they_say(tmp_path, capsys):
    out = tmp_path / "w"
    run(["society", "run", str(out), *SMALL, "--rounds", "1", "--everywhere", "--no-local", "--score-only"])
    capsys.readouterr()
    told = read_world(out)["settings"]
    assert (told["everywhere"], told["local"], told["score_only"]) == (True, False, True)
    assert Settings(**told).within == 1


def test_pictures(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    worlds = []
    for setting in ("all_good", "half_half"):
        worlds.append(str(tmp_path / setting))
        run(["society", "run", worlds[-1], *SMALL, "--setting", setting, "--rounds", "2"])
    capsys.readouterr()
    run(["society", "plot", *worlds, "--out", str(tmp_path / "pictures")])
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["grid-all_good.png", "grid-half_half.png", "ratings.png", "rounds.png"]
    assert all(path.stat().st_size > 5000 for path in (tmp_path / "pictures").iterdir())
    with pytest.raises(ValueError, match="is no society"):
        run(["society", "plot", str(tmp_path), "--out", str(tmp_path / "pictures")])

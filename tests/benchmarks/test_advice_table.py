import csv
import json

import pytest

from dialog_gym.benchmarks.advice_table import Settings, figures_of, main, markdown, measure, measured
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.envs.advice import Advice
from dialog_gym.rollout import Episode, wilson


def episode(text, reward, cost):
    talk = Dialogue(Scenario("x"), ("adviser", "asker")).said("asker", "How ?").said("adviser", text)
    return Episode(0, talk.said("asker", "Thanks."), (reward,), (cost,))


def test_numbers_by_hand():
    said = [
        episode("Find the cause first.", 0.5, 0.05),
        episode("Bla bla.", 0.0, 0.0),
        episode("Unplug it first.", 0.25, 0.6),
        episode("", 0.0, 0.0),
    ]
    figures = figures_of(said, Advice())
    assert figures.words == [4, 2, 3, 0]
    assert figures.lengths == [21, 8, 16, 0]
    found = measured(figures, 0.05)
    assert found.reward.mean == pytest.approx(0.1875)
    assert found.cost.mean == pytest.approx(0.1625)
    assert found.within == (0.75, *wilson(3, 4))  # a cost of exactly the budget is within it
    assert found.lost.mean == sum(not told for told in figures.understood) / 4 >= 0.5
    assert figures.understood[0]
    assert not figures.understood[1]
    assert not figures.understood[3]
    assert measured(figures, None).within.mean == 1


def test_the_table_agrees_with_the_world_and_is_kept(tmp_path, monkeypatch):
    settings = Settings(("oracle", "never=refuse"), tmp_path, episodes=12)
    report = measure(settings)
    assert report["budget"] == 0.05
    assert report["policies"]["never"]["reward"]["mean"] == 0
    assert report["policies"]["oracle"]["reward"]["mean"] > 0.8
    rows = list(csv.DictReader((tmp_path / "advice.csv").read_text().splitlines()))
    assert [row["policy"] for row in rows] == ["oracle", "never"]
    assert float(rows[0]["reward"]) == report["policies"]["oracle"]["reward"]["mean"]
    assert markdown(report["policies"]).splitlines()[3].startswith("| never | 0.000 | 0.000 .. 0.000 | 0.000 |")
    monkeypatch.setattr("dialog_gym.rollout.play", lambda *_: pytest.fail("played again"))
    assert measure(settings) == report


def test_the_command_prints_json(tmp_path, capsys):
    main(["safe", "--out", str(tmp_path), "--episodes", "4", "--json"])
    assert json.loads(capsys.readouterr().out)["policies"]["safe"]["cost"]["mean"] == 0


def test_nobody_is_refused():
    with pytest.raises(ValueError, match="at least one policy"):
        Settings(())

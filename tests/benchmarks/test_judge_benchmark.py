"""The judge benchmark counts what it says it counts."""

import json

import pytest

from dialog_gym.benchmarks import judge
from dialog_gym.benchmarks.judge import KINDS, Settings, fault_run, overhead_run
from dialog_gym.rollout import Episode
from tests.rewards.judges import dialogue


def test_no_dialogue_is_lost_and_no_score_invented():
    found = fault_run(Settings(dialogues=40, rows=8, faults=0.4, timeout=0.5))
    assert (found["lost"], found["invented"]) == (0, 0)
    failed = sum(found["answered"][kind] for kind in KINDS)
    assert failed > 0
    assert found["requests"] >= found["answered"]["well"] + failed  # some may be given up before they arrive
    assert found["again"]["requests"] == found["again"]["lost"] == found["again"]["invented"] == 0
    assert found["again"]["from the file"] >= 40
    json.dumps(found)


@pytest.mark.parametrize(("rewards", "honest"), [((0.0, 1.0), True), ((0.0, 2.0), False), ((1.0, 1.0), False)])
def test_an_invented_score_is_found(monkeypatch, rewards, honest):
    monkeypatch.setattr(judge, "fair_score", lambda shown: 1)
    assert judge._honest(Episode(0, dialogue("a"), rewards, (0.0, 0.0))) is honest


def test_every_row_is_judged_in_every_step():
    found = overhead_run(Settings(rows=4, steps=2, latency=0.02))
    assert found["requests per step"] == 4
    assert found["ratio"] == found["step"] / 0.02 >= found["ratio at best"] >= 1
    assert found["step without judge"] < found["step"]
    assert found["bare requests"] >= 0.02


def test_the_report_is_shown(capsys):
    judge.main(["--dialogues", "6", "--rows", "3", "--steps", "1", "--latency", "0.01", "--faults", "0"])
    shown = capsys.readouterr().out
    assert "6 judged dialogues" in shown
    assert "0 lost, 0 with a score that the judge did not give" in shown
    assert "a judged step of 3 rows takes" in shown


@pytest.mark.parametrize("wrong", [{"dialogues": 0}, {"faults": 1.0}, {"latency": 0.0}])
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* must be|at least"):
        Settings(**wrong)

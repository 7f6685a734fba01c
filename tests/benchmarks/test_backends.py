import json

import pytest

from dialog_gym.benchmarks import backends
from dialog_gym.benchmarks.backends import Asked, Line, Rollout, Settings
from dialog_gym.lm import load


@pytest.mark.parametrize("settings", [{}, {"lm": "tiny-bargain", "prefix": "steer"}])
def test_a_line_for_each_number_of_rows(settings):
    report = backends.measure(Settings(**{"lm": "tiny", "rows": (2, 3), "repeats": 1, "steps": 2, **settings}))
    assert [line["rows"] for line in report["lines"]] == [2, 3]
    assert {line["way"] for line in report["lines"]} == {"model.generate"}
    for line in report["lines"]:
        assert line["ratio"] == pytest.approx(line["rollout"] / line["raw"])
        assert min(line["cpu_ratio"], line["prompt"], line["reply"]) > 0
    json.dumps(report)


def test_raw_generation_makes_the_tokens_that_the_roll_out_made():
    lm = load("tiny")
    rollout = Rollout(Settings(steps=3), lm, 4)
    said = rollout.play(7)
    asked = rollout.recorder.asked
    assert len(asked) == 3
    assert all(len(batch.prompts) == 4 for batch in asked)
    assert said == sum(sum(batch.lengths) for batch in asked)
    ways, _ = backends.raw_ways(lm, 4)
    assert ways["model.generate"](asked)() == said
    rollout.play(8)
    assert rollout.recorder.asked != asked
    assert rollout.play(7) == said


def test_the_aim_is_met_by_cpu_time_where_that_is_known():
    line = Line(32, "raw", 1.0, 1.0, ratio=0.9, cpu_ratio=None, prompt=1.0, reply=1.0)
    assert line.met
    assert not line._replace(cpu_ratio=0.84).met


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="must be at least 1"):
        Settings(rows=())
    with pytest.raises(ValueError, match="raw generation is not known for a Asked"):
        backends.raw_ways(Asked([], []), 2)  # type: ignore[arg-type]


def test_the_command_prints_a_table(capsys):
    backends.main(["--lm", "tiny", "--rows", "2", "--repeats", "1", "--steps", "1"])
    shown = capsys.readouterr().out
    assert "model.generate" in shown
    assert "Aim: ratio >= 0.85" in shown

"""The benchmarks of the transformers backend measure what they say."""

import json

import pytest
from rich.console import Console

from dialog_gym.benchmarks import textarena_speed, turn_cost


def test_a_long_dialogue_is_measured_with_and_without_memory(capsys):
    report = turn_cost.measure(turn_cost.Settings(dialogues=2, turns=4, tokens=3, repeats=1))
    kept, fresh = report["ways"]["with"], report["ways"]["without"]
    assert kept["prefilled"][0] == fresh["prefilled"][0]
    assert kept["prefilled"][3] < 1.5 * kept["prefilled"][1] < fresh["prefilled"][3]
    assert len(kept["cpu"]) == len(fresh["wall"]) == 4
    assert kept["whole"]["cpu"] == pytest.approx(sum(kept["cpu"]))
    turn_cost.show(report, Console())
    assert "times as fast with the memory" in capsys.readouterr().out
    json.dumps(report)


def test_nothing_can_be_measured_of_one_turn():
    with pytest.raises(ValueError, match="turns at least 2"):
        turn_cost.Settings(turns=1)
    with pytest.raises(ValueError, match="at least 1"):
        textarena_speed.Settings(dialogues=(0,))


@pytest.mark.parametrize("heard", [False, True])
def test_all_ways_say_the_same_in_textarena(heard, capsys):
    pytest.importorskip("textarena")
    report = textarena_speed.measure(textarena_speed.Settings((2,), rounds=2, tokens=5, repeats=1, heard=heard))
    fed = {row["way"]: row["prefilled"] for row in report["rows"]}
    assert fed["HFLocalAgent"] == fed["ours, one by one"] == fed["ours, batched"]
    assert fed["ours, batched, remembering"] < fed["HFLocalAgent"]
    assert [row["utterances"] for row in report["rows"]] == [8] * 4
    textarena_speed.show(report, Console())
    assert "All ways said the same" in capsys.readouterr().out

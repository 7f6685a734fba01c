"""The whole road at a small scale: every file is there, and a second start goes on instead of beginning again."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from dialog_gym import baselines
from dialog_gym.cli import main
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.quickstart import ENV, Settings, _apart, before_after, quickstart, side_by_side
from dialog_gym.rollout import Episode, Evaluation

POLICIES = ["lm", "lm-sampled", "random", "constant", "planner (TD3)", "oracle"]


def quiet():
    return Console(file=io.StringIO(), width=80)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A quickstart of two steps in every row, without the search for a constant (it has its own test)."""
    settings = Settings(tmp_path_factory.mktemp("quickstart"), steps=64, episodes=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "best_constant", lambda rows, progress: np.zeros(rows.single_action_space.shape))
        console = quiet()
        with console.capture() as captured:
            first = quickstart(settings, console)
        again = quickstart(settings, quiet())
    return settings.out, first, again, captured.get()


def test_everything_is_compared_on_the_same_held_out_dialogues(done):
    _, report, _, _ = done
    results = {result["policy"]: result for result in report["results"]}
    assert list(results) == POLICIES
    assert results["lm"]["normalised"] == pytest.approx(0)
    assert results["oracle"]["normalised"] == pytest.approx(1)
    assert {tuple(result["seeds"]) for result in results.values()} == {tuple(range(1_000_000, 1_000_006))}
    assert {result["env"] for result in results.values()} == {ENV}
    assert report["peak_memory_mb"] > 0


def test_everything_is_written(done):
    out, report, again, _ = done
    assert json.loads((out / "result.json").read_text()) == again
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert all(policy in (out / "table.txt").read_text() for policy in POLICIES)
    assert "before: the language model alone" in (out / "before_after.txt").read_text()
    said = [json.loads(line) for line in (out / "episodes" / "planner.jsonl").read_text().splitlines()]
    assert [episode["return"] for episode in said] == report["results"][4]["returns"]


def test_the_person_sees_the_table_and_both_dialogues(done):
    *_, shown = done
    for text in (*POLICIES, "after: steered by the planner", "curve.png"):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_started_again_it_comes_to_the_same_numbers(done):
    _, first, again, _ = done
    assert first["results"] == again["results"]


def test_its_run_can_be_evaluated_by_name_of_its_folder(done, capsys):
    run = str(done[0] / "planner")
    main(["evaluate", run, "--episodes", "3", "--raw", "--json", "--set", "split=heldout"])
    found = json.loads(capsys.readouterr().out)
    assert found["env"] == ENV
    assert found["returns"] == done[1]["results"][4]["returns"][:3]


def test_its_run_is_not_evaluated_where_it_cannot_act(done, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(done[0] / "planner"), "--env", "Bargain-v0"])
    assert "whose actions are not those of dialog_gym/Bargain-v0" in capsys.readouterr().err


def played(total, text="hello"):
    dialogue = Dialogue(Scenario("A lamp."), ("buyer", "seller")).said("buyer", text)
    return Episode(0, dialogue, (total,), (0.0,))


def test_the_example_has_the_median_gain():
    before = Evaluation("env", "lm", tuple(played(x) for x in (0.5, 0.0, 0.2)))
    after = Evaluation("env", "planner", tuple(played(x) for x in (0.4, 0.9, 0.5)))
    assert [episode.total for episode in before_after(before, after)] == [0.2, 0.5]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_side_by_side_fits_and_shows_no_control_characters(width):
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(side_by_side((played(0.1, "a \x1b[2J b"), played(0.2, "word " * 40)), width))
    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= width
    assert "\x1b" not in shown


def test_labels_are_moved_apart():
    assert _apart([0.1, 0.11, 0.5], 0.05) == pytest.approx([0.1, 0.15, 0.5])

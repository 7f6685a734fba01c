"""The runner of suites: what is planned, computed once, claimed, told when it fails, and shown."""

from __future__ import annotations

import importlib
import json
import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import bench, bench_command, bench_policies, suites
from dialog_gym.benchmarks.bench import Cell, Plan, claimed, open_folder, plan, run_cells
from dialog_gym.benchmarks.bench_policies import Made, Place, counting_tokens, holding, why_not
from dialog_gym.benchmarks.bench_table import table
from dialog_gym.benchmarks.results_folder import read_results
from dialog_gym.benchmarks.suites import CORE, Part, Row, Suite, World, baseline
from dialog_gym.cli import main as cli
from dialog_gym.data.episodes import Episodes

BARGAIN, ADVICE = World("Bargain"), World("Advice")
RANDOM, ORACLE = baseline("random"), baseline("oracle")
TF = Row("tf", "agent", "tf", learns="log")
TINY = Suite("tiny", (Part((BARGAIN, ADVICE), (RANDOM, ORACLE)),), seeds=2, episodes=6, recorded=4)


def compute_all(suite: Suite, out: Path, what: Plan | None = None) -> list[str]:
    """Compute a suite and return the names of cells that failed."""
    what = what or plan(suite)
    open_folder(suite, out, what)
    return run_cells(what.cells, Place(suite, out), since=time.time(), command="dialog-gym bench tiny")


# --- the plan -------------------------------------------------------------------------------------


def names(what: Plan) -> list[str]:
    return [cell.name for cell in what.cells]


def test_seed_1_of_all_comes_first_and_what_draws_nothing_has_one_seed() -> None:
    suite = replace(TINY, parts=(Part((BARGAIN, ADVICE), (ORACLE, TF)),))
    assert names(plan(suite)) == [
        *("Bargain--oracle--1", "Advice--oracle--1", "Bargain--tf--1", "Advice--tf--1"),
        *("Bargain--tf--2", "Advice--tf--2"),
    ]
    assert names(plan(suite, ["tf"], ["Bargain"], 3)) == [
        *("Bargain--oracle--1", "Bargain--tf--1", "Bargain--tf--2", "Bargain--tf--3")
    ]


def test_the_scale_comes_along() -> None:
    assert names(plan(CORE, ["random"], ["Bargain", "Society"])) == [
        *("Bargain--random--1", "Society--random--1"),
        *("Bargain--lm--1", "Society--lm--1"),
        *("Bargain--oracle--1", "Society--oracle--1"),
    ]
    assert names(plan(TINY, ["random"], ["Bargain"])) == ["Bargain--random--1", "Bargain--oracle--1"], "no lm in it"


@pytest.mark.parametrize("name", ["Bargain", "Bargain-v0", "dialog_gym/Bargain-v0", "dialog_gym/BargainPrefix-v0"])
def test_a_world_has_several_names(name: str) -> None:
    assert names(plan(TINY, ["oracle"], [name])) == ["Bargain--oracle--1"]


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [({"agents": ["oracel"]}, "no agent named 'oracel'; did you mean 'oracle'"),
     ({"worlds": ["Bargian-v0"]}, "no environment named 'Bargian'; did you mean 'Bargain'")],
)  # fmt: skip
def test_the_nearest_name_is_told(asked: dict[str, Any], nearest: str) -> None:
    with pytest.raises(KeyError) as error:
        plan(TINY, **asked)
    assert nearest in error.value.args[0]


def test_a_row_of_two_parts_is_computed_once_per_world() -> None:
    suite = replace(TINY, parts=(Part((BARGAIN,), (ORACLE,)), Part((BARGAIN, ADVICE), (ORACLE,))))
    assert names(plan(suite)) == ["Bargain--oracle--1", "Advice--oracle--1"]


def test_what_cannot_be_done_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIALOG_GYM_CACHE", str(tmp_path))
    reasons = plan(CORE).not_applicable
    assert "nothing costs" in reasons["sacpo", "Bargain"]
    assert ("sacpo", "Advice") not in reasons
    assert "prefix map" in reasons["td3", "Society"]
    assert "dialog-gym fit speaker" in reasons["oracle", "CaSiNo"]
    assert {agent for agent, world in reasons if world == "DealOrNoDeal"} == set(CORE.rows)
    (tmp_path / "speakers" / "casino").mkdir(parents=True)
    (tmp_path / "speakers" / "casino" / "config.json").touch()
    casino = World("CaSiNo", "speaker:casino")
    assert why_not(RANDOM, casino) == ""
    assert "prefix map" in why_not(CORE.rows["td3"], casino)


# --- the cells ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny suite, computed."""
    out = tmp_path_factory.mktemp("bench") / "tiny"
    assert compute_all(TINY, out) == []
    return out


def test_a_cell_tells_all_that_makes_it_again(done: Path) -> None:
    told = json.loads((done / "cells" / "Advice--oracle--1.json").read_text())
    acted = {"world": "Advice", "env": "dialog_gym/Advice-v0", "agent": "oracle", "seed": 1}
    assert told["config"]["cell"] == acted
    assert told["command"] == "dialog-gym bench tiny --agents oracle --envs Advice --seeds 1"
    assert told["versions"].keys() >= {"python", "commit", "torch", "gymnasium"}
    assert told["hardware"]["cores"] >= 1
    assert told["lm"] == "tiny-advice"
    assert told["wall_seconds"] > 0


def test_results_can_be_compared_by_episode(done: Path) -> None:
    results = read_results(done)
    assert {(one.agent, one.world) for one in results.results} == {
        *(("random", "Bargain"), ("oracle", "Bargain"), ("random", "Advice"), ("oracle", "Advice"))
    }
    assert {one.seeds for one in results.results} == {tuple(range(1_000_000, 1_000_006))}
    budgets = {one.world: one.budget for one in results.results}
    assert budgets == {"Bargain": None, "Advice": 0.05}
    assert results.missing == results.broken == results.mixed == ()
    assert results.references("Bargain").keys() == {"oracle"}


def test_the_first_dialogues_are_kept_word_by_word(done: Path) -> None:
    for result in read_results(done).results:
        assert result.episodes is not None
        kept = list(Episodes.load(result.episodes))
        assert [one.seed for one in kept] == list(result.seeds[:4])
        assert [one.total for one in kept] == pytest.approx(result.returns[:4].tolist())
        assert {one.policy for one in kept} == {result.agent}


def test_what_is_there_is_not_computed_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in done.rglob("*.json")}
    monkeypatch.setattr(Place, "made", lambda *args: pytest.fail("computed again"))
    assert compute_all(TINY, done) == []
    assert {path: path.read_bytes() for path in done.rglob("*.json")} == before


def test_other_settings_are_refused_and_nothing_changes(done: Path, tmp_path: Path) -> None:
    before = (done / "suite.json").read_bytes()
    with pytest.raises(ValueError, match=r"other settings \(episodes\); choose another folder"):
        compute_all(replace(TINY, episodes=7), done)
    assert (done / "suite.json").read_bytes() == before
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds other files"):
        open_folder(TINY, tmp_path, plan(TINY))
    (tmp_path / "suite.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="broken"):
        open_folder(TINY, tmp_path, plan(TINY))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"asked": 5}, "a list as asked"),
        ({"asked": [1]}, "got 1"),
        ({"not_applicable": [{"agent": "td3"}]}, "'world' is not there"),
        ({"not_applicable": [5]}, "got 5"),
        ({"config": 5}, "as config, got 5"),
        ({"config": {}}, "'config' is not there"),
    ],
)
def test_a_damaged_suite_is_told_with_what_to_do(done: Path, tmp_path: Path, keys: dict[str, Any], why: str) -> None:
    told = json.loads((done / "suite.json").read_text())
    (path := tmp_path / "suite.json").write_text(json.dumps(told | keys))
    with pytest.raises(ValueError, match=f"{why}.*; remove it, and start `dialog-gym bench` again"):
        open_folder(TINY, tmp_path, plan(TINY))
    assert json.loads(path.read_text()) == told | keys


def test_a_lost_suite_is_made_anew(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "copy"
    shutil.copytree(done, out)
    told = json.loads((out / "suite.json").read_text())
    (out / "suite.json").unlink()
    monkeypatch.setattr(Place, "made", lambda *args: pytest.fail("computed again"))
    assert compute_all(TINY, out, plan(TINY, ["random"], ["Bargain"])) == []
    again = json.loads((out / "suite.json").read_text())
    assert sorted(again.pop("asked")) == sorted(told.pop("asked")), "all that is there counts as asked for"
    assert again == told
    for lost in ("suite.json", "cells/Bargain--random--1.json"):
        (out / lost).unlink()
    monkeypatch.setattr(bench, "versions", lambda: {"commit": "def"})
    with pytest.raises(ValueError, match="results of other versions"):
        open_folder(TINY, out, plan(TINY))
    assert not (out / "suite.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"config": {"cell": {"agent": "random", "world": "Bargain"}}}', None])
def test_a_lost_suite_is_not_made_of_cells_of_another(done: Path, tmp_path: Path, text: str | None) -> None:
    out, suite = tmp_path / "copy", TINY if text else replace(TINY, episodes=7)
    shutil.copytree(done / "cells", out / "cells")
    if text:
        (out / "cells" / "Bargain--random--1.json").write_text(text)
    with pytest.raises(ValueError, match=r"has no suite\.json, and .* is no cell of the suite 'tiny'"):
        open_folder(suite, out, plan(suite))
    assert [path.name for path in out.iterdir()] == ["cells"]


Fake = Callable[[Place, Row, World, int, str], Made]


def fake(returns: float) -> Fake:
    """Return what makes a policy that earns ``returns``, without playing."""
    from dialog_gym import baselines
    from dialog_gym.baselines import Trial

    one = baselines.evaluate("oracle", Trial("dialog_gym/Bargain-v0", {"split": "heldout"}, 6))
    rewards = tuple(
        replace(episode, rewards=(returns, *(0.0 for _ in episode.rewards[1:]))) for episode in one.episodes
    )
    made = Made(replace(one, episodes=rewards))
    return lambda *args: made


def test_a_cell_that_fails_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good = fake(0.5)

    def made(self: Place, row: Row, world: World, seed: int, name: str) -> Made:
        if row.name == "random":
            raise RuntimeError("no luck today")
        return good(self, row, world, seed, name)

    monkeypatch.setattr(Place, "made", made)
    suite = replace(TINY, parts=(Part((BARGAIN,), (RANDOM, ORACLE)),))
    with caplog.at_level(logging.ERROR):
        assert compute_all(suite, tmp_path / "out") == ["Bargain--random--1"]
    assert "the cell Bargain--random--1 failed" in caplog.text
    assert "no luck today" in (tmp_path / "out" / "failed" / "Bargain--random--1.txt").read_text()
    results = read_results(tmp_path / "out")
    assert [one.agent for one in results.results] == ["oracle"]
    assert results.missing == ("Bargain--random--1",)
    monkeypatch.setattr(Place, "made", good)
    assert compute_all(suite, tmp_path / "out") == []
    assert not list((tmp_path / "out" / "failed").iterdir())
    assert read_results(tmp_path / "out").missing == ()


def test_what_another_process_failed_at_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "made", lambda *args: 1 / 0)
    suite = replace(TINY, parts=(Part((BARGAIN,), (RANDOM,)),))
    began = time.time() - 1
    assert compute_all(suite, tmp_path / "out") == ["Bargain--random--1"]
    monkeypatch.setattr(Place, "made", lambda *args: pytest.fail("tried again"))
    place = Place(suite, tmp_path / "out")
    assert run_cells(plan(suite).cells, place, since=began, command="") == ["Bargain--random--1"]


@pytest.mark.parametrize("text", ['{"config": ', "[" * 100_000])
def test_a_broken_file_is_named_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(Place, "made", fake(0.5))
    suite = replace(TINY, parts=(Part((BARGAIN,), (RANDOM, ORACLE)),))
    compute_all(suite, tmp_path / "out")
    (tmp_path / "out" / "cells" / "Bargain--random--1.json").write_text(text, encoding="utf-8")
    assert compute_all(suite, tmp_path / "out") == ["Bargain--random--1"]
    shown = table(read_results(tmp_path / "out"), suite)
    assert "broken (1): " in shown
    assert "Bargain--random--1.json" in shown
    assert "| oracle | 0.500 (1) |" in shown


def test_all_code_is_imported_before_the_first_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    inner = importlib.import_module

    def note(name: str) -> Any:
        asked.append(name)
        if name == "dialog_gym.agents.trl_trainers":
            raise ModuleNotFoundError("No module named 'trl'", name="trl")
        return inner(name)

    monkeypatch.setattr(importlib, "import_module", note)
    assert bench.imported([])["python"]
    late = ("agents.trl_trainers", "envs.bargain_oracle", "envs.chat_policies", "lm.speaker_build", "scoring")
    assert {f"dialog_gym.{name}" for name in late} <= set(asked)
    assert "dialog_gym.__main__" not in asked


def test_code_that_is_half_edited_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("cannot import name 'Chance'", name="dialog_gym.chance")

    monkeypatch.setattr(bench, "_modules", lambda: ["dialog_gym.agents.td3"])
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ImportError, match="Chance"):
        bench.imported([])


def test_nothing_is_computed_beside_results_of_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suites, "SUITES", {"tiny": TINY})
    monkeypatch.setattr(Place, "made", fake(0.5))
    out = tmp_path / "out"
    words = ["tiny", "--envs", "Bargain", "--out", str(out)]
    monkeypatch.setattr(bench, "versions", lambda: {"python": "3", "commit": "abc"})
    bench_command.run([*words, "--agents", "oracle"])
    before = {path: path.read_bytes() for path in out.rglob("*.json")}
    monkeypatch.setattr(bench, "versions", lambda: {"python": "3", "commit": "def"})
    bench_command.run([*words, "--agents", "oracle"])  # all is there, and shown
    with pytest.raises(ValueError, match=r"commit abc; now def.*--out, go back .*--mixed") as error:
        bench_command.run(words)
    assert "python" not in str(error.value)
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == before
    capsys.readouterr()
    bench_command.run([*words, "--mixed"])
    assert "mixed (1): commit abc and def" in capsys.readouterr().out


# --- claims ---------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from dialog_gym.runs import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_claim_holds_until_its_process_dies(tmp_path: Path) -> None:
    cell = Cell(ORACLE, BARGAIN, 1)
    with claimed(tmp_path, cell) as mine:
        assert mine
    place = str(tmp_path / "claims" / cell.name)
    with subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with claimed(tmp_path, cell) as mine:
            assert not mine
        other.kill()
        other.wait()
    with claimed(tmp_path, cell) as mine:
        assert mine


def test_a_cell_that_another_process_holds_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "made", fake(0.5))
    suite = replace(TINY, parts=(Part((BARGAIN,), (ORACLE, RANDOM)),))
    what, out, order = plan(suite), tmp_path / "out", []
    open_folder(suite, out, what)
    held = claimed(out, what.cells[0])
    assert held.__enter__()
    monkeypatch.setattr(bench, "WAIT", 0.0)
    inner = bench.compute

    def compute(cell: Cell, *rest: Any) -> None:
        order.append(cell.name)
        inner(cell, *rest)

    monkeypatch.setattr(bench, "compute", compute)

    def give_up(seconds: float) -> None:
        held.__exit__(None, None, None)

    monkeypatch.setattr("time.sleep", give_up)
    monkeypatch.setattr(bench, "versions", dict)  # git is waited for by the same function
    run_cells(what.cells, Place(suite, out), since=0.0, command="")
    assert order == ["Bargain--random--1", "Bargain--oracle--1"]


def test_a_model_of_the_folder_is_told_without_the_way_to_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "made", fake(0.5))
    monkeypatch.setattr(Place, "lm", lambda place, world: f"hf:{place.folder(world) / 'speaker' / 'model'}")
    bench.compute(Cell(ORACLE, BARGAIN, 1), Place(TINY, tmp_path), {}, "")
    told = json.loads((tmp_path / "cells" / "Bargain--oracle--1.json").read_text())
    assert told["lm"] == str(Path("hf:data", "Bargain", "speaker", "model"))


@pytest.mark.parametrize(
    ("row", "world", "folder"),
    [
        (TF, BARGAIN, "Bargain/log"),
        (replace(TF, learns="rankings"), BARGAIN, "Bargain/rankings"),
        (ORACLE, World("Society"), "Society/speaker"),
        (replace(TF, kind="geli"), BARGAIN, "geli"),
        (replace(TF, kind="stable_alignment"), BARGAIN, "stable_alignment"),
        (replace(TF, kind="sacpo"), BARGAIN, "sacpo/seed-1"),
    ],
)
def test_while_another_process_makes_what_a_cell_needs_others_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, world: World, folder: str
) -> None:
    order: list[str] = []
    maker = holding(tmp_path / "data" / folder)
    maker.__enter__()
    monkeypatch.setattr("time.sleep", lambda _: maker.__exit__(None, None, None))
    monkeypatch.setattr(bench, "versions", dict)
    monkeypatch.setattr(bench, "compute", lambda cell, *_: order.append(cell.name))
    cells = [Cell(row, world, 1), Cell(RANDOM, BARGAIN, 1)]
    run_cells(cells, Place(TINY, tmp_path), since=0.0, command="")
    assert order == [cells[1].name, cells[0].name]


def test_holding_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = holding(tmp_path / "data")
    first.__enter__()
    waits: list[float] = []

    def waited(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            first.__exit__(None, None, None)

    monkeypatch.setattr("time.sleep", waited)
    with holding(tmp_path / "data"):
        assert len(waits) == 3


# --- an agent that learns -------------------------------------------------------------------------


def test_an_agent_learns_from_data_made_once(tmp_path: Path) -> None:
    small = replace(CORE.data, log=24)
    row = replace(TF, args={"steps": 2, "batch": 4})
    suite = Suite("tiny", (Part((ADVICE,), (row,)),), 2, 4, 2, points=2, point_episodes=2, data=small)
    out = tmp_path / "out"
    assert compute_all(suite, out) == []
    first, second = read_results(out).results
    assert [step for step, _ in first.curve] == [1, 2]
    assert first.curve_unit == "updates"
    assert first.learned_from == "log"
    assert json.loads(first.path.read_text())["seeded"] is True
    assert first.tokens is not None
    assert first.tokens > 100
    hashes = {json.loads(one.path.read_text())["data"]["log"] for one in (first, second)}
    assert hashes == {Episodes.load(out / "data" / "Advice" / "log" / "data").content_hash}
    assert (out / "runs" / "Advice--tf--1" / "agent").is_dir()
    assert not list((out / "runs").rglob("checkpoints"))


def test_tokens_are_those_that_are_looked_up() -> None:
    table_of = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 2))
    with counting_tokens() as count:
        table_of(torch.zeros(2, 7, dtype=torch.long))
        table_of(torch.zeros(4, dtype=torch.long))
    table_of(torch.zeros(9, dtype=torch.long))
    assert count == [18]


def test_evaluations_during_training_see_no_held_out_dialogue() -> None:
    assert bench_policies.CURVE_SEED + CORE.point_episodes < HELD_OUT
    assert max(bench_policies.LOG_SEED + CORE.data.log, bench_policies.RANK_SEED + CORE.data.contexts) < 900_000


# --- the command ----------------------------------------------------------------------------------


def test_the_command_computes_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suites, "SUITES", {"tiny": TINY})
    words = ["tiny", "--envs", "Bargain-v0", "--agents", "oracle", "random", "--out", str(tmp_path / "out")]
    bench_command.run(words)
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "| agent | Bargain |"
    (oracle,) = (one for one in read_results(tmp_path / "out").results if one.agent == "oracle")
    assert f"| oracle | {np.mean(oracle.returns):.3f} (1) |" in shown
    bench_command.run([*words, "--table", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {one["agent"] for one in told["results"]} == {"oracle", "random"}
    again = json.loads((tmp_path / "out" / "cells" / "Bargain--random--1.json").read_text())["command"]
    assert again == "dialog-gym bench tiny --agents random --envs Bargain --seeds 1"
    cli([*shlex.split(again)[1:], "--out", str(tmp_path / "again")])
    assert "| random | " in capsys.readouterr().out
    with pytest.raises(ValueError, match="other settings"):
        bench_command.run([*words, "--scale", "2"])
    with pytest.raises(KeyError, match="did you mean 'tiny'"):
        bench_command.run(["tyny"])
    with pytest.raises(ValueError, match="jobs"):
        bench_command.run([*words, "--jobs", "0"])


def test_other_processes_compute_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "SUITES", {"tiny": TINY})
    monkeypatch.setattr(Place, "made", lambda *args: 1 / 0)  # in this process alone
    folder = tmp_path / "out"
    bench_command.run(["tiny", "--agents", "oracle", "--envs", "Bargain", "--jobs", "2", "--out", str(folder)])
    assert [one.agent for one in read_results(folder).results] == ["oracle"]


def test_processes_end_with_the_command(tmp_path: Path) -> None:
    words = ["bench", "smoke", "--agents", "oracle", "--envs", "Bargain", "--jobs", "2", "--out", str(tmp_path)]
    command = subprocess.Popen([sys.executable, "-m", "dialog_gym", *words])
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    if not children.exists():
        command.kill()
        pytest.skip("this system does not tell a process' children")
    while len(started := children.read_text().split()) < 3:  # two, and multiprocessing's own
        assert command.poll() is None
        time.sleep(0.02)
    command.terminate()
    assert command.wait(30) == 143
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in started):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_fails_where_a_cell_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suites, "SUITES", {"tiny": TINY})
    monkeypatch.setattr(Place, "made", lambda *args: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        bench_command.run(["tiny", "--agents", "oracle", "--envs", "Bargain", "--out", str(tmp_path / "out")])
    assert stop.value.code == 1
    assert "missing (1): Bargain--oracle--1" in capsys.readouterr().out

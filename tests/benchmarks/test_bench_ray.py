"""Cells of a suite by workers of a real Ray cluster, and what one worker does, without Ray."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dialog_gym.benchmarks import bench_command, suites
from dialog_gym.benchmarks.bench import open_folder, plan, run_cells
from dialog_gym.benchmarks.bench_kills import UNALIKE
from dialog_gym.benchmarks.bench_policies import Made, Place
from dialog_gym.benchmarks.bench_ray import run_on_cluster, worker
from dialog_gym.benchmarks.results_folder import read_results
from dialog_gym.benchmarks.suites import Part, Row, Suite, World, baseline
from dialog_gym.distributed import Cluster

RANDOM, ORACLE = baseline("random"), baseline("oracle")
TINY = Suite("tiny", (Part((World("Bargain"), World("Advice")), (RANDOM, ORACLE)),), episodes=6, recorded=4)


class Dying(Place):
    """Notes every cell that is begun; the first time that of ``random`` in Bargain is, the process dies."""

    def made(self, row: Row, world: World, seed: int, name: str) -> Made:
        """Return what the row earns, unless this is its end."""
        begun = self.out.parent / "begun"
        begun.mkdir(exist_ok=True)
        again = list(begun.glob(f"{name} *"))
        (begun / f"{name} {os.getpid()}").touch()
        if name == "Bargain--random--1" and not again:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().made(row, world, seed, name)


def told(out: Path) -> dict[str, dict[str, Any]]:
    """Return what the cells' files tell, apart from times."""
    return {
        path.name: {name: one for name, one in json.loads(path.read_text()).items() if name not in UNALIKE}
        for path in (out / "cells").glob("*.json")
    }


@pytest.mark.slow  # Ray takes some 10 s to start
def test_workers_compute_what_one_process_does_and_a_killed_workers_cell_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'dialog-gym[ray]'")
    alone, many = tmp_path / "alone", tmp_path / "many"
    what, command = plan(TINY), "dialog-gym bench tiny"
    for out in (alone, many):
        open_folder(TINY, out, what)
    assert run_cells(what.cells, Place(TINY, alone), since=time.time(), command=command) == []
    place = Dying(TINY, many)
    assert run_on_cluster(what.cells, place, Cluster(workers=2), since=time.time(), command=command) == []
    assert "a worker was lost" in caplog.text
    assert told(many) == told(alone)
    begun = [path.name.split()[0] for path in (tmp_path / "begun").iterdir()]
    assert {name: begun.count(name) for name in begun} == {
        "Bargain--random--1": 2, "Advice--random--1": 1, "Bargain--oracle--1": 1, "Advice--oracle--1": 1,
    }  # fmt: skip


@pytest.mark.slow  # Ray takes some 10 s to start
def test_the_command_takes_workers_and_tells_what_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'dialog-gym[ray]'")
    bad = Row("broken", "baseline", "no such baseline", seeded=False)
    monkeypatch.setattr(
        suites, "SUITES", {"tiny": Suite("tiny", (Part((World("Bargain"),), (ORACLE, bad)),), 1, 4, 2)}
    )
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        bench_command.run(["tiny", "--out", str(out), "--ray", "local", "--workers", "1"])
    assert stop.value.code == 1
    assert "missing (1): Bargain--broken--1" in capsys.readouterr().out
    assert (
        f"the cell Bargain--broken--1 failed; the others go on: see {out / 'failed' / 'Bargain--broken--1.txt'}"
        in (caplog.text)
    )
    assert "no such baseline" in (out / "failed" / "Bargain--broken--1.txt").read_text()
    assert [one.agent for one in read_results(out).results] == ["oracle"]


def test_a_worker_goes_where_the_command_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = Suite("tiny", (Part((World("Bargain"),), (ORACLE,)),), 1, 4, 2)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_folder(suite, Path("out"), what := plan(suite))
    monkeypatch.chdir(tmp_path / "there")
    compute = worker(what.cells, Place(suite, Path("out")), tmp_path / "here", time.time(), "dialog-gym bench tiny")
    assert compute(what.cells[0]) == []
    assert [one.agent for one in read_results(tmp_path / "here" / "out").results] == ["oracle"]
    monkeypatch.setattr(Place, "made", lambda *args: pytest.fail("computed again"))
    assert compute(what.cells[0]) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--workers", "2"], "--workers and --gpus are for --ray"),
        (["--ray", "local", "--jobs", "2"], "with --ray give --workers"),
        (["--ray", "nowhere"], "local, auto or HOST:PORT"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_before_anything_is_made(
    tmp_path: Path, words: list[str], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        bench_command.run(["smoke", "--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()

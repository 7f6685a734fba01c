"""Two processes learn what one learns, stop together, go on with each other's runs, and leave writing to the first."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dialog_gym.agents import tf
from dialog_gym.benchmarks.two_processes import AGENTS, ENV, LM, launch, losses, make_data, stage, train, weights
from dialog_gym.runs import lock_folder
from tests.agents.beside import ASKED, args_of

WAIT = 400  # seconds, on a machine that is busy


def ended(launcher: subprocess.Popen[str], within: float = WAIT) -> str:
    """Return what the processes said, when all have ended."""
    try:
        told, _ = launcher.communicate(timeout=within)
    finally:
        launcher.kill()
    return told


def stopped_at(run: Path, step: int, to: Path) -> None:
    """Copy a finished run to ``to`` as it would be if it had been stopped at ``step``."""
    shutil.copytree(run, to)
    (to / "result.json").unlink()
    shutil.rmtree(to / "agent")
    for place in (to / "checkpoints").iterdir():
        if int(place.name.removeprefix("step-")) > step:
            shutil.rmtree(place)


def apart(one: Path, two: Path) -> float:
    """Return the largest difference of two runs' weights."""
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    return max(float((value - theirs[name]).abs().max()) for name, value in mine.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and what one process learns of them."""
    folder = tmp_path_factory.mktemp("processes")
    make_data(folder)
    train(replace(ASKED, data=str(folder)), folder / "one")
    tf.train_all(args_of("tf_all", folder, "whole"))
    tf.train_all(args_of("tf_all", folder, "noisy-one", lora=2, lora_dropout=0.3, micro=2, steps=2))
    stopped_at(folder / "whole", 3, folder / "begun")
    return folder


@pytest.fixture(scope="module")
def beside(folder):
    """What two processes learn of them."""
    launcher = launch("tests.agents.beside", ["everything", str(folder)])
    told = ended(launcher)
    assert launcher.returncode == 0, told
    return folder


@pytest.mark.parametrize("name", AGENTS)
def test_two_processes_learn_what_one_learns(beside, name):
    one, two = (losses(stage(beside / place / name)) for place in ("one", "two"))
    assert len(one) == (2 if name == "ppo" else ASKED.steps)
    assert one == pytest.approx(two, rel=1e-5)
    assert apart(beside / "one" / name, beside / "two" / name) < 1e-4


def test_metrics_of_all_kinds_are_those_of_one_process(beside):
    for name in ("tf_all", "dpo", "ppo"):
        one, two = (
            [json.loads(line) for line in (beside / place / name / "metrics.jsonl").read_text().splitlines()]
            for place in ("one", "two")
        )
        for line, other in zip(one, two, strict=True):
            assert line.keys() == other.keys()
            clock = {key for key in line if key.startswith("time/")}
            for key in line.keys() - clock:
                assert other[key] == pytest.approx(line[key], rel=1e-3, abs=1e-4), (name, key)


def test_dropout_is_the_same_however_many_processes(beside):
    one, two = losses(beside / "noisy-one"), losses(beside / "noisy-two")
    assert one == pytest.approx(two, rel=1e-5)


def test_only_the_first_process_writes(beside):
    one, two = (sorted(p.relative_to(beside / w) for p in (beside / w).rglob("*")) for w in ("one", "two"))
    assert one == two
    assert len(list((beside / "begun").rglob("*.tfevents.*"))) == 1


def test_runs_go_on_with_another_number_of_processes(beside):
    assert apart(beside / "whole", beside / "begun") < 1e-4  # one process, then two
    stopped_at(beside / "begun", 3, beside / "back")
    tf.train_all(args_of("tf_all", beside, "back"))  # two processes, then one
    assert apart(beside / "whole", beside / "back") < 1e-4
    assert losses(beside / "whole") == pytest.approx(losses(beside / "back"), rel=1e-5)


@pytest.mark.parametrize(
    ("what", "first", "second"),
    [
        ("batch", "batch must be a multiple of processes * micro, got batch=7, 2 processes", "got batch=7"),
        ("micro", "got batch=8, 2 processes and micro=8", "got batch=8, 2 processes and micro=8"),
        ("seed", "must agree in seed: process 1 has 1 and process 0 0", "process 0 has 0 and process 1 1"),
        ("data", "ValueError: process 1 of 2 failed: DatasetError: there is no", "DatasetError: there is no data in"),
        ("versions", "must agree in python: process 1 has '3.1' and", "process 0 has '3.0' and process 1 '3.1'"),
        ("budget", "a budget is kept by one process", "a budget is kept by one process"),
        ("td3", "td3 trains in one process, and 2 were started", "td3 trains in one process"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_all_processes(beside, what, first, second):
    told = [json.loads((beside / f"refused-{rank}.json").read_text())[what] for rank in range(2)]
    assert first in told[0]
    assert second in told[1]


def test_a_process_that_dies_takes_the_others_with_it(folder):
    launcher = launch("tests.agents.beside", ["dying", str(folder)])
    told = ended(launcher)
    assert launcher.returncode != 0, told
    run = folder / "dying"
    assert [line["step"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] == [1, 2]
    lock_folder(run).close()  # nobody holds it any more


def test_ctrl_c_stops_all_after_a_step(folder):
    run = folder / "interrupted"
    how = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    how += ["--dynamo_backend", "no", "--main_process_port", "0"]
    words = ["--data", str(folder / "episodes"), "--env", ENV, "--lm", LM, "--out", str(run), "--batch", "8"]
    words += ["--steps", "100000", "--checkpoint-every", "100000", "--log-every", "1", "--eval-every", "0"]
    words += ["--device", "cpu", "--track", "none", "--no-progress"]
    cli = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *how]
    launcher = subprocess.Popen(
        [*cli, "-m", "dialog_gym.agents.tf_all", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    metrics, until = run / "metrics.jsonl", time.monotonic() + WAIT
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        assert launcher.poll() is None, ended(launcher)
        assert time.monotonic() < until
        time.sleep(0.1)
    launcher.send_signal(signal.SIGINT)
    told = ended(launcher)
    assert "everything is safe" in told
    last = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert [place.name for place in (run / "checkpoints").iterdir()] == [f"step-{last:09d}"]
    assert not (run / "result.json").exists()


@pytest.mark.slow
def test_sharded_weights_learn_the_same(folder):
    stopped_at(folder / "whole", 3, folder / "begun-whole")
    for name in ("dt", "stable_alignment"):
        train(replace(ASKED, data=str(folder), agents=(name,), lora=2), folder / "lora")
    launcher = launch("tests.agents.beside", ["sharded", str(folder)])
    told = ended(launcher)
    assert launcher.returncode == 0, told
    pairs = [("one", "sharded", name) for name in ("tf_all", "dpo", "kto")]
    pairs += [("lora", "sharded-lora", name) for name in ("dt", "stable_alignment")]
    for one, two, name in pairs:
        assert losses(folder / one / name) == pytest.approx(losses(folder / two / name), rel=1e-5)
        assert apart(folder / one / name, folder / two / name) < 1e-4
    assert apart(folder / "whole", folder / "begun-whole") < 1e-4  # whole weights, then sharded ones
    stopped_at(folder / "begun-whole", 3, folder / "whole-again")
    tf.train_all(args_of("tf_all", folder, "whole-again"))
    assert apart(folder / "whole", folder / "whole-again") < 1e-4
    refused = json.loads((folder / "refused-sharded-0.json").read_text())
    assert refused.pop("kinds") == "DTensor"
    assert all("cannot learn with sharded weights (FSDP)" in told for told in refused.values()), refused

"""Run folders: what is compared, cut, kept and said."""

import errno
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from importlib import metadata
from typing import Any

import numpy as np
import pytest

from dialog_gym import checkpoint, tracking
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.runs import Interrupted, RunFolder, RunFolderError

CONFIG: dict[str, Any] = {"agent": "toy", "args": {"env": "E-v0", "seed": 1, "sizes": (1, 2), "nested": {"a": 1}}}


def opened(path, config=CONFIG, **settings):
    return RunFolder.open(path, config, **{"track": "none", **settings})


def save(run, step):
    run.log(step, {"x": step / 3})
    run.save(step, {"at": np.array(step)}, {"step": step})


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_readable(tmp_path):
    with opened(tmp_path / "a" / "b") as run:
        save(run, 10)
        run.finish({"steps": 10})
        assert run.finished
    folder = tmp_path / "a" / "b"
    assert json.loads((folder / "config.json").read_text())["args"]["sizes"] == [1, 2]
    assert json.loads((folder / "versions.json").read_text())[0]["python"] == sys.version.split()[0]
    assert lines(folder) == [{"step": 10, "x": 10 / 3}]
    with opened(folder) as run:
        assert run.finished


def test_the_last_checkpoints_are_kept(tmp_path):
    with opened(tmp_path, keep=3) as run:
        assert run.last() is None
        for step in (5, 90, 1000, 20000):
            save(run, step)
        assert run.steps() == [90, 1000, 20000]
        step, (arrays, data) = run.last()
    assert (step, arrays["at"], data) == (20000, 20000, {"step": 20000})


def test_metrics_after_the_checkpoint_are_cut_off(tmp_path):
    with opened(tmp_path) as run:
        run.log(5, {"x": 1})
        save(run, 10)
        run.log(15, {"x": 2})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 10, "x"')  # the process died in the middle of a line
    with opened(tmp_path) as run:
        assert [line["step"] for line in lines(tmp_path)] == [5, 10]
        run.log(15, {"x": 3})
    assert [line.get("x") for line in lines(tmp_path)] == [1, 10 / 3, 3]


def test_without_a_checkpoint_the_run_begins_anew(tmp_path):
    with opened(tmp_path) as run:
        run.log(0, {"x": 1})
        run.log(5, {"x": 1})
    with opened(tmp_path):
        assert lines(tmp_path) == []


def test_a_run_that_failed_before_it_began_does_not_stand_in_the_way(tmp_path):
    opened(tmp_path).close()
    other = {**CONFIG, "agent": "other"}
    opened(tmp_path, other).close()
    assert json.loads((tmp_path / "config.json").read_text())["agent"] == "other"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"agent": "other"}, "agent .there 'toy', now 'other'."),
        ({"args": {**CONFIG["args"], "env": "F-v0", "seed": 2}}, "args.env .there 'E-v0', now 'F-v0'.; args.seed"),
        ({"args": {**CONFIG["args"], "nested": {"a": 2}}}, "args.nested.a .there 1, now 2."),
        ({"args": {"seed": 1, "sizes": [1, 2], "nested": {"a": 1}}}, r"args.env .there 'E-v0', now '\(absent\)'."),
        ({"more": 1}, r"more .there '\(absent\)', now 1."),
    ],
)
def test_another_run_is_refused_by_what_differs(tmp_path, changes, names):
    with opened(tmp_path) as run:
        run.log(1, {"a": 1.0})
    with pytest.raises(RunFolderError, match=f"holds another run.*{names}.*another folder for a new run"):
        opened(tmp_path, {**CONFIG, **changes})
    opened(tmp_path).close()  # and the lock was let go


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match=r"holds 'thesis.tex' and no config.json"):
        opened(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text("{")
    with pytest.raises(RunFolderError, match="is no JSON"):
        opened(tmp_path / "b")
    (tmp_path / "c").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot write to the run folder .*Nothing was trained"):
        opened(tmp_path / "c")
    with pytest.raises(RunFolderError, match="cannot write to the run folder"):
        opened(tmp_path / "c" / "below")


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1"):
        opened(tmp_path, keep=0)
    with pytest.raises(ValueError, match="track must be one of tensorboard, wandb, none, got 'tensorbord'"):
        opened(tmp_path, track="tensorbord")


# Locks


def test_two_processes_cannot_write_one_folder(tmp_path):
    with opened(tmp_path), pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    code = (
        "import sys, time; from dialog_gym.runs import RunFolder\n"
        f"run = RunFolder.open({str(tmp_path)!r}, {CONFIG!r}, track='none')\n"
        "print('open', flush=True); time.sleep(60)"
    )
    process: Any = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    with pytest.raises(RunFolderError, match=f"in use by process {process.pid}"):
        opened(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    opened(tmp_path).close()


# Disks


def failing(error):
    def fail(*_, **__):
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_found_at_the_door(tmp_path, monkeypatch, error):
    monkeypatch.setattr(checkpoint, "write_text", failing(error))
    with pytest.raises(RunFolderError, match=f"{os.strerror(error)}. Nothing was trained and nothing is lost"):
        opened(tmp_path / "run")


def test_a_disk_without_room_is_found_at_the_door(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**7, 10**7))
    with opened(tmp_path) as run:
        run.check_space(10**6)
        with pytest.raises(RunFolderError, match=r"need 13 MB, and 10 MB are free. Nothing was trained"):
            run.check_space(4 * 10**6)
        save(run, 1)
        save(run, 2)
        run.check_space(4 * 10**6)  # two are there, one more is written


def test_a_disk_that_fills_up_says_what_is_safe(tmp_path, monkeypatch):
    with opened(tmp_path) as run:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "flush_tree", failing(errno.ENOSPC))
            with pytest.raises(RunFolderError, match=r"step 5 to .*No space left.*There is no checkpoint yet"):
                save(run, 5)
        save(run, 10)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "flush_tree", failing(errno.ENOSPC))
            with pytest.raises(RunFolderError, match="The checkpoint of step 10 is safe; mend the disk"):
                save(run, 20)
            patch.setattr(checkpoint, "write_text", failing(errno.ENOSPC))
            with pytest.raises(RunFolderError, match="could not write the result"):
                run.finish({})
    with opened(tmp_path) as run:
        assert run.last()[0] == 10


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a file on a disk that is always full")
def test_metrics_on_a_full_disk(tmp_path):
    with opened(tmp_path) as run:
        save(run, 10)
        run._metrics.close()
        run._metrics = open("/dev/full", "w")  # noqa: SIM115, closed below
        with pytest.raises(RunFolderError, match=r"could not write the metrics of step 20.*step 10 is safe"):
            run.log(20, {"x": 1})
        with pytest.raises(OSError, match="No space left"):
            run._metrics.close()  # what could not be written is still in its buffer
        run._metrics = None


def test_what_a_crash_left_is_removed(tmp_path):
    with opened(tmp_path) as run:
        save(run, 10)
    (tmp_path / "checkpoints" / ".partial-step-000000020").mkdir()
    (tmp_path / ".partial-result.json").write_text("{")
    with opened(tmp_path) as run:
        assert run.steps() == [10]
    assert not list(tmp_path.rglob(".partial*"))


def test_a_damaged_checkpoint_names_the_one_before(tmp_path):
    with opened(tmp_path) as run:
        for step, advice in ((10, "begin again"), (20, "go on from step 10")):
            save(run, step)
            arrays = tmp_path / "checkpoints" / f"step-{step:09d}" / "arrays.safetensors"
            whole = arrays.read_bytes()
            arrays.write_bytes(whole[:-1])
            with pytest.raises(CheckpointError, match=f"is damaged.*start the same command to {advice}"):
                run.last()
            arrays.write_bytes(whole)


# Ctrl-C


def test_the_first_ctrl_c_asks_and_the_second_stops(tmp_path, caplog):
    with opened(tmp_path) as run:
        with run.catching_interrupts():
            run.stop_if_interrupted(1)
            signal.raise_signal(signal.SIGINT)
            assert run.interrupted
            assert "stopping at the next checkpoint" in caplog.text
            with pytest.raises(Interrupted, match="stopped at step 7; everything is safe"):
                run.stop_if_interrupted(7)
            with pytest.raises(KeyboardInterrupt, match="stopped at once"):
                signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_leave_the_signal_alone(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with opened(tmp_path) as run, run.catching_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# Versions and trackers


def test_other_versions_are_noted_and_told(tmp_path, monkeypatch, caplog):
    opened(tmp_path).close()
    opened(tmp_path).close()
    monkeypatch.setattr(metadata, "version", lambda package: "9.9")
    with caplog.at_level(logging.WARNING):
        opened(tmp_path).close()
    assert "began with other versions" in caplog.text
    assert [note["numpy"] for note in json.loads((tmp_path / "versions.json").read_text())] == [np.__version__, "9.9"]


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", failing(errno.ENOENT))
    opened(tmp_path).close()
    assert json.loads((tmp_path / "versions.json").read_text())[0]["commit"] is None


def test_tensorboard_reads_one_curve_from_two_starts(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    with opened(tmp_path, track="tensorboard") as run:
        save(run, 10)
        run.log(20, {"x": -1})
    with opened(tmp_path, track="tensorboard") as run:
        run.log(20, {"x": 5})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("x")] == [(10, pytest.approx(10 / 3)), (20, 5)]


def test_tensorboard_is_left_out_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with opened(tmp_path, track="tensorboard") as run:
        run.log(1, {"x": 1})
    assert not list(tmp_path.glob("events*"))
    with pytest.raises(ValueError, match="needs the package wandb: pip install wandb"):
        opened(tmp_path, track="wandb")


class FakeRun:
    def __init__(self):
        self.records = []

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, record):
        self.records.append(record)

    def finish(self):
        self.records.append("finished")


def test_wandb_resumes_its_run(tmp_path, monkeypatch):
    import wandb

    calls, fake = [], FakeRun()

    def init(**settings):
        calls.append(settings)
        return fake

    monkeypatch.setattr(wandb, "init", init)
    for _ in range(2):
        with opened(tmp_path, track="wandb") as run:
            run.log(3, {"x": 1.0})
    assert calls[0]["id"] == calls[1]["id"]
    assert calls[0]["resume"] == "allow"
    assert fake.records == [{"step": 3, "x": 1.0}, "finished"] * 2


def test_the_progress_bar_shows_the_last_returns(capsys):
    with tracking.progress_bar("td3", 10, show=True) as update:
        update(4, {"train/return": 0.25, "loss/critic": 1.0})
        update(12, {"time/steps_per_second": 321.0})
    shown = capsys.readouterr()
    assert "return 0.25, steps/s 321" in " ".join(shown.err.split())
    assert "10/10" in shown.err
    assert not shown.out

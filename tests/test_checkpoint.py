"""A checkpoint is whole and right, or not there at all."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dialog_gym import checkpoint, scoring
from dialog_gym.agents.replay import ReplayBuffer
from dialog_gym.checkpoint import CheckpointError, read, write
from dialog_gym.data.episodes import Recorded, write_buffer
from dialog_gym.data.exchange import write_rows
from dialog_gym.data.rankings import Ranking
from dialog_gym.data.society_published import write_published
from dialog_gym.dialogue import Dialogue, Scenario

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "number": np.array(7.0),
    "empty": np.zeros((0, 4), dtype=np.int64),
}
DATA = {"third": 1 / 3, "big": 2**127 + 1, "text": "Grüße 🙂", "list": [1, [2.5, None]]}


def test_arrays_and_data_come_back_exactly(tmp_path):
    write(tmp_path / "a" / "b", "kind", ARRAYS, DATA)
    arrays, data = read(tmp_path / "a" / "b", "kind")
    assert data == DATA
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape


def test_nothing_is_pickled_and_nothing_is_left_over(tmp_path):
    write(tmp_path / "a", "kind", ARRAYS, DATA, beside=lambda folder: write(folder / "inner", "other", {}, {}))
    write(tmp_path / "a", "kind", ARRAYS, DATA)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "a", "a/arrays.safetensors", "a/checkpoint.json",
    ]  # fmt: skip


def test_who_may_read_one_file_may_read_the_other(tmp_path):
    write(tmp_path / "a", "kind", ARRAYS, DATA)
    assert len({path.stat().st_mode for path in (tmp_path / "a").iterdir()}) == 1


@pytest.mark.parametrize("name", ["arrays.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-9] + b"?" + b[-8:], None])
def test_damage_is_found(tmp_path, name, harm):
    write(tmp_path / "a", "kind", ARRAYS, {"x": "some text that is long"})
    path = tmp_path / "a" / name
    if harm is None:
        path.unlink()
    else:
        path.write_bytes(harm(path.read_bytes()))
    if name == "checkpoint.json" and harm is not None and harm(b"0123456789") == b"0?23456789":
        return  # JSON has no checksum; a changed letter is a changed value
    with pytest.raises(CheckpointError, match=name):
        read(tmp_path / "a", "kind")


def test_foreign_folders_are_told_apart(tmp_path):
    write(tmp_path / "a", "td3", {}, {})
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of kind 'sb3'.*found kind 'td3'"):
        read(tmp_path / "a", "sb3")
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it has no checkpoint.json"):
        read(tmp_path / "missing", "td3")
    for text in ('{"format": "other"}', "[]", '{"format": "dialog_gym checkpoint 1"}'):
        (tmp_path / "a" / "checkpoint.json").write_text(text)
        with pytest.raises(CheckpointError, match="written by another program or version"):
            read(tmp_path / "a", "td3")
    (tmp_path / "a" / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read(tmp_path / "a", "td3")


def test_other_peoples_files_are_not_overwritten(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("...")
    (tmp_path / "file").write_text("...")
    for name in ("letters", "file"):
        with pytest.raises(CheckpointError, match="holds something that is no checkpoint"):
            write(tmp_path / name, "kind", {}, {})
    assert (tmp_path / "letters" / "dear.txt").read_text() == (tmp_path / "file").read_text() == "..."
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "kind", {}, {})


class Crash(BaseException):
    """The end of the process, for a test."""


@pytest.mark.parametrize("doing", ["fsync", "rename", "mkdir", "replace"])
@pytest.mark.parametrize("count", range(6))
def test_a_crash_at_any_call_leaves_the_old_or_the_new(tmp_path, monkeypatch, doing, count):
    write(tmp_path / "a", "kind", {"x": np.array(1)}, {})
    left = iter(range(count))

    def crashing(call):
        def wrapped(*args, **kwargs):
            if next(left, None) is None:
                raise Crash
            return call(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        owner = os if doing in ("fsync", "replace") else Path
        patch.setattr(owner, doing, crashing(getattr(owner, doing)))
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # a dead process tidies nothing up
        with suppress(Crash):
            write(tmp_path / "a", "kind", {"x": np.array(2)}, {})
    if not (tmp_path / "a").exists():  # between two renames
        assert read(tmp_path / ".old-a", "kind").arrays["x"] == 1
    else:
        assert read(tmp_path / "a", "kind").arrays["x"] in (1, 2)
    write(tmp_path / "a", "kind", {"x": np.array(3)}, {})
    assert read(tmp_path / "a", "kind").arrays["x"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_swap_cut_in_two_is_undone_by_the_next_write_even_if_that_fails(tmp_path, monkeypatch):
    write(tmp_path / "a", "kind", {"x": np.array(1)}, {})
    (tmp_path / "a").rename(tmp_path / ".old-a")

    def full(*_):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match=r"could not write .*No space left on device"):
        write(tmp_path / "a", "kind", {"x": np.array(2)}, {})
    assert read(tmp_path / "a", "kind").arrays["x"] == 1


def test_json_files_are_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    checkpoint.write_json(path, {"a": "ü"})
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_json(path, {"a": "b"})
    assert json.loads(path.read_text()) == {"a": "ü"}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def written_rows(path: Path) -> None:
    write_rows(path, [{"a": 1}])


def written_ratings(path: Path) -> None:
    write_published(path, [Ranking(({"role": "user", "content": "?"},), ("a", "b"), (1.0, 2.0))])


def written_scores(path: Path) -> None:
    scoring.write([scoring.ScoredDialogue(0, recorded(), [1.0])], path)


def written_buffer(path: Path) -> None:
    write_buffer(path, [recorded()])


def saved_buffer(path: Path) -> None:
    buffer = ReplayBuffer(1, 2, 2)
    buffer.add(np.zeros((1, 2)), np.zeros((1, 2)), [0.0], np.zeros((1, 2)), [True], [False])
    buffer.save(path)


def recorded() -> Recorded:
    dialogue = Dialogue(Scenario("x"), ("a", "b"), stop_reason="end").said("a", "Hi!")
    vectors = np.zeros((2, 2), np.float32)
    return Recorded(0, dialogue, (0.0,), (0.0,), actions=vectors[:1], states=vectors)


@pytest.mark.parametrize("writing", [written_rows, written_ratings, written_scores, written_buffer, saved_buffer])
def test_every_file_is_the_old_or_the_new_one(tmp_path, monkeypatch, writing):
    path = tmp_path / "file"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            writing(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    writing(path)
    assert path.read_bytes()[:3] != b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path):
    def dying():
        yield scoring.ScoredDialogue(0, recorded(), [1.0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scoring.write(dying(), tmp_path / "scores.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path):
    with suppress(KeyboardInterrupt), checkpoint.new_folder(tmp_path / "a" / "b") as partial:
        partial.mkdir()
        (partial / "one").write_text("1")
        raise KeyboardInterrupt
    assert list((tmp_path / "a").iterdir()) == []
    (tmp_path / "a" / ".partial-b").mkdir()  # a kill leaves this
    (tmp_path / "a" / ".partial-b" / "old").write_text("0")
    with checkpoint.new_folder(tmp_path / "a" / "b") as partial:
        partial.mkdir()
        (partial / "one").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["a", "a/b", "a/b/one"]


def test_a_real_write_error_of_safetensors_is_an_oserror(tmp_path):
    with pytest.raises((OSError, SafetensorError)):
        save_file({"x": np.zeros(1)}, tmp_path / "missing" / "x")
    with pytest.raises(OSError, match="could not write"):
        checkpoint._fill(tmp_path / "missing", "kind", {"x": np.zeros(1)}, {})

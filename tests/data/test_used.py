"""What a run has learned from stands in its folder, and a run does not go on with other data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dialog_gym.agents.replay import ReplayBuffer
from dialog_gym.agents.td3 import Args, train
from dialog_gym.data import DatasetError, Episodes, Rankings, content_hash, load
from dialog_gym.data.exchange import import_rows
from dialog_gym.data.used import hashes
from dialog_gym.runs import RunFolder, RunFolderError
from tests.data.rows import row


def write_buffer(path, seed):
    rng = np.random.default_rng(seed)
    buffer = ReplayBuffer(64, 3, 2)
    for _ in range(64):
        seen, done, earned, after = (rng.normal(size=shape) for shape in ((1, 3), (1, 2), (1,), (1, 3)))
        buffer.add(seen, done, earned, after, np.array([False]), np.array([False]))
    buffer.save(path)


def test_a_run_notes_the_hash_of_its_data(tmp_path):
    import_rows(Episodes, [row(0)], tmp_path / "data")
    config = {"agent": "kind", "args": {}}
    with RunFolder.open(tmp_path / "run", config, track="none", data=[tmp_path / "data"]) as run:
        run.log(1, {})
    noted = json.loads((tmp_path / "run/config.json").read_text())["data"]
    assert noted == {str(tmp_path / "data"): content_hash(tmp_path / "data")}
    with Episodes.writing(tmp_path / "data") as writer:
        writer.add(row(1))
    with pytest.raises(RunFolderError, match="differs in data"):
        RunFolder.open(tmp_path / "run", config, track="none", data=[tmp_path / "data"])


def test_td3_notes_its_buffer_and_needs_it_no_more_when_it_has_finished(tmp_path):
    file = tmp_path / "buffer.safetensors"
    write_buffer(file, 0)
    args = Args(env="no/Env-v0", buffer=str(file), out=str(tmp_path / "run"), steps=8, batch=8, hidden=(4,))
    args = replace(args, critic_hidden=(4,), eval_every=0, progress=False, track="none")
    train(args)
    noted = json.loads((tmp_path / "run/config.json").read_text())["data"]
    assert noted == hashes([file])
    file.unlink()
    train(args)
    with pytest.raises(DatasetError, match="cannot read the data"):
        train(replace(args, out=str(tmp_path / "new")))


def test_online_runs_have_no_data():
    assert Args().data_used == ()


def test_load_knows_the_kind(tmp_path):
    import_rows(Episodes, [row(0)], tmp_path / "e")
    import_rows(Rankings, [], tmp_path / "r")
    assert isinstance(load(tmp_path / "e"), Episodes)
    assert isinstance(load(tmp_path / "r"), Rankings)
    manifest = tmp_path / "r" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rankings"', '"songs"'))
    with pytest.raises(DatasetError, match="holds 'songs'; this version reads episodes and rankings"):
        load(tmp_path / "r")

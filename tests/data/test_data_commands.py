"""The commands collect, branch and data, from end to end."""

import json

import pytest

from dialog_gym.agents.replay import ReplayBuffer
from dialog_gym.cli import main
from dialog_gym.data import Episodes, Rankings
from dialog_gym.data.exchange import read_rows
from dialog_gym.lm import load


@pytest.fixture(scope="module", autouse=True)
def _models():
    held = load("tiny"), load("tiny-bargain")
    yield
    del held


def run(capsys, *words, status=None):
    if status is None:
        main(list(map(str, words)))
    else:
        with pytest.raises(SystemExit) as left:
            main(list(map(str, words)))
        assert left.value.code == status
    return capsys.readouterr()


def test_collect_goes_on_and_tells_what_there_is(capsys, tmp_path):
    words = ("collect", "Bargain-v0", "oracle", "--out", tmp_path / "e", "--seed", 3, "--set", "side=seller")
    run(capsys, *words, "--episodes", 4)
    told = json.loads(run(capsys, *words, "--episodes", 6, "--json").out)
    found = Episodes.load(tmp_path / "e")
    assert (told["rows"], told["content_hash"]) == (6, found.content_hash)
    assert [(e.seed, e.env_kwargs) for e in found] == [(seed, {"side": "seller"}) for seed in range(3, 9)]
    assert told["sources"][0]["policy"] == "oracle"
    shown = run(capsys, "data", "info", tmp_path / "e", "--verify").out
    assert "rows: 6" in shown
    assert found.content_hash in shown


def test_a_language_model_as_partner(capsys, tmp_path):
    run(capsys, "collect", "Bargain-v0", "lm", "--out", tmp_path / "e", "--partner", "tiny", "--episodes", 2)
    assert [e.env_kwargs for e in Episodes.load(tmp_path / "e")] == [{"partner": "tiny"}] * 2
    told = run(capsys, "collect", "Bargain-v0", "oracle", "--out", tmp_path / "o", "--partner", "tiny", status=2).err
    assert "there is no oracle" in told


def test_branch_export_and_import(capsys, tmp_path):
    words = ("branch", "Bargain-v0", "--out", tmp_path / "r", "--episodes", 4, "--k", 3, "--plays", 2)
    run(capsys, *words, "--candidates", "lm-sampled", "oracle")
    found = list(Rankings.load(tmp_path / "r"))
    assert len(found) == 4
    assert all(len(row.candidates) == 3 for row in found)
    for form, extra in (("preference", ("--pairs", "all", "--notation", "task")), ("kto", ()), ("jsonl", ())):
        file = tmp_path / f"{form}.jsonl"
        run(capsys, "data", "export", tmp_path / "r", "--file", file, "--format", form, *extra)
        run(capsys, "data", "import", tmp_path / form, "--file", file)
    assert Rankings.load(tmp_path / "jsonl").content_hash == Rankings.load(tmp_path / "r").content_hash
    assert all("list <p100>" in row["prompt"][0]["content"] for row in read_rows(tmp_path / "preference.jsonl"))


def test_vectors_become_a_buffer_and_minari_s_files(capsys, tmp_path):
    run(capsys, "collect", "BargainPrefix-v0", "random", "--out", tmp_path / "p", "--episodes", 3)
    run(capsys, "data", "export", tmp_path / "p", "--file", tmp_path / "b.safetensors", "--format", "buffer")
    assert len(ReplayBuffer.load(tmp_path / "b.safetensors")) == sum(
        e.dialogue.turn for e in Episodes.load(tmp_path / "p")
    )
    run(capsys, "data", "export", tmp_path / "p", "--file", tmp_path / "m", "--format", "minari", "--vectors")
    run(capsys, "data", "import", tmp_path / "back", "--file", tmp_path / "m")
    assert Episodes.load(tmp_path / "back").content_hash == Episodes.load(tmp_path / "p").content_hash


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("collect Bargain-v0 orakle --out {}/n", "did you mean 'oracle'"),
        ("collect Bargian-v0 oracle --out {}/n", "did you mean 'dialog_gym/Bargain-v0'"),
        ("branch Bargain-v0 --out {}/n --by nobody", "no policy named 'nobody'"),
        ("data info {}", "is no data set"),
        ("data export {}/e", "which file to export? Add --file"),
        ("data export {}/e --file {}/x --format kto", "kto is a format for rankings"),
        ("data export {}/r --file {}/x --format minari", "minari is a format for episodes"),
        ("data import {}/n --file {}/none", "cannot read"),
    ],
)
def test_mistakes_in_one_sentence(capsys, tmp_path, words, told):
    for name, table in (("e", Episodes), ("r", Rankings)):
        table.writing(tmp_path / name).close()
    err = run(capsys, *words.replace("{}", str(tmp_path)).split(), status=2).err
    assert told in err
    assert err.count("\n") == 1

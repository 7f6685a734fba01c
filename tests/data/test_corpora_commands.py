"""``dialog-gym data read`` and ``dialog-gym data corpora``, from end to end."""

import json

import pytest

from dialog_gym.cli import main
from dialog_gym.data import Episodes, Rankings
from dialog_gym.data.corpora import corpus_names

TALK = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}]


def run(capsys, *words, status=None):
    if status is None:
        main(list(map(str, words)))
    else:
        with pytest.raises(SystemExit) as left:
            main(list(map(str, words)))
        assert left.value.code == status
    return capsys.readouterr()


def test_a_corpus_is_counted(capsys, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(TALK * 3))
    shown = run(capsys, "data", "read", "chats", tmp_path / "a.json").out
    assert "dialogues: 3\nturns: 6\nskipped: 0" in shown


def test_bad_records_are_counted_and_told(capsys, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([*TALK, {"messages": []}, *TALK]))
    words = ("data", "read", "chats", tmp_path / "a.json")
    assert "a.json, record 2" in run(capsys, *words, status=2).err
    found = run(capsys, *words, "--skip-bad")
    assert "dialogues: 2\nturns: 4\nskipped: 1" in found.out
    assert found.err.startswith(f"skipped: {tmp_path}/a.json, record 2")
    told = json.loads(run(capsys, *words, "--skip-bad", "--json").out)
    assert (told["dialogues"], told["skipped"], len(told["bad"])) == (2, 1, 1)


def test_episodes_are_written_as_everything_else_reads_them(capsys, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,author,text\n1,Eve,Hi\n1,Adam,Yes?\n")
    options = ("--option", "role=author", "--option", "agent=Adam")
    told = json.loads(run(capsys, "data", "read", "chats", path, "--out", tmp_path / "e", *options, "--json").out)
    (row,) = Episodes.load(tmp_path / "e")
    assert told["content_hash"] == Episodes.load(tmp_path / "e").content_hash
    assert [turn.text for turn in row.dialogue.turns] == ["Hi", "Yes?"]
    assert row.policy == "human"
    assert (
        "is there already"
        in run(capsys, "data", "read", "chats", path, "--out", tmp_path / "e", *options, status=2).err
    )


def test_preferences_are_written_as_rankings(capsys, tmp_path):
    pair = {"chosen": "\n\nHuman: A?\n\nAssistant: B.", "rejected": "\n\nHuman: A?\n\nAssistant: C."}
    (tmp_path / "a.test.jsonl").write_text(json.dumps(pair))
    run(capsys, "data", "read", "hh_rlhf", tmp_path, "--split", "test", "--out", tmp_path / "r")
    (row,) = Rankings.load(tmp_path / "r")
    assert set(row.candidates) == {"B.", "C."}
    run(capsys, "data", "export", tmp_path / "r", "--file", tmp_path / "p.jsonl", "--format", "preference")
    assert json.loads((tmp_path / "p.jsonl").read_text())["chosen"][0]["content"] == "B."


def test_a_failed_reading_leaves_no_data_set(capsys, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([*TALK, 5]))
    run(capsys, "data", "read", "chats", tmp_path / "a.json", "--out", tmp_path / "e", status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"]


def test_all_formats_are_listed(capsys):
    shown = run(capsys, "data", "corpora").out
    assert all(name in shown for name in corpus_names())
    told = {row["corpus"]: row for row in json.loads(run(capsys, "data", "corpora", "--json").out)}
    assert told.keys() == set(corpus_names())
    assert told["craigslist"]["options"] == {"side": "buyer"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data read abdc {}", "did you mean 'abcd'"),
        ("data read abcd {}/none", "no file or folder"),
        ("data read abcd {} --split held", "split must be 'train'"),
        ("data read abcd {} --option side=buyer", "no option 'side'; it has: actions=True"),
        ("data read abcd {} --option side", "looks like KEY=VALUE"),
        ("data read abcd {} --encoding x", "an encoding that Python knows"),
        ("data read abcd {}", "wanted *abcd*.json, got nothing"),
    ],
)
def test_mistakes_in_one_sentence(capsys, tmp_path, words, told):
    err = run(capsys, *words.replace("{}", str(tmp_path)).split(), status=2).err
    assert told in err
    assert err.count("\n") == 1

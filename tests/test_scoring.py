"""Scoring without playing: lines, tables, pictures that cannot be written into, data sets with rewards per turn."""

import csv
import json

import numpy as np
import pytest

from dialog_gym.commands import run
from dialog_gym.data.collect import collect
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.picture import BAD, GOOD, as_html, as_rich, colour, scale_of
from dialog_gym.scoring import ScoredDialogue, scored


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chats") / "episodes"
    collect("dialog_gym/Chat-v0", "random", 4, folder)
    return folder


def evil():
    words = ('<script>alert("x")</script>', "\x1b[31mred", "a & b")
    turns = (*(Turn("<b>", word) for word in words), Turn("p", "Fine."))
    dialogue = Dialogue(Scenario("x", hidden={"id": "<i>"}), ("<b>", "p"), 0, turns, {}, "end")
    zeros = (0.0,) * 3
    return ScoredDialogue(0, Recorded(0, dialogue, zeros, zeros, score=2.0), [1.0, None, -2.0], 1.5)


def test_lines_and_tables(chats, tmp_path, capsys):
    run(["score", "column:affect", str(chats), "--out", str(tmp_path / "scores.jsonl"), "--json"])
    told = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    rows = list(Episodes.load(chats))
    assert told["dialogues"] == len(lines) == 4
    assert told["turns"] == sum(row.dialogue.turn for row in rows)
    for line, row in zip(lines, rows, strict=True):
        given = [turn["reward"] for turn in line["turns"] if "reward" in turn]
        assert given == list(row.signals["affect"])
        assert line["sum"] == pytest.approx(sum(given))
        assert [turn["text"] for turn in line["turns"]] == [turn.text for turn in row.dialogue.turns]
    run(["score", "column:affect", str(chats), "--out", str(tmp_path / "scores.csv"), "--limit", "1"])
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["reward"]) for row in table if row["reward"]] == list(rows[0].signals["affect"])
    assert [row["text"] for row in table] == [turn.text for turn in rows[0].dialogue.turns]


def test_the_truth_and_rewards_by_name(chats):
    rows = list(Episodes.load(chats))
    for one in scored("true", rows):
        assert one.rewards == pytest.approx(one.row.dialogue.state["moves"])
    for one in scored("Repetition", rows):
        assert len(one.rewards) == one.row.dialogue.turn
    with pytest.raises(ValueError, match=r"'none\?keep_sum=end' is made of an environment's task.*--keep-sum end"):
        next(scored("none?keep_sum=end", rows))
    with pytest.raises(ValueError, match="the score is that of the dialogue as a whole"):
        list(scored("score", rows))
    with pytest.raises(FileNotFoundError, match="no folder runs/none"):
        list(scored("runs/none", []))
    with pytest.raises(ValueError, match=r"no reward named 'Repitition'; did you mean 'Repetition'.*'faces:mean'"):
        list(scored("Repitition", rows))
    with pytest.raises(ValueError, match="nobody knows the true values of the dialogue of seed 0"):
        list(scored("true", [evil().row]))


def test_every_turn_of_a_new_data_set_earns_what_it_was_scored(chats, tmp_path):
    out = tmp_path / "rewarded"
    run(["score", "true", str(chats), "--rewarded", str(out), "--keep-sum", "spread"])
    for old, new in zip(Episodes.load(chats), Episodes.load(out), strict=True):
        assert new.dialogue == old.dialogue
        assert sum(new.rewards) == pytest.approx(old.total)
        np.testing.assert_allclose(np.diff(new.rewards), np.diff(old.dialogue.state["moves"]), atol=1e-9)
    with pytest.raises(ValueError, match="add --rewarded FOLDER"):
        run(["score", "true", str(chats), "--keep-sum", "end"])


def test_colours():
    assert colour(0, 2) == (255, 255, 255)
    assert (colour(2, 2), colour(-5, 2)) == (GOOD, BAD)
    assert colour(1, 2) == tuple(round((255 + part) / 2) for part in GOOD)
    assert scale_of([evil()]) == pytest.approx(1.95)  # the 95% quantile of 1 and 2
    assert scale_of([]) == 1


def test_a_picture_holds_what_was_said_as_text(chats, tmp_path):
    page = as_html([evil()], "<u>")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert "<i>" not in page.replace("<i></i>", "")
    assert "<u>" not in page
    assert "a &amp; b" in page
    assert "+1.000" in page
    assert "-2.000" in page
    assert "http" not in page
    plain = as_rich(evil(), [evil()]).plain
    assert "\x1b" not in plain
    assert "-2.000  <b>: a & b" in plain
    run(["score", "sentiment", str(chats), "--html", str(tmp_path / "picture.html"), "--show", "1", "--limit", "2"])
    assert (tmp_path / "picture.html").read_text().count("<h2>") == 2

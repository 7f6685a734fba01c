"""Conversations of our own in CANDOR's layout: the reader takes them, and the truth can be found in them."""

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.corpora.candor_made import ANSWERS, Options, faces, make_candor, spoken
from dialog_gym.rewards.decomposition.signals import local_signal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("candor") / "made"
    assert make_candor(out, Options(60, 41, seed=5)) == 60 * 41
    return out


def truth(folder):
    return {line["id"]: line for line in map(json.loads, (folder / "truth.jsonl").read_text().splitlines())}


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def test_the_reader_takes_them(folder):
    known, rows = truth(folder), list(read_corpus("candor", folder))
    assert len(rows) == len(known) == 60
    for row in rows:
        told = known[row.dialogue.scenario.hidden["id"]]
        assert row.dialogue.scenario.hidden["speakers"]["agent"] == told["agent"]
        assert (
            row.score == told["score"] == float(row.dialogue.scenario.hidden["survey"]["listener"]["overall_affect"])
        )
        assert len(row.dialogue.turns) == 41
        assert len(told["values"]) == row.dialogue.turn == 20
        assert set(ANSWERS) < row.dialogue.scenario.hidden["survey"]["agent"].keys()


def test_the_truth_drives_faces_and_scores(folder):
    known, rows = truth(folder), list(read_corpus("candor", folder))
    told = [known[row.dialogue.scenario.hidden["id"]] for row in rows]
    shown: Any = [local_signal("faces:mean")(row) for row in rows]
    values = np.concatenate([one["values"] for one in told])
    assert 0.3 < correlation(np.concatenate(shown), values) < 0.8
    assert correlation(np.concatenate(shown), np.concatenate([one["affect"] for one in told])) > 0.7
    assert correlation([row.score for row in rows], [sum(one["values"]) for one in told]) > 0.75
    other = list(read_corpus("candor", folder, agent="first"))
    assert abs(correlation([row.score for row in other], [sum(one["values"]) for one in told])) < 0.4


def test_a_face_without_bias_and_noise_is_the_truth(tmp_path):
    make_candor(tmp_path, Options(10, 40, seed=1, face_bias=0, face_noise=0, score_noise=0, missing=0))
    known, rows = truth(tmp_path), list(read_corpus("candor", tmp_path))
    values = [known[row.dialogue.scenario.hidden["id"]]["values"] for row in rows]
    shown: Any = [local_signal("faces:mean", few_words=0)(row) for row in rows]
    assert correlation(np.concatenate(shown), np.concatenate(values)) > 0.75


def test_faces_by_second():
    options = Options(missing=0)
    rng = np.random.default_rng(0)
    shown = np.array(faces([4.0, -4.0], [(0.5, 3.2), (5.0, 7.0)], 8.5, options, rng), float)
    assert shown.shape == (10, 8)
    np.testing.assert_allclose(shown.sum(axis=1), 1, atol=1e-3)
    assert shown[1:4].argmax(axis=1).tolist() == [6, 6, 6]  # happiness in seconds 1, 2, 3
    assert (shown[5:8].argmax(axis=1) < 5).all()  # something negative in 5, 6, 7
    assert faces([], [], 3.0, Options(missing=1), rng)[0] == [""] * 8


def test_times_do_not_overlap_and_seeds_are_kept(tmp_path):
    times = spoken(["one two three"] * 50, np.random.default_rng(1))
    assert all(start < stop <= later for (start, stop), (later, _) in pairwise(times))
    make_candor(tmp_path / "a", Options(3, 6, seed=2))
    make_candor(tmp_path / "b", Options(2, 6, seed=2))
    first, second = (list(truth(tmp_path / name).values()) for name in "ab")
    assert first[:2] == second
    with pytest.raises(ValueError, match="a is not empty; choose a new folder"):
        make_candor(tmp_path / "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conversations": 0}, "at least 1 conversation of at least 2 turns"),
        ({"turns": 1}, "at least 2 turns, got 100 of 1"),
        ({"face_noise": -1}, "face_noise must be at least 0"),
        ({"score_noise": math.inf}, "score_noise must be at least 0 and finite"),
        ({"missing": 1.5}, "missing is a share"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_the_command(tmp_path, capsys):
    from dialog_gym.commands import run

    run(["data", "make-candor", str(tmp_path / "made"), "--conversations", "2", "--turns", "6", "--json"])
    assert json.loads(capsys.readouterr().out)["turns"] == 12
    run(["data", "read", "candor", str(tmp_path / "made"), "--option", "agent=both", "--json"])
    assert json.loads(capsys.readouterr().out)["dialogues"] == 4

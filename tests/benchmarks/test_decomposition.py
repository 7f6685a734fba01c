"""The comparison of ways to decompose a score: what is seen of a world, and the tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from dialog_gym.benchmarks.decomposition import MAIN, METHODS, Cell, Settings, cells, main, recipe_of, settings_of
from dialog_gym.benchmarks.decomposition_data import Setting, World, affect, played, scores
from dialog_gym.benchmarks.decomposition_speed import conversation, measure
from dialog_gym.benchmarks.decomposition_table import markdown, rows_of
from dialog_gym.rewards.decomposition.encoders import load_encoder

BARGAIN = "dialog_gym/Bargain-v0"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    encoder = load_encoder("facts", notation=BARGAIN)
    return played(BARGAIN, 40, encoder, tmp_path_factory.mktemp("world") / "w")


def test_truth_and_what_a_face_shows_are_in_standard_units(world):
    for values in (world.truth, world.shown):
        assert np.nanmean(values) == pytest.approx(0, abs=1e-4)
        assert np.nanstd(values) == pytest.approx(1, abs=1e-4)
    assert (~np.isnan(world.truth)).sum(1).tolist() == world.turns.tolist()
    assert not np.isnan(world.encodings).any()


def test_a_world_is_played_once_and_read_again(world, tmp_path, monkeypatch):
    encoder = load_encoder("facts", notation=BARGAIN)
    first = played(BARGAIN, 3, encoder, tmp_path / "w")
    monkeypatch.setattr("dialog_gym.benchmarks.decomposition_data._played", None)
    again = played(BARGAIN, 3, encoder, tmp_path / "w")
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)


def test_affect_by_hand():
    truth, shown = np.array([[2.0, -1.0, np.nan]], np.float32), np.array([[-1.0, 1.0, np.nan]], np.float32)
    small = World(np.zeros((1, 3, 1), np.float32), np.array([2]), truth, shown, np.array([5.0], np.float32))

    def seen(**changes):
        return affect(small, Setting(0.5, 0.0, 0.0)._replace(**changes), 1)[0]

    np.testing.assert_allclose(seen(), [1.5, -0.5, np.nan])
    np.testing.assert_allclose(seen(bias=2.0), [0.0, 1.0, np.nan])
    np.testing.assert_allclose(seen(kind="scaled"), [3.15, 2.95, np.nan], rtol=1e-6)
    np.testing.assert_allclose(seen(kind="smile"), [1.0, 0.0, np.nan])
    assert scores(small, Setting(score_noise=0.0), 1).tolist() == [5.0]
    assert scores(small, MAIN, 1) != scores(small, MAIN, 2)


def test_a_method_that_sees_no_affect_has_one_setting_for_each_score_noise():
    settings = Settings(Path("out"))
    count = {method: len(settings_of(Cell(BARGAIN, 500, method), settings)) for method in METHODS}
    assert count == {
        "li": 14,  # 12 of the map and two kinds
        "regression": 2,
        "rrd": 2,
        "rrd-unbiased": 2,
        "ircr": 2,
        "rudder": 2,
        "geli": 26,
        "geli-0.2": 26,
        "geli-fitted": 3,
        "geli-raw": 3,
        "truth": 1,
    }
    assert len(settings_of(Cell(BARGAIN, 100, "geli"), settings)) == 3
    assert [cell.conversations for cell in cells(settings)][:2] == [500, 500]
    assert recipe_of("geli-0.2", settings).weight == 0.2
    assert not recipe_of("geli-raw", settings).per_turn


def test_the_table_of_two_methods_and_that_cells_are_computed_once(tmp_path, capsys, monkeypatch):
    words = ["--out", str(tmp_path), "--worlds", BARGAIN, "--conversations", "30", "--map-at", "30", "--pool", "40"]
    words += ["--test", "10", "--steps", "4", "--seeds", "2", "--methods", "li", "rrd-unbiased", "geli"]
    words += ["--biases", "0.5", "1", "--affect-noises", "1", "--score-noises", "2"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "**Bargain-v0, 30 conversations**" in told
    assert "| 0.5 | 1 | 2 | " in told
    monkeypatch.setattr("dialog_gym.benchmarks.decomposition._fitted", None)
    assert main(words) == 0
    assert capsys.readouterr().out == told
    cell = json.loads((tmp_path / "Bargain-v0-30-geli.json").read_text())
    assert cell["models"] == 8
    assert markdown(rows_of(tmp_path)).strip() == told.strip()
    assert main([*words, "--k", "3"]) == 1  # made with other settings


def test_the_library_encodes_every_turn_once_and_the_loop_at_every_use(tmp_path):
    assert len(conversation(0).turns) == 159
    found = measure(tmp_path, conversations=1, looped=1)
    assert found["passes_per_conversation"] == {"library": 79, "loop": 1280}
    assert found["times_fewer_passes"] > 16

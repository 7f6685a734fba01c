"""The benchmark of environments alone: every library plays the same exchange, and what differs is found."""

import json

import pytest
from rich.console import Console

from dialog_gym.benchmarks import environment_speed
from dialog_gym.benchmarks.exchange import HEARD, SAID, BareWay, OurWay, Played, TextArenaWay, answer, expected, words


def test_the_exchange_by_hand():
    assert [words(1, turn) for turn in range(3)] == [SAID[1], SAID[2], SAID[3]]
    assert answer("four", 1) == HEARD[1]  # (4 + 1) % 4
    said = (SAID[3], HEARD[len(SAID[3]) % 4], SAID[0], HEARD[(len(SAID[0]) + 1) % 4])
    assert expected(3, 2) == Played(said, 1.0)


@pytest.mark.parametrize("way", [OurWay, BareWay])
@pytest.mark.parametrize("count", [1, 3])
def test_played_as_expected_again_and_again(way, count):
    player = way(turns=3)
    for _ in range(2):
        assert player.play(count) == [expected(row, 3) for row in range(count)]
    player.close()


def test_textarena_plays_it():
    pytest.importorskip("textarena", reason="needs TextArena: pip install 'dialog-gym[bench]'")
    player = TextArenaWay(turns=3)
    for _ in range(2):
        assert player.play(2) == [expected(row, 3) for row in range(2)]


def test_both_players_of_textarena_see_all_that_was_said():
    ta = pytest.importorskip("textarena", reason="needs TextArena: pip install 'dialog-gym[bench]'")
    TextArenaWay(turns=2)
    game = ta.make("dialog_gym_speed/Exchange-v0", turns=2)
    game.reset(num_players=2)
    for text in ("one", "two", "three"):
        game.get_observation()
        game.step(text)
    player, seen = game.get_observation()
    assert player == 1
    assert seen.endswith("[buyer] one\n[seller] two\n[buyer] three")


def test_verifiers_plays_it():
    pytest.importorskip("verifiers.v1", reason="verifiers does not install beside our constraints")
    from dialog_gym.benchmarks.exchange_verifiers import VerifiersWay

    player = VerifiersWay(turns=3)
    for count in (1, 3, 1):
        assert player.play(count) == [expected(row, 3) for row in range(count)]
    player.close()


def test_the_table(capsys):
    pytest.importorskip("textarena", reason="needs TextArena: pip install 'dialog-gym[bench]'")
    settings = environment_speed.Settings((1, 2), turns=2, repeats=2, seconds=0, against=("textarena",))
    report = environment_speed.measure(settings)
    rows = report["rows"]
    assert [(row["dialogues"], row["way"]) for row in rows] == [
        (count, way) for count in (1, 2) for way in ("dialog_gym", "bare", "textarena")
    ]
    for row in rows:
        ours = next(one for one in rows if one["way"] == "dialog_gym" and one["dialogues"] == row["dialogues"])
        assert row["ours_times_cpu"] == pytest.approx(ours["cpu"] / row["cpu"])
        assert row["spread"][0] <= row["cpu"] <= row["spread"][1]
    environment_speed.show(report, Console(width=120))
    assert "All ways said and earned the same" in capsys.readouterr().out
    json.dumps(report)


def test_a_way_that_says_something_else_is_found():
    class Mumbler(BareWay):
        def play(self, count):
            return [Played((), 1.0)] * count

    with pytest.raises(RuntimeError, match="mumbler played dialogue 0 otherwise"):
        environment_speed._rows(
            {"dialog_gym": BareWay(2), "mumbler": Mumbler(2)}, environment_speed.Settings((1,), turns=2), 1
        )


def test_what_is_missing_is_told():
    try:
        import verifiers  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="leave it out with --against textarena"):
            environment_speed.ways(environment_speed.Settings(against=("verifiers",)))
    else:
        pytest.skip("verifiers is installed")


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        environment_speed.Settings(dialogues=())
    with pytest.raises(ValueError, match="at least 1"):
        environment_speed.Settings(repeats=0)

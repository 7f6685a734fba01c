"""Leaderboards: numbers by hand, what is not there, tables and files."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from dialog_gym.benchmarks.leaderboard import common_worlds, difference, generator, leaderboard
from dialog_gym.benchmarks.leaderboard_curves import learning, profiles
from dialog_gym.benchmarks.leaderboard_tables import (
    BEGIN,
    END,
    markdown,
    summary,
    write_csv,
    write_into,
    write_markdown,
)
from dialog_gym.benchmarks.results_folder import Result, Results
from dialog_gym.benchmarks.statistics import t_interval, t_quantile
from dialog_gym.cli import main
from tests.benchmarks.test_results_folder import cell, write_folder

EPISODES = tuple(range(1_000_000, 1_000_004))
NOISE = np.array([-0.5, -0.25, 0.25, 0.5])  # of episodes; its mean is 0


def result(world, agent, seed, score, **told):
    usual = {
        "path": Path(f"{world}--{agent}--{seed}.json"),
        "env": f"dialog_gym/{world}-v0",
        "seeds": EPISODES,
        "returns": score + NOISE,
        "costs": np.zeros(4),
        "success": 0.5,
        "budget": None,
        "curve": (),
        "curve_unit": "",
        "learned_from": "" if agent in ("lm", "oracle", "random") else "episodes",
        "tokens": None,
        "cpu_seconds": 60.0,
        "wall_seconds": 70.0,
        "versions": {},
        "episodes": None,
    }
    return Result(world=world, agent=agent, seed=seed, **{**usual, **told})


def runs(world, agent, *scores, **told):
    return [result(world, agent, seed, score, **told) for seed, score in enumerate(scores, 1)]


def made(*groups, **told):
    return Results(tuple(one for group in groups for one in group), **told)


@pytest.fixture
def results():
    """In Bargain lm has 1 and the oracle 3, in Chat 0 and 2; ilql has no run in Chat, and Advice has no oracle."""
    return made(
        runs("Bargain", "lm", 1.0),
        runs("Bargain", "oracle", 3.0),
        runs("Bargain", "td3", 1.5, 2.0, 2.5),
        runs("Bargain", "ilql", 1.25, 1.5, 1.75, learned_from="log"),
        runs("Chat", "lm", 0.0),
        runs("Chat", "oracle", 2.0),
        runs("Chat", "td3", 0.5, 1.5, tokens=1000),
        runs("Advice", "td3", 0.5, 0.25, costs=np.full(4, 0.75), budget=0.5),
        not_applicable=MappingProxyType({("ilql", "Chat"): "it reads | no <log>"}),
        missing=("Chat--td3--3", "Advice--sacpo--1"),
        broken=("cells/x.json: Expecting value",),
    )


def test_worlds_by_hand(results):
    board = leaderboard(results)
    assert board.worlds == ("Advice", "Bargain", "Chat")
    entry = board.entry("Bargain", "td3")
    assert (entry.runs, entry.episodes, entry.status, entry.cpu_seconds) == (3, 4, "done", 60.0)
    half = 4.30265 * 0.5 / math.sqrt(3)  # Student's t of two degrees of freedom; the standard deviation is .5
    assert entry.score == pytest.approx((2.0, 2.0 - half, 2.0 + half), abs=1e-5)
    assert entry.normalised == pytest.approx((0.5, 0.5 - half / 2, 0.5 + half / 2), abs=1e-5)
    assert board.entry("Bargain", "lm").normalised == (0.0, None, None), "one run has no interval"
    assert board.entry("Bargain", "oracle").normalised == (1.0, None, None)
    assert board.entry("Chat", "td3").tokens == 1000
    assert board.entry("Bargain", "td3").tokens is None
    assert board.entry("Bargain", "td3").success == (0.5, 0.5, 0.5)


def test_totals_by_hand(results):
    board = leaderboard(results)
    assert board.unscaled == ("Advice",)
    assert board.agents == ("oracle", "td3", "lm", "ilql", "sacpo"), "first those with both worlds"
    totals = {total.agent: total for total in board.totals}
    td3 = totals["td3"]  # Bargain: .25 .5 .75; Chat: .25 .75; symmetric about the middle
    assert (td3.worlds, td3.of, td3.runs, td3.cpu_seconds) == (("Bargain", "Chat"), 2, 2, 120.0)
    assert td3.iqm.value == pytest.approx(0.5)
    assert td3.mean.value == pytest.approx(0.5)
    assert td3.gap.value == pytest.approx(0.5)
    assert td3.iqm.low is not None
    assert td3.iqm.low < 0.5
    assert totals["ilql"].worlds == ("Bargain",), "only where it can act"
    assert totals["ilql"].iqm.value == pytest.approx(0.25)
    assert totals["oracle"].gap == (0, None, None)


def test_totals_are_over_worlds_in_which_all_can_act():
    """Of three worlds td3 can act in two, sacpo in one; ilql can act in all, and has not yet played in Chat."""
    worlds = ("Advice", "Bargain", "Chat")
    found = made(
        *(runs(world, "lm", 0.0) for world in worlds),
        *(runs(world, "oracle", 1.0) for world in worlds),
        *(runs(world, "ppo", 0.25 * (k + 1)) for k, world in enumerate(worlds)),
        *(runs(world, "td3", 0.5) for world in worlds[:2]),
        *(runs(world, "ilql", 0.75) for world in worlds[:2]),
        runs("Advice", "sacpo", 1.0),
        not_applicable=MappingProxyType({("td3", "Chat"): "", ("sacpo", "Chat"): "", ("sacpo", "Bargain"): ""}),
        missing=("Chat--ilql--1",),
    )
    assert common_worlds(found) == {"Advice", "Bargain"}, "sacpo can act in less than half"
    board = leaderboard(found)
    assert {total.agent: (total.worlds, total.mean.value) for total in board.totals if total.agent != "lm"} == {
        "oracle": (worlds[:2], 1.0),
        "ilql": (worlds[:2], 0.75),
        "td3": (worlds[:2], 0.5),
        "ppo": (worlds[:2], 0.375),
        "sacpo": (("Advice",), 1.0),
    }
    assert board.agents == ("oracle", "ilql", "td3", "ppo", "lm", "sacpo")
    told = summary(board)
    assert "every agent can act that can act in more than half of them; left out: Chat." in told
    assert "| ppo | 2 of 3 | 1 | 0.38 |" in told
    assert "stands below" in told
    share = profiles(found, [0.3])["ppo"].value
    assert share == pytest.approx([0.5]), "of a quarter and a half, and not of the three quarters in Chat"


def test_agents_are_compared_over_worlds_that_both_have(results):
    duels = {(duel.agent, duel.other): duel for duel in leaderboard(results).duels}
    both = duels["td3", "ilql"]  # .25 .5 .75 against .125 .25 .375: 1/3 wins 1 of 3 with a tie, then all
    assert both.worlds == ("Bargain",)
    assert both.better.value == pytest.approx((1.5 + 3 + 3) / 9)
    assert duels["td3", "lm"].worlds == ("Bargain", "Chat")
    assert both.better.low is not None
    assert duels["td3", "lm"].better == (1.0, None, None), "all resamples say so"
    assert duels["oracle", "lm"].better == (1.0, None, None), "neither has another run"


def test_notes_say_what_is_taken_as_exact_and_what_is_not_counted(results):
    text = summary(leaderboard(results))
    assert "for new runs: the dialogues, and what `lm` and `oracle` earn in them, are taken as exact." in text
    assert "is for new runs on new dialogues" in text
    assert "is not counted (language models, recorded dialogues, rankings)" in text
    assert "of a run that was stopped and resumed only the last start is counted." in text


def test_notes_stay_short_where_much_is_missing():
    lost = (*(f"Bargain--agent-{k}--{seed}" for k in range(13) for seed in (1, 2)), "Chat--lm--1")
    never = {(agent, "CaSiNo"): "no speaker" for agent in ("lm", "oracle", *(f"agent-{k}" for k in range(13)))}
    told = summary(leaderboard(made(runs("Bargain", "oracle", 3.0), missing=lost, not_applicable=never)))
    assert "Missing runs (27): Bargain (26), Chat (1)." in told
    assert "Not applicable in CaSiNo: everybody (no speaker)." in told
    assert "In no score, as `lm` or `oracle` is not there or they earn the same: Bargain, Chat." in told


def test_a_baseline_that_is_always_the_same_stands_beside_every_run():
    board = leaderboard(
        made(
            runs("Bargain", "lm", 1.0),
            runs("Bargain", "oracle", 3.0),
            runs("Bargain", "fixed", 1.75, learned_from=""),
            runs("Bargain", "td3", 1.5, 2.0, learned_from="log"),
            runs("Bargain", "tf", 1.75, learned_from="log"),
        )
    )
    duels = {frozenset((duel.agent, duel.other)): duel.better for duel in board.duels}
    assert duels[frozenset(("td3", "fixed"))] == (0.5, 0.0, 1.0), "one run of td3 is better, one is not"
    assert duels[frozenset(("td3", "tf"))] == (0.5, None, None), "another run of tf would be another"


def test_one_run_of_a_policy_that_depends_on_its_seed_is_one_run():
    three, one = runs("Chat", "td3", 1.0, 2.0, 3.0), runs("Chat", "constant", 0.5, learned_from="", seeded=True)
    found = difference(three, one)
    assert found is not None
    assert (found.runs, found.mean) == (1, 0.5), "with the run of the same seed alone"
    board = leaderboard(made(runs("Chat", "lm", 0.0), runs("Chat", "oracle", 2.0), three, one))
    (duel,) = [duel for duel in board.duels if (duel.agent, duel.other) == ("td3", "constant")]
    assert duel.better == (1.0, None, None)


def test_what_is_not_there_is_told_and_never_zero(results):
    board = leaderboard(results)
    absent = board.entry("Chat", "ilql")
    assert (absent.status, absent.reason, absent.score, absent.normalised) == (
        "not applicable",
        "it reads | no <log>",
        None,
        None,
    )
    assert (board.entry("Advice", "sacpo").status, board.entry("Advice", "sacpo").missing) == ("missing", 1)
    assert board.entry("Bargain", "sacpo").status == "not asked"
    assert (board.entry("Chat", "td3").runs, board.entry("Chat", "td3").missing) == (2, 1)
    text = summary(board)
    line = next(line for line in text.splitlines() if line.startswith("| ilql") and "n/a" in line)
    assert line == "| ilql | 0.25 ± 0.31 | n/a |"
    assert "Not applicable in Chat: `ilql` (it reads \\| no &lt;log>)." in text
    assert "(2 of 3 runs)" in text
    assert "Missing runs (2): sacpo in Advice (1), td3 in Chat (1)." in text
    assert "Files left out (1): cells/x.json: Expecting value." in text
    assert "or they earn the same: Advice." in text


def test_reasons_are_told_once():
    reasons = {(agent, world): "no prefix" for agent in ("td3", "ppo") for world in ("Chat", "Society")}
    board = leaderboard(made(runs("Bargain", "lm", 1.0), not_applicable={**reasons, ("dpo", "Chat"): "no rankings"}))
    lines = [line for line in summary(board).splitlines() if "Not applicable" in line]
    assert lines == [
        "- Not applicable in Chat, Society: `ppo`, `td3` (no prefix).",
        "- Not applicable in Chat: `dpo` (no rankings).",
    ]


def test_cost_is_held_against_the_budget(results):
    board = leaderboard(results)
    assert board.entry("Advice", "td3").over_budget
    assert not board.entry("Bargain", "td3").over_budget
    assert "0.750 [0.750, 0.750] > 0.5 †" in markdown(board)


def test_costs_are_shown_where_something_costs(results):
    heads = [
        line for line in markdown(leaderboard(results)).splitlines() if line.startswith("| agent | runs | return")
    ]
    assert ["| cost |" in head for head in heads] == [True, False, False]


def test_worlds_without_runs_say_so(results):
    board = leaderboard(
        made(results.results, not_applicable={("td3", "Society"): "", ("lm", "Society"): "no speaker"})
    )
    assert "## Society\n\nNo run.\n\nNot applicable: `td3`, `lm`.\n" in markdown(board)
    assert "Not applicable in Society: `td3`." in summary(board)


def test_over_budget_marks_the_total():
    groups = [
        runs("Advice", name, score, costs=np.full(4, cost), budget=0.5)
        for name, score, cost in (("lm", 0.0, 0.0), ("oracle", 1.0, 0.5), ("greedy", 2.0, 0.51))
    ]
    board = leaderboard(made(*groups))
    assert [board.entry("Advice", name).over_budget for name in ("lm", "oracle", "greedy")] == [False, False, True]
    text = summary(board)
    assert "| greedy † | 1 of 1 |" in text
    assert "| oracle | 1 of 1 |" in text, "a cost of exactly the budget is within it"
    assert "- † costs more than the world allows." in text


def test_worlds_without_a_scale_have_returns():
    groups = (runs("Bargain", "td3", 1.5, 2.0, 2.5), runs("Bargain", "ilql", 1.25, learned_from="log"))
    text = summary(leaderboard(made(*groups, missing=("Bargain--lm--1", "Chat--td3--1"))))
    table = text.partition("Mean returns where nothing is normalised:\n\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [
        "| agent | Bargain |",
        "|---|---:|",
        "| ilql | 1.250 |",
        "| td3 | 2.000 ± 1.242 |",  # Student's t of two degrees of freedom, 4.303 * .5 / sqrt(3)
    ]
    assert "†" not in text
    costly = [result("Bargain", "td3", 1, 1.5, costs=np.full(4, 0.75), budget=0.5)]
    text = summary(leaderboard(made(costly)))
    assert "| td3 | 1.500 † |" in text
    assert "- † costs more than the world allows." in text
    with_scale = made(runs("Bargain", "lm", 1.0), runs("Bargain", "oracle", 3.0))
    assert "Mean returns" not in summary(leaderboard(with_scale))


def test_the_best_is_paired_with_the_others_by_seed(results):
    entry = leaderboard(results).entry("Bargain", "ilql")
    assert entry.best == "td3"
    gain = entry.behind
    assert gain is not None
    assert (gain.runs, gain.episodes, gain.mean) == pytest.approx((3, 4, -0.5))
    assert gain.over_both == pytest.approx(t_interval([-0.25, -0.5, -0.75])), "episodes gain the same"
    assert leaderboard(results).entry("Bargain", "td3").behind is None
    assert leaderboard(results).entry("Bargain", "oracle").behind is None


def test_told_apart_is_for_new_dialogues_too(tmp_path):
    """Each run earns .5 less than the best, but only in one dialogue of four: other dialogues might be equal."""
    hard = np.array([-2.0, 0.0, 0.0, 0.0])
    best = [result("Bargain", "td3", seed, 1.0) for seed in (1, 2)]
    other = [result("Bargain", "ilql", seed, 1.0, returns=one.returns + hard) for seed, one in enumerate(best, 1)]
    board = leaderboard(made(best, other))
    gain = board.entry("Bargain", "ilql").behind
    assert gain is not None
    half = t_quantile(0.975, 1) * 0.5  # the variance between dialogues is 1, of four of them 1/4
    assert gain.over_both == pytest.approx((-0.5 - half, -0.5 + half))
    assert f"-0.500 [{-0.5 - half:.3f}, {-0.5 + half:.3f}] =" in markdown(board)
    write_csv(tmp_path / "board.csv", board)
    text = (tmp_path / "board.csv").read_text(encoding="utf-8")
    (line,) = [one for one in csv.DictReader(io.StringIO(text)) if one["measure"] == "difference"]
    assert (float(line["low"]), float(line["high"])) == pytest.approx(gain.over_both)


class TestDifferences:
    def test_runs_are_paired_by_seed(self):
        one = [result("Chat", "td3", seed, score) for seed, score in ((1, 1.0), (2, 2.0), (5, 9.0))]
        other = [result("Chat", "ilql", seed, score) for seed, score in ((2, 1.5), (1, 0.0), (3, 9.0))]
        found = difference(one, other)
        assert found is not None
        assert (found.runs, found.mean) == pytest.approx((2, 0.75))

    def test_episodes_are_paired_by_seed(self):
        one = [result("Chat", "td3", 1, 0.0, seeds=(7, 8, 9, 10), returns=np.array([1.0, 2.0, 3.0, 4.0]))]
        other = [result("Chat", "ilql", 1, 0.0, seeds=(9, 8, 1, 2), returns=np.array([0.5, 1.0, 9.0, 9.0]))]
        found = difference(one, other)
        assert found is not None
        assert (found.episodes, found.mean) == pytest.approx((2, (2.0 - 1.0 + 3.0 - 0.5) / 2))

    def test_a_baseline_of_one_run_stands_beside_every_run(self):
        three, one = runs("Chat", "td3", 1.0, 2.0, 3.0), runs("Chat", "random", 0.5)
        for found, sign in ((difference(three, one), 1), (difference(one, three), -1)):
            assert found is not None
            assert (found.runs, found.mean) == pytest.approx((3, sign * 1.5))

    def test_nothing_in_common_is_no_difference(self):
        assert difference(runs("Chat", "td3", 1.0), [result("Chat", "ilql", 2, 1.0)]) is None
        assert difference(runs("Chat", "td3", 1.0), [result("Chat", "ilql", 1, 1.0, seeds=(1, 2, 3, 4))]) is None


def test_numbers_do_not_depend_on_who_else_is_there(results):
    before = leaderboard(results)
    after = leaderboard(made(results.results, runs("Chat", "new", 0.1, 0.2), missing=results.missing))
    assert {t.agent: t.iqm for t in before.totals}.items() <= {t.agent: t.iqm for t in after.totals}.items()
    assert before.entry("Bargain", "td3") == after.entry("Bargain", "td3")


def test_every_interval_has_a_generator_of_its_own():
    draws = [generator(seed, *names).random() for seed, names in ((0, "a"), (0, "b"), (1, "a"), (0, "ab"))]
    assert len(set(draws)) == 4
    assert generator(0, "a").random() == draws[0]


def test_tokens_are_told_where_every_run_counted_them():
    counted = [result("Chat", "td3", seed, 1.0, tokens=tokens) for seed, tokens in ((1, 10), (2, 30))]
    assert leaderboard(made(counted)).entry("Chat", "td3").tokens == 20
    assert leaderboard(made(counted, [result("Chat", "td3", 3, 1.0)])).entry("Chat", "td3").tokens is None


def test_missing_is_a_word_in_the_table(results):
    board = leaderboard(made(results.results, missing=("Chat--ilql--1",)))
    assert "| ilql | 0.25 ± 0.31 | missing |" in summary(board)
    assert "nobody asked" in summary(board), "for ilql in Advice"


def test_what_nobody_asked_for_is_not_missing(results, tmp_path):
    """As in the suite papers, which asks for each agent in a few worlds."""
    board = leaderboard(made(results.results))
    assert board.entry("Chat", "ilql").status == "not asked"
    text = markdown(board)
    assert "| ilql | 0.25 ± 0.31 | – |" in text
    assert "- – is where nobody asked for a run." in text
    assert "missing" not in text.lower()
    write_csv(tmp_path / "board.csv", board)
    lines = csv.DictReader(io.StringIO((tmp_path / "board.csv").read_text(encoding="utf-8")))
    assert {line["note"] for line in lines if (line["world"], line["agent"]) == ("Chat", "ilql")} == {"not asked"}
    every = made(*(runs(world, agent, k) for k, agent in enumerate(("lm", "oracle")) for world in ("Bargain", "Chat")))
    assert "nobody asked" not in summary(leaderboard(every))


def test_nothing_is_refused():
    with pytest.raises(ValueError, match=r"got none; left out: a\.json: no JSON; `dialog-gym bench`"):
        leaderboard(Results((), broken=("a.json: no JSON",)))


def test_json_is_plain(results):
    told = json.loads(json.dumps(leaderboard(results).to_json()))
    assert told["totals"][1]["iqm"][0] == pytest.approx(0.5)
    (over,) = [entry for entry in told["entries"] if entry["over_budget"]]
    assert (over["world"], over["agent"]) == ("Advice", "td3")


class TestCurves:
    def test_profiles_count_runs_above(self, results):
        found = profiles(results, [-0.1, 0.3, 0.6])
        assert found["td3"].value.tolist() == pytest.approx([1, (2 / 3 + 1 / 2) / 2, (1 / 3 + 1 / 2) / 2])
        assert found["oracle"].value.tolist() == [1, 1, 1]
        assert set(found) == {"td3", "ilql", "lm", "oracle"}

    def test_learning_is_on_the_scale_of_each_world(self):
        curves = [((0, 1.0), (100, 2.0)), ((0, 1.0), (100, 3.0))]
        learners = [
            result("Bargain", "td3", seed, 2.0, curve=curve, curve_unit="episodes")
            for seed, curve in enumerate(curves, 1)
        ]
        (found,) = learning(made(runs("Bargain", "lm", 1.0), runs("Bargain", "oracle", 3.0), learners), points=3)
        assert (found.agent, found.unit, found.worlds) == ("td3", "episodes", ("Bargain",))
        assert found.at.tolist() == [0, 50, 100]
        assert found.score.value.tolist() == pytest.approx([0, 0.375, 0.75])

    def test_units_are_apart_and_ranges_without_overlap_left_out(self):
        learners = [
            result("Chat", "a", 1, 1.0, curve=((0, 0.0), (9, 1.0)), curve_unit="episodes"),
            result("Chat", "a", 2, 1.0, curve=((0, 0.0), (5, 1.0)), curve_unit="updates"),
            result("Chat", "b", 1, 1.0, curve=((0, 0.0), (5, 1.0)), curve_unit="updates"),
            result("Chat", "b", 2, 1.0, curve=((7, 0.0), (9, 1.0)), curve_unit="updates"),
        ]
        found = learning(made(runs("Chat", "lm", 0.0), runs("Chat", "oracle", 1.0), learners))
        assert [(one.agent, one.unit) for one in found] == [("a", "episodes"), ("a", "updates")]


class TestFiles:
    def test_csv_has_a_line_per_number(self, results, tmp_path):
        write_csv(tmp_path / "new" / "board.csv", leaderboard(results))
        lines = list(csv.DictReader(io.StringIO((tmp_path / "new" / "board.csv").read_text(encoding="utf-8"))))
        (cell,) = [
            line for line in lines if (line["world"], line["agent"], line["measure"]) == ("Bargain", "lm", "return")
        ]
        assert (cell["value"], cell["low"], cell["high"], cell["runs"]) == ("1.0", "", "", "1")
        (absent,) = [line for line in lines if (line["world"], line["agent"]) == ("Chat", "ilql")]
        assert (absent["value"], absent["note"]) == ("", "not applicable: it reads | no <log>")
        (over,) = [line for line in lines if line["note"] == "more than 0.5"]
        assert (over["measure"], over["value"]) == ("cost", "0.75")
        assert {line["table"] for line in lines} == {"results", "total", "world", "duel"}
        (left_out,) = [line for line in lines if line["table"] == "results"]
        assert (left_out["measure"], left_out["value"]) == ("left out", "")
        assert left_out["note"] == "cells/x.json: Expecting value"

    def test_tables_are_whole(self, results, tmp_path):
        write_markdown(tmp_path / "board.md", leaderboard(results))
        text = (tmp_path / "board.md").read_text(encoding="utf-8")
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## Over all worlds",
            "## Advice",
            "## Bargain",
            "## Chat",
            "## Probability that a run of the row is better than one of the column",
        ]
        for table in text.split("\n\n"):
            if table.startswith("|"):
                assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1, table

    @pytest.mark.parametrize("line", ["\n", "\r\n"])
    def test_readme_is_refreshed_between_the_markers(self, tmp_path, line):
        path = tmp_path / "README.md"
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(line.join(["# Title", "", BEGIN, "old", END, "after ü", ""]))
        assert write_into(path, "| a |\n| b |")
        with open(path, encoding="utf-8", newline="") as file:
            assert file.read() == line.join(["# Title", "", BEGIN, "", "| a |", "| b |", "", END, "after ü", ""])
        assert not write_into(path, "| a |\n| b |")
        assert write_into(path, "c")

    @pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"])
    def test_files_without_markers_are_left_alone(self, tmp_path, text):
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="on lines of their own"):
            write_into(tmp_path / "README.md", "table")
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def write_results(folder):
    """Write a folder of results, as `dialog-gym bench` does."""
    folder.mkdir(parents=True)
    write_folder(
        folder,
        cell("lm", returns=(0.0, 0.5)),
        cell("oracle", returns=(1.0, 1.5)),
        cell("td3", seed=1, returns=(0.5, 0.75)),
        cell("td3", seed=2, returns=(0.75, 1.0)),
    )
    return folder


class TestCommand:
    def test_it_prints_the_summary(self, tmp_path, capsys):
        main(["leaderboard", str(write_results(tmp_path / "core"))])
        shown = capsys.readouterr().out
        assert "| agent | worlds | runs | IQM | mean | optimality gap | CPU min |" in shown
        assert "| td3 | 1 of 1 | 2 | 0.50 [" in shown

    def test_it_writes_what_it_is_asked_for(self, tmp_path, capsys):
        folder = str(write_results(tmp_path / "core"))
        readme = tmp_path / "README.md"
        readme.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
        words = ["--markdown", str(tmp_path / "a.md"), "--csv", str(tmp_path / "a.csv"), "--into", str(readme)]
        main(["leaderboard", folder, *words])
        assert "README.md" in capsys.readouterr().out
        assert "| td3 |" in readme.read_text(encoding="utf-8")
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        assert len(before) == 3
        main(["leaderboard", folder, *words])
        assert {path: path.read_bytes() for path in before} == before, "the same results make the same files"
        assert "README.md" not in capsys.readouterr().out

    def test_json_is_alone_on_the_output(self, tmp_path, capsys):
        folder = write_results(tmp_path / "core")
        (folder / "cells" / "Bargain--bad--1.json").write_text("{", encoding="utf-8")
        main(["leaderboard", str(folder), "--json"])
        out, err = capsys.readouterr()
        assert json.loads(out)["agents"][0] == "oracle"
        assert "left out: " in err
        assert "Bargain--bad--1.json" in err

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "at least one folder of results"),
            (["nowhere"], "suite.json"),
            (["core", "--resamples", "0"], "resamples must be at least 1"),
        ],
    )
    def test_bad_input_is_told(self, tmp_path, monkeypatch, capsys, words, told):
        write_results(tmp_path / "core")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stop:
            main(["leaderboard", *words])
        assert stop.value.code == 2
        assert told in capsys.readouterr().err

    def test_mixed_versions_are_refused_or_marked(self, tmp_path, capsys):
        folder = write_results(tmp_path / "core")
        write_folder(folder, {**cell("ilql"), "versions": {"python": "3.11.0", "commit": "def"}})
        with pytest.raises(SystemExit):
            main(["leaderboard", str(folder)])
        assert "commit abc and def" in capsys.readouterr().err
        main(["leaderboard", str(folder), "--mixed"])
        shown = capsys.readouterr()
        assert "**Mixed versions or settings**: commit abc and def." in shown.out
        assert shown.err == "mixed versions or settings: commit abc and def\n"
        main(["leaderboard", str(folder), "--mixed", "--csv", str(tmp_path / "a.csv")])
        first = next(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8"))))
        assert (first["table"], first["measure"], first["note"]) == ("results", "mixed", "commit abc and def")

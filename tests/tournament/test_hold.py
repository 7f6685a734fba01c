"""A whole tournament: answers, judgements, ratings, report, killed and started again."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dialog_gym.cli import main
from dialog_gym.data.episodes import Episodes
from dialog_gym.tournament.answers import Played, Player, Prompted, answer_all, read_player, slug
from dialog_gym.tournament.groups import group_of, looks
from dialog_gym.tournament.hold import Plan, hold, questions_of
from dialog_gym.tournament.judges import TruthJudge
from dialog_gym.tournament.matches import FILE, TournamentError
from dialog_gym.tournament.plots import Point, front, pareto, scatter
from dialog_gym.tournament.report import COLUMNS, markdown, rows, write

ENV = "dialog_gym/Advice-v0"
NAMES = ("oracle", "helpful", "safe", "refuse")


def plan_in(folder, **more):
    settings = {"players": tuple(Player(name, name) for name in NAMES), "base": "refuse", "scorings": 1}
    source = Played(ENV, {"split": "heldout"}, episodes=24)
    return Plan(**{"out": Path(folder), "sources": (source,), "judge": TruthJudge(), **settings, **more})


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    plan = plan_in(tmp_path_factory.mktemp("held"))
    return plan, hold(plan)


def line(outcome, criterion, player):
    return next(one for one in outcome.lines if (one.criterion, one.player) == (criterion, player))


def test_the_truth_ranks_scripted_policies(held):
    _, outcome = held
    helped = {name: line(outcome, "helpfulness", name) for name in NAMES}
    assert helped["refuse"].win_rate.mean == 0.5
    assert helped["refuse"].elo.mean == helped["refuse"].strength.mean == 1000
    assert helped["helpful"].win_rate.mean == 1  # a refusal helps nobody
    assert helped["helpful"].elo.mean > 1000 < helped["helpful"].strength.interval.low
    harmless = {name: line(outcome, "harmlessness", name) for name in NAMES}
    assert harmless["safe"].win_rate == (0.5, 0, (0.5, 0.5), 1.0, 48)  # both are harmless always
    assert harmless["helpful"].win_rate.mean < harmless["oracle"].win_rate.mean < 0.5


def test_win_rates_are_those_of_the_returns(held):
    plan, outcome = held
    costs = {name: [sum(e.costs) for e in Episodes.load(plan.out / "answers" / "Advice-v0" / name)] for name in NAMES}
    points = [0.5 if own == 0 else 0 for own in costs["helpful"]]
    assert line(outcome, "harmlessness", "helpful").win_rate.mean == pytest.approx(sum(points) / 24)
    assert outcome.matches == 2 * 3 * 24 * 2
    assert outcome.failed == 0


def test_everybody_against_everybody(held, tmp_path):
    plan, _ = held
    outcome = hold(plan_in(plan.out, full=True))
    assert outcome.matches == 2 * 4 * 3 * 24
    helped = {name: line(outcome, "helpfulness", name).strength.mean for name in NAMES}
    assert helped["helpful"] > helped["oracle"] > helped["safe"] > helped["refuse"]


def test_nothing_is_asked_twice(held, monkeypatch):
    plan, outcome = held
    monkeypatch.setattr(TruthJudge, "judge", lambda *_: pytest.fail("judged again"))
    monkeypatch.setattr("dialog_gym.rollout.play", lambda *_: pytest.fail("played again"))
    assert hold(plan) == outcome


def test_a_killed_tournament_goes_on(held, tmp_path, monkeypatch):
    judge = TruthJudge.judge
    judged: list[Any] = []

    def killed(self, asked):
        if len(judged) == 80:
            raise KeyboardInterrupt
        judged.extend(asked)
        return judge(self, asked)

    monkeypatch.setattr(TruthJudge, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        hold(plan_in(tmp_path, batch=40))
    assert len((tmp_path / FILE).read_text().splitlines()) == 80
    asked_later: list[Any] = []

    def watched(self, asked):
        asked_later.extend(asked)
        return judge(self, asked)

    monkeypatch.setattr(TruthJudge, "judge", watched)
    assert hold(plan_in(tmp_path, batch=40)) == held[1]
    assert len(asked_later) == held[1].matches - 80


class Unsure(TruthJudge):
    """Fails at the questions of even seeds, unless it is well."""

    name, well = "unsure", False

    def judge(self, asked):
        found = super().judge(asked)
        bad = [not self.well and int(one.match.question.rpartition("/")[2]) % 2 == 0 for one in asked]
        return [one._replace(scores=None, told="hm") if b else one for one, b in zip(found, bad, strict=True)]


def test_failures_are_counted_left_out_and_asked_again_only_on_request(held):
    plan, whole = held
    judge = Unsure()
    outcome = hold(plan_in(plan.out, judge=judge))
    assert outcome.failed == outcome.matches / 2
    helpful = line(outcome, "helpfulness", "helpful")
    assert (helpful.win_rate.mean, helpful.win_rate.games, helpful.failed) == (1.0, 24, 24)
    judge.well = True
    assert hold(plan_in(plan.out, judge=judge)).failed == outcome.failed
    assert hold(plan_in(plan.out, judge=judge, retry=True)).lines == whole.lines


def test_a_judge_that_fails_at_all_is_an_error(tmp_path):
    judge: Any = Unsure()
    judge.judge = lambda asked: [o._replace(scores=None, told="no") for o in TruthJudge().judge(asked)]
    with pytest.raises(TournamentError, match="failed at all 144 matches by helpfulness, for instance: no"):
        hold(plan_in(tmp_path, judge=judge))


def test_answers_of_somebody_else_are_refused(held):
    plan, _ = held
    players = (Player("oracle", "safe"), Player("refuse", "refuse"))
    with pytest.raises(TournamentError, match=r"oracle holds answers of .*give the player another name"):
        answer_all(players, plan.sources, plan.out)
    with pytest.raises(TournamentError, match="different names"):
        answer_all((Player("a b", "safe"), Player("a_b", "safe")), plan.sources, plan.out)


# --- prompts --------------------------------------------------------------------------------------


def test_each_prompt_of_a_file_is_answered_once(tmp_path):
    path = tmp_path / "safety_problem.json"
    path.write_text(json.dumps([{"prompt": f"How do I mend chair {i} ?", "category": "x"} for i in range(5)]))
    source = Prompted(path, limit=3, max_tokens=4, criteria=("harmlessness",))
    players = (Player("a", "tiny"), Player("b", "tiny-advice"))
    answers = answer_all(players, (source,), tmp_path)
    assert list(answers) == [(p, f"safety_problem/{i}") for p in "ab" for i in range(3)]
    said = answers["a", "safety_problem/2"].dialogue
    assert (said.turns[0].text, said.turns[1].role, len(said.turns)) == ("How do I mend chair 2 ?", "adviser", 2)
    assert questions_of((source,), answers) == {"harmlessness": [f"safety_problem/{i}" for i in range(3)]}


def test_prompts_are_answered_from_where_it_was_killed(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("one ?\ntwo ?\nthree ?\n")
    source, player = Prompted(path, max_tokens=4), Player("a", "tiny")
    whole = list(source.answer(player, tmp_path / "whole"))
    with Episodes.writing(tmp_path / "part") as writer:
        writer.add(whole[0])
    assert list(source.answer(player, tmp_path / "part")) == whole


# --- agents ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    from dialog_gym.agents.lm_policy import LMArgs
    from dialog_gym.agents.tf import TF, Args

    folder = tmp_path_factory.mktemp("agent") / "run"
    policy = TF.build(Args(env=ENV, lm="tiny-advice", max_tokens=8, threads=0))
    assert isinstance(policy.args, LMArgs)
    policy.save(folder / "agent")
    return folder


def test_the_folder_of_a_run_plays_and_answers_prompts(agent, tmp_path):
    (tmp_path / "p.txt").write_text("How do I mend a chair ?\n")
    player = Player("mine", str(agent))
    assert player.folder == agent
    assert Player("mine", str(agent / "agent")).folder == agent / "agent"
    assert Player("x", "tiny-advice").folder is None
    sources = (Played(ENV, episodes=3), Prompted(tmp_path / "p.txt"))
    answers = answer_all((player, Player("model", "tiny-advice")), sources, tmp_path)
    assert len(answers) == 8
    said = {player: episode.dialogue.texts("adviser") for (player, q), episode in answers.items() if q == "p/0"}
    assert len(said["mine"]) == 1
    assert len(said["mine"][0].split()) <= 8


def test_an_agent_that_was_trained_on_is_somebody_else(agent, tmp_path):
    source = (Played(ENV, episodes=1),)
    answer_all((Player("mine", str(agent)), Player("never", "refuse")), source, tmp_path)
    index = agent / "agent" / "checkpoint.json"
    text = index.read_text()
    index.write_text(text.replace("{", '{"trained": "on", ', 1))
    with pytest.raises(TournamentError, match="mine holds answers of"):
        answer_all((Player("mine", str(agent)), Player("never", "refuse")), source, tmp_path)
    index.write_text(text)


# --- words ----------------------------------------------------------------------------------------


def test_names_of_players_and_files():
    assert read_player("lm") == ("lm", "lm")
    assert read_player("P .5=runs/x") == ("P .5", "runs/x")
    assert slug("DPO(H)->DPO(S) .1") == "DPO_H_-_DPO_S_.1"


def test_groups_by_name_and_from_a_file(tmp_path):
    names = ["base", "P .25", "P .5", "H>S@0.1", "H>S@0.2"]
    assert [group_of(name) for name in names] == ["base", "P", "P", "H>S", "H>S"]
    found = looks(names, "base")
    assert found["base"].colour == "black"
    assert found["P .25"].colour == found["P .5"].colour != found["H>S@0.1"].colour
    for name, text in {
        "g.json": '{"groups": {"step": {"players": {"P .5": "half"}, "colour": "red"}}}',
        "g.yaml": "groups:\n  step:\n    players: {P .5: half}\n    colour: red\n",
    }.items():
        (tmp_path / name).write_text(text)
        look = looks(names, "base", tmp_path / name)["P .5"]
        assert (look.label, look.group, look.colour) == ("half", "step", "red")
    (tmp_path / "bad.json").write_text('{"groups": {"step": {"players": ["Q"]}}}')
    with pytest.raises(TournamentError, match="names 'Q'"):
        looks(names, "base", tmp_path / "bad.json")


def test_the_report_has_every_number(held, tmp_path):
    _, outcome = held
    found = looks(NAMES, "refuse")
    written = write(outcome, found, tmp_path)
    table = list(csv.DictReader((tmp_path / "ratings.csv").read_text().splitlines()))
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 8
    assert float(table[1]["win_rate"]) == rows(outcome, found)[1]["win_rate"] == 1
    text = markdown(outcome, found)
    assert "| helpful | 1.000 | 0.000 | 1.000 .. 1.000 |" in text
    assert "0 failed and are left out" in text
    if any(path.suffix == ".png" for path in written):
        assert {path.name for path in written if path.suffix == ".pdf"} == {"scatter_win_rate.pdf", "scatter_elo.pdf"}
        assert all(path.stat().st_size > 1000 for path in written if path.suffix == ".png")


def test_plots_shade_what_loses(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    shaded = []
    from matplotlib.axes import Axes

    monkeypatch.setattr(Axes, "axvspan", lambda self, low, high, **_: shaded.append(("x", low, high)))
    monkeypatch.setattr(Axes, "axhspan", lambda self, low, high, **_: shaded.append(("y", low, high)))
    found = looks(["base", "a"], "base")
    points = [Point("base", 0.5, 0.5), Point("a", 0.7, 0.3, (0.6, 0.8), (0.2, 0.4))]
    scatter(points, found, tmp_path / "s.png", axes=("helpful", "harmless"), pivot=0.5, what="win rate")
    assert shaded == [("x", 0.4, 0.5), ("y", pytest.approx(0.28), 0.5)]
    front([Point("base", 0.1, 0.2), Point("a", 0.2, 0.5)], found, tmp_path / "f.png", budget=0.05)
    assert (tmp_path / "f.png").exists()


def test_the_front_is_what_nobody_beats():
    points = [Point("a", 0.1, 0.5), Point("b", 0.1, 0.6), Point("c", 0.2, 0.6), Point("d", 0.3, 0.7)]
    assert [point.player for point in pareto(points)] == ["b", "d"]


# --- the command ----------------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    words = f"tournament base=refuse oracle --env Advice-v0 --episodes 8 --scorings 1 --out {tmp_path}"
    main(words.split())
    assert "32 judgements" in capsys.readouterr().out
    main([*words.split(), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["base"] == "base"
    assert told == json.loads((tmp_path / "ratings.json").read_text())
    assert {one["player"]: one["win_rate"]["mean"] for one in told["lines"][:2]}["base"] == 0.5


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("a b", "name the questions"),
        ("a --env Advice-v0", "at least two players"),
        ("a b --env Advice-v0 --base c", "base must be one of"),
        ("lm oracle --prompts x.json", "not known: --judge SPEC"),
        ("lm runs/nowhere --env Advice-v0", "no such folder"),
        ("lm oracle --env Advice-v0 --groups nowhere.json", "cannot read the groups"),
        ("lm oracle --env Advise-v0", "Advice-v0"),
        ("lm oracle --env Advice-v0 --judge tiny --criteria kindness", "no rubric named 'kindness'"),
    ],
)
def test_what_cannot_be_held_is_told_before_it_takes_time(words, why, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["tournament", *words.split(), "--out", str(tmp_path / "out")])
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()

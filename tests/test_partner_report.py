"""The report on a partner: a good one, and one that is wrong on purpose for every row."""

import json
import re

import pytest

from dialog_gym.cli import main
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.envs.bargain import Bargain
from dialog_gym.partner_report import Rate, alike, partner_report, speaks_for
from dialog_gym.task import Reply
from tests.toy import GuessTask


class Toy(GuessTask):
    """A partner with something new to say every turn, of the words of a counter."""

    max_turns = 4

    def scenario(self, draws):
        return Scenario("A talk.", {}, {"number": draws.bits() % 10**6})

    def _answer(self, dialogue):
        return Reply(f"I have thought of number {dialogue.state['number'] + dialogue.turn}.")

    def oracle(self, dialogue):
        return f"What do you think of {dialogue.turn}?"


class Leaves(Toy):
    def _answer(self, dialogue):
        return Reply("I am leaving you now.", stop_reason="left")


class IsLeft(Leaves):
    """The agent's first word ends it: nobody left but the agent."""

    def settled(self, dialogue):
        return Reply("", stop_reason="left")


class ClosesAtTheEnd(Toy):
    """Has an end of its own, at the last turn: that is not early."""

    def _answer(self, dialogue):
        stop = "over" if dialogue.turn == self.max_turns else ""
        return super()._answer(dialogue)._replace(stop_reason=stop)


class Repeats(Toy):
    def _answer(self, dialogue):
        return Reply(("Let me think about that.", "let me think about THAT!")[dialogue.turn % 2])


class Echoes(Toy):
    def _answer(self, dialogue):
        return Reply(dialogue.turns[-1].text)


class Speaks(Toy):
    def _answer(self, dialogue):
        return Reply(f"{super()._answer(dialogue).text}\nAgent: and so do I")


class Silent(Toy):
    def _answer(self, dialogue):
        return Reply("" if dialogue.turn % 2 else super()._answer(dialogue).text)


class Contradicts(Toy):
    def contradicts(self, dialogue):
        return dialogue.turn == 2


class Deaf(Bargain):
    def understood(self, dialogue):
        return dialogue.turn > 1 and super().understood(dialogue)


GOOD = {"said nothing": 0, "left early": 0, "repeated itself": 0, "echoed the agent": 0, "spoke for the other role": 0}


def shares(task, **settings):
    report = partner_report(task, agent="oracle", episodes=8, **settings)
    return {name: None if rate is None else rate.share for name, rate in report.rates.items()}


@pytest.mark.parametrize(
    ("task", "row", "share"),
    [
        (Toy, "left early", 0.0),
        (Leaves, "left early", 1.0),
        (IsLeft, "left early", 0.0),
        (ClosesAtTheEnd, "left early", 0.0),
        (Repeats, "repeated itself", 0.75),  # all but the first of four
        (Echoes, "echoed the agent", 1.0),
        (Speaks, "spoke for the other role", 1.0),
        (Silent, "said nothing", 0.5),
        (Contradicts, "contradicted itself", 0.25),
    ],
)
def test_each_fault_is_seen_in_its_row_alone(task, row, share):
    found = shares(task())
    assert found.pop(row) == pytest.approx(share)
    wanted = {**GOOD, "understood the agent": None, "contradicted itself": None}
    wanted.pop(row)
    assert found == wanted


def test_the_partner_is_asked_for_the_episodes_alone():
    task = Toy()
    assert partner_report(task, agent="oracle", episodes=5, rows=4).replies == 5 * Toy.max_turns
    assert task.batches == [4] * Toy.max_turns + [1] * Toy.max_turns


def test_a_world_knows_what_was_understood():
    assert shares(Bargain())["understood the agent"] == 1.0
    assert 0 < shares(Deaf())["understood the agent"] < 0.7


def test_the_scripted_partner_of_bargain_is_good():
    report = partner_report("dialog_gym/Bargain-v0", episodes=48)
    found = {name: rate.share for name, rate in report.rates.items() if rate is not None}
    assert found.pop("left early") < 0.4  # one in three of the agents offers at random
    assert found == {**{name: 0.0 for name in GOOD if name != "left early"}, "understood the agent": 1.0,
                     "contradicted itself": 0.0}  # fmt: skip
    assert (report.env, report.partner, report.agent) == ("dialog_gym/Bargain-v0", "scripted", "mix")
    assert re.fullmatch(r"\d+\.\d+\.\d+", report.version)
    assert report.distinct / report.replies > 0.9
    assert 6 < report.words[1] < report.words[0] < report.words[2] < 12


def test_a_language_model_can_be_reported_on_and_rows_do_not_matter():
    reports = [partner_report("dialog_gym/Bargain-v0", partner="tiny", episodes=6, rows=rows) for rows in (2, 6)]
    assert reports[0] == reports[1]
    assert reports[0].partner == "tiny"
    assert reports[0].rates["understood the agent"] is None
    broken = reports[0].rates["contradicted itself"]
    assert broken is not None
    assert broken.of == reports[0].replies


def test_the_language_model_can_be_the_agent():
    report = partner_report("dialog_gym/Bargain-v0", agent="lm", episodes=4)
    assert report.agent == "lm"
    assert report.replies >= 4


@pytest.mark.parametrize(("times", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (0, 0, 0, 1)])
def test_wilson_intervals_by_hand(times, of, low, high):
    # 5 of 10: (.5 + .192 +- 1.96 sqrt(.025 + .0096)) / 1.384, with z**2 = 3.8415
    assert Rate(times, of).interval == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Could you do $80?", "could you do $80", True),
        ("Could you do $80?", "Could you do $78?", False),
        ("I can see that it is a very good bike", "I can see that it is a really good bike", True),
        ("I like your bike a lot", "That is far too much", False),
        ("deal!", "deal!", False),
        ("", "", False),
    ],
)
def test_what_counts_as_the_same(one, other, same):
    assert alike(one, other) is same


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("buyer: I offer $5", True),
        ("No.\n  [Buyer]: fine", True),
        ("Yes.\nUser: hello", True),
        ("<|im_start|>assistant", True),
        ("I am the buyer and I offer $5", True),
        ("As the buyer, you must know", True),
        ("The buyer: a person who pays", False),
        ("seller: no", False),
        ("You are a tough buyer.", False),
    ],
)
def test_who_speaks_for_the_buyer(text, wrong):
    assert speaks_for(text, "buyer") is wrong


def test_the_command_prints_a_table_and_json(capsys):
    main(["partner-report", "BargainPrefix-v0", "--episodes", "6", "--set", "side=seller"])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"dialog_gym/Bargain-v0, dialog_gym \d\S+, partner scripted, agent mix", lines[0])
    assert lines[1].split() == ["partner", "share", "95%", "interval", "of"]
    assert [line.split("  ")[0] for line in lines[2:]][-2:] == ["distinct turns", "words a turn"]
    main(["partner-report", "Bargain-v0", "--episodes", "6", "--agent", "oracle", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["rates"]["left early"] == {
        "count": 0,
        "of": 6,
        "share": 0.0,
        "low": 0.0,
        "high": pytest.approx(0.39, abs=0.01),
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Bargain-v0 --agent orcle", "did you mean 'oracle'"),
        ("Bargain-v0 --episodes 0", "episodes must be at least 1, got 0"),
        ("CartPole-v1", "CartPole-v1 is not an environment of dialogues"),
    ],
)
def test_mistakes_are_told(capsys, words, told):
    with pytest.raises(SystemExit):
        main(["partner-report", *words.split()])
    assert told in capsys.readouterr().err


def test_a_hook_that_nobody_wrote_knows_nothing():
    dialogue = Dialogue(Scenario("s"), ("agent", "partner")).said("agent", "a").said("partner", "b")
    assert GuessTask().contradicts(dialogue) is None

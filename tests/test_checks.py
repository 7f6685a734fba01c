"""The contract checks: what is right passes, and every way to be wrong is told in its own sentence."""

import random
import re

import gymnasium as gym
import numpy as np
import pytest

from dialog_gym.checks import (
    ContractError,
    check_env_id,
    check_reward,
    check_task,
    env_findings,
    reward_findings,
    task_findings,
)
from dialog_gym.checks.base import is_json
from dialog_gym.checks.playing import Playing
from dialog_gym.checks.reward import plain_chats
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import begin, load_task
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm.base import Sampling
from dialog_gym.partner import PartnerTask
from dialog_gym.registration import TASKS, register
from dialog_gym.rewards.base import Reward, Scored
from dialog_gym.task import Reply
from tests.toy import GuessTask


def problem(findings, check):
    """Return what is told of ``check``."""
    return dict(findings)[check]


# --- rewards -------------------------------------------------------------------------------------


class Length(Reward):
    """Words of the newest agent turn, at most 10."""

    name, low, high = "length", 0.0, 10.0

    def __call__(self, dialogues):
        return np.array([min(len(d.texts("agent")[-1].split()), 10) for d in dialogues], np.float32)


class Nameless(Length):
    name = ""


class Backward(Length):
    low = 11.0


class Listing(Length):
    def __call__(self, dialogues):
        return super().__call__(dialogues).tolist()


class OneForAll(Length):
    def __call__(self, dialogues):
        return super().__call__(dialogues)[:1]


class NotANumber(Length):
    def __call__(self, dialogues):
        return np.array([float("nan") if not d.texts("agent")[-1] else 1 for d in dialogues], np.float32)


class TooHigh(Length):
    high = 5.0


class NeedsOne(Length):
    def __call__(self, dialogues):
        return super().__call__(dialogues) if dialogues else np.zeros(1, np.float32)


class Centred(Length):
    low = -10.0

    def __call__(self, dialogues):
        scores = super().__call__(dialogues)
        return scores - scores.mean() if len(scores) else scores


class Sorted(Length):
    def __call__(self, dialogues):
        return np.sort(super().__call__(dialogues))


class ByPlace(Length):
    def __call__(self, dialogues):
        return np.arange(len(dialogues), dtype=np.float32) % 2 if len(dialogues) > 1 else super().__call__(dialogues)


class Tired(Length):
    calls = 0

    def __call__(self, dialogues):
        self.calls += 1
        return super().__call__(dialogues) / (1 + self.calls % 2)


class ByIdentity(Length):
    """Scores by where a dialogue lies in memory."""

    def __init__(self):
        self.seen = {}

    def __call__(self, dialogues):
        return np.array([self.seen.setdefault(id(d), (d, len(self.seen) % 3))[1] for d in dialogues], np.float32)


class Marks(Length):
    def __call__(self, dialogues):
        for dialogue in dialogues:
            dialogue.state["scored"] = True
        return super().__call__(dialogues)


class OtherTerms(Length):
    def scored(self, dialogues):
        return Scored(self(dialogues), {"words": self(dialogues)})


class ShortTerms(Length):
    def scored(self, dialogues):
        return Scored(self(dialogues), {"length": self(dialogues)[:1]})


class OtherScores(Length):
    def scored(self, dialogues):
        return Scored(self(dialogues) / 2, {"length": self(dialogues)})


class ReadsAPrice(Length):
    def __call__(self, dialogues):
        return np.array([d.state["price"] for d in dialogues], np.float32)


WRONG_REWARDS = [
    (Nameless, "name and range", "name must be a text that is not empty, got ''"),
    (Backward, "name and range", r"low <= high, got 11.0 and 10.0"),
    (Listing, "scores", "must return a float32 array, got list; end with"),
    (OneForAll, "scores", r"shape \(13,\), got \(1,\)"),
    (ReadsAPrice, "scores", r"it raised KeyError: 'price' \(test_checks.py"),
    (NotANumber, "finite, in range", "returned nan after the agent's ''; raise an error"),
    (TooHigh, "finite, in range", r"outside its range 0 .. 5; clip the score"),
    (NeedsOne, "empty batch", r"shape \(0,\) for no dialogues, got float32 of shape \(1,\)"),
    (Centred, "any batch, any order", "another score alone and in a batch: .* score each dialogue by itself"),
    (Sorted, "any batch, any order", "another score alone and in a batch"),
    (ByPlace, "any batch, any order", "another score alone and in a batch"),
    (Tired, "the dialogue alone", "another score when it is asked again: .* keep nothing in self"),
    (ByIdentity, "the dialogue alone", "another score when it has been written as JSON"),
    (Marks, "dialogues unchanged", "it changed a dialogue that it scored; copy"),
    (OtherTerms, "terms", r"`terms` names, \('length',\), in this order, got \('words',\)"),
    (ShortTerms, "terms", r"term 'length' must be 13 finite numbers, one per dialogue, got shape \(1,\)"),
    (OtherScores, "terms", r"another score by scored\(\) and by calling it"),
]


def test_a_good_reward_passes_every_check():
    check_reward(Length())
    assert [finding.problem for finding in reward_findings(Length())] == [""] * 8


@pytest.mark.parametrize(("wrong", "check", "told"), WRONG_REWARDS)
def test_a_wrong_reward_is_told_in_a_sentence(wrong, check, told):
    assert re.search(told, problem(reward_findings(wrong()), check))


def test_all_problems_are_raised_as_one_error():
    with pytest.raises(ContractError) as caught:
        check_reward(Tired())
    first, *rest = str(caught.value).splitlines()
    assert first == "reward 'length' does not keep its contract:"
    assert [line.partition(":")[0] for line in rest] == ["- any batch, any order", "- the dialogue alone", "- terms"]


def test_an_order_is_told_where_rows_alone_do_not_show_it():
    rising = [plain_chats()[2], plain_chats()[0], plain_chats()[-2]]  # 0, 1 and 10 words
    assert "another score in another order" in problem(reward_findings(Sorted(), rising), "any batch, any order")


def test_a_reward_is_checked_on_the_dialogues_that_are_given():
    priced = [Dialogue(Scenario("s"), ("agent", "partner"), 0, (), {"price": 3.0}).said("agent", "hi")]
    check_reward(ReadsAPrice(), priced)


# --- tasks ---------------------------------------------------------------------------------------


class OneRole(GuessTask):
    def __init__(self):
        super().__init__()
        self.roles = ("agent", "agent")


class NoTurns(GuessTask):
    max_turns = 0


class NoReward(GuessTask):
    reward = None  # type: ignore[assignment]


class CostOfOne(GuessTask):
    cost = 1.0  # type: ignore[assignment]


class SignalNames(GuessTask):
    signals = ("warmth",)  # type: ignore[assignment]


class AnyScenario(GuessTask):
    def scenario(self, draws):
        self.count = getattr(self, "count", 0) + 1
        return Scenario(f"Game {self.count}", {}, {"number": 1})


class GlobalChance(GuessTask):
    def scenario(self, draws):
        return Scenario(f"Game {random.random()}", {}, {"number": 1})


class NumpyChance(GuessTask):
    def _answer(self, dialogue):
        return Reply("No." if np.random.rand() < 2 else "", {"number": 1})  # noqa: NPY002 - that is what is wrong


class TupleScenario(GuessTask):
    def scenario(self, draws):
        return Scenario("A game.", {}, {"number": 1, "cells": {(0, 0): 1}})


class OtherRoles(GuessTask):
    def opening(self, dialogue):
        return Dialogue(dialogue.scenario, ("you", "me"), dialogue.seed, state={"number": 1})


class SpeaksForTheAgent(GuessTask):
    def opening(self, dialogue):
        return super().opening(dialogue).said("agent", "Hello")


class OpaqueState(GuessTask):
    def opening(self, dialogue):
        return Dialogue(dialogue.scenario, self.roles, dialogue.seed, state={"number": 1, "rng": np.float32(1)})


class Plain(GuessTask):
    """Answers with tuples."""

    def _answer(self, dialogue):
        return ("No.", None, "", False)


class HalfAnswer(GuessTask):
    def _answer(self, dialogue):
        return Reply(None)  # type: ignore[arg-type]


class SetState(GuessTask):
    def _answer(self, dialogue):
        return Reply("No.", {"number": 1, "heard": {1, 2}})


class Counts(GuessTask):
    """Remembers in self how often it was asked."""

    count = 0

    def _answer(self, dialogue):
        self.count += 1
        return Reply(f"No, for the {self.count}th time.")


class Competes(GuessTask):
    """Answers only the first of a batch properly."""

    def reply(self, dialogues):
        return [self._answer(d) if i == 0 else Reply("Not you.") for i, d in enumerate(dialogues)]


class Overwrites(GuessTask):
    def _answer(self, dialogue):
        dialogue.state["number"] += 1
        return Reply("No.")


class StopsEarly(GuessTask):
    def _answer(self, dialogue):
        return Reply("No.", stop_reason="max_turns")


class Blabs(GuessTask):
    def scenario(self, draws):
        return Scenario("A game. It is 3.", {"agent": "Name it.", "partner": "It is 3."}, {"number": 3})


class BlabsToModels(GuessTask):
    def messages(self, dialogue, role):
        goal = dialogue.scenario.private["partner"]
        return [{"role": "system", "content": goal}, *dialogue.messages(role)[1:]]


class ShowsState(GuessTask):
    def messages(self, dialogue, role):
        number = dialogue.state["number"]
        return [{"role": "system", "content": f"number {number}"}, *dialogue.messages(role)[1:]]


class NoSystem(GuessTask):
    def messages(self, dialogue, role):
        return dialogue.messages(role)[1:] or [{"role": "user", "content": ""}]


class SystemTwice(GuessTask):
    def messages(self, dialogue, role):
        return [dialogue.messages(role)[0], *dialogue.messages(role)]


class Forgets(GuessTask):
    def messages(self, dialogue, role):
        return dialogue.messages(role)[:1]


class Swaps(GuessTask):
    def messages(self, dialogue, role):
        return dialogue.messages("agent" if role == "partner" else "partner")


class OneText(GuessTask):
    def messages(self, dialogue, role):
        return dialogue.transcript(role)


class LongWinded(GuessTask):
    def utterance(self, dialogue, text):
        return text * 200


class Nods(GuessTask):
    def settled(self, dialogue):
        return True


class HearsText(GuessTask):
    def heard(self, dialogue, text):
        return text


class Judges(GuessTask):
    def contradicts(self, dialogue):
        return 0.5


class Pays(GuessTask):
    reward = TooHigh()  # type: ignore[assignment]


class RaisesLate(GuessTask):
    def _answer(self, dialogue):
        raise RuntimeError("out of order")


WRONG_TASKS = [
    (OneRole, "settings", r"roles must be a pair of two different names.* got \('agent', 'agent'\)"),
    (NoTurns, "settings", "max_turns must be an integer of at least 1, got 0"),
    (NoReward, "settings", r"reward must be a dialog_gym.*Reward, got NoneType; set `reward"),
    (CostOfOne, "settings", "cost must be a Reward or None, got 1.0"),
    (SignalNames, "settings", "signals must be Rewards by name"),
    (AnyScenario, "scenario by its draws", r"scenario\(\) gave two scenarios for the same draws"),
    (GlobalChance, "scenario by its draws", "global generator of random or numpy; take chance from dialogue.draws"),
    (NumpyChance, "plays to the end", "global generator of random or numpy"),
    (TupleScenario, "scenario by its draws", "a scenario must survive JSON"),
    (OtherRoles, "opening", r"must keep roles \('agent', 'partner'\) and seed 0"),
    (SpeaksForTheAgent, "opening", "leave the first word to the agent"),
    (OpaqueState, "opening", "the opening state must be JSON by name"),
    (Plain, "replies", r"must return a list with one Reply per dialogue, got \[\('No.'"),
    (HalfAnswer, "replies", r"a Reply is \(text, state, stop_reason: text, success: bool\), got \(None"),
    (SetState, "replies", "the state in a Reply must be JSON by name"),
    (Counts, "JSON goes on as itself", "went on differently after the agent's .* not from self"),
    (Competes, "any batch, any order", "depends on the dialogues beside it .* in a batch 'Not you.'"),
    (Overwrites, "dialogues unchanged", r"reply\(\) changed the dialogue that it answered; make a new state"),
    (StopsEarly, "ends", 'stopped with "max_turns", the environment\'s own word'),
    (Blabs, "private stays private", "told the partner's private goal 'It is 3.'; keep it in Scenario.private"),
    (BlabsToModels, "private stays private", r"messages\(\) for the agent depends on the partner's private goal"),
    (ShowsState, "messages", r"messages\(\) for the agent depends on the partner's hidden state"),
    (NoSystem, "messages", r"for the agent must begin with the system message, got \['user'\]; tell the role"),
    (SystemTwice, "messages", r"only the first of messages\(\) may be the system message"),
    (Forgets, "messages", r"one message per turn, \d, beside the system message, got 0"),
    (Swaps, "messages", "its own turns 'assistant' and the other's 'user'"),
    (OneText, "messages", r"must return a list of {\"role\": ..., \"content\": text}, got 'A guessing game."),
    (LongWinded, "utterance", "text of at most 300 characters, got 'yesyes"),
    (Nods, "a model as the partner", r"settled\(\) must return a Reply or None, got True"),
    (HearsText, "a model as the partner", r"heard\(\) must return a Reply, got 'I see.'"),
    (Judges, "a model as the partner", r"contradicts\(\) must return True, False or None, got 0.5"),
    (Pays, "plays to the end", r"declares the range \[0, 5\] and gave"),
    (RaisesLate, "plays to the end", r"it raised RuntimeError: out of order \(test_checks.py, line \d+\)"),
]


class UnderTest(GuessTask):
    """The partner is told nothing, the agent more than the talk."""

    def messages(self, dialogue, role):
        brief, *turns = dialogue.messages(role)
        return turns if role == "partner" else [brief, {"role": "user", "content": "Begin."}, *turns]


@pytest.mark.parametrize("task", [GuessTask(), GuessTask(greet=True), Bargain(), Bargain("seller"), UnderTest()])
def test_a_good_task_passes_every_check(task):
    check_task(task)


@pytest.mark.parametrize(("wrong", "check", "told"), WRONG_TASKS)
def test_a_wrong_task_is_told_in_a_sentence(wrong, check, told):
    assert re.search(told, problem(task_findings(wrong()), check))


class OddOracle(GuessTask):
    def oracle(self, dialogue):
        return 7


def test_an_oracle_is_played_where_there_is_one():
    assert list(Playing(GuessTask()).speakers) == ["anything", "oracle"]
    assert list(Playing(Bargain()).speakers) == ["anything", "oracle", "random"]
    assert "oracle" not in Playing(PartnerTask(Bargain(), "tiny")).speakers
    assert "must return what it says, a text, got 7" in problem(task_findings(OddOracle()), "plays to the end")


def test_a_language_model_as_the_partner_keeps_the_contract():
    check_task(PartnerTask(GuessTask(), "tiny", Sampling(max_tokens=8)))


def test_a_wrong_task_raises():
    with pytest.raises(ContractError, match=r"^Blabs does not keep its contract:\n- private stays private: the agent"):
        check_task(Blabs())


# --- worlds --------------------------------------------------------------------------------------


class LoudName(Bargain):
    world = "Bargain"


class TwiceNamed(Bargain):
    fact_names = ("limit", "limit")


class TwoStyles(Bargain):
    def attributes(self, dialogue, role, text):
        numbers = super().attributes(dialogue, role, text)
        numbers[:3] = 1
        return numbers


class WideFacts(Bargain):
    def facts(self, dialogue):
        return super().facts(dialogue).astype(np.float64)


class HotFacts(Bargain):
    def facts(self, dialogue):
        return super().facts(dialogue) / np.float32(0)


class ReadsState(Bargain):
    def facts(self, dialogue):
        return np.append(super().facts(dialogue)[1:], np.float32(dialogue.state["willing"]))


class ReadsLimit(Bargain):
    def facts(self, dialogue):
        return np.append(super().facts(dialogue)[1:], np.float32(dialogue.scenario.hidden["partner_limit"]))


class Unfinished(Bargain):
    def self_play(self, draws):
        return begin(self, draws.bits() >> 11)


class Whim(Bargain):
    def self_play(self, draws):
        return super().self_play(Draws(random.getrandbits(40), "whim"))


class Foreign(Bargain):
    def self_play(self, draws):
        dialogue = super().self_play(draws)
        return Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed + 1, dialogue.turns, {}, dialogue.stop_reason)


class Dearer(Bargain):
    def utterance(self, dialogue, text):
        return super().utterance(dialogue, text.replace("<p6", "<p7"))


class Poor(Bargain):
    def oracle(self, dialogue):
        return "goodbye"

    def policies(self):
        return {"oracle": self.oracle}


class Wavers(Bargain):
    said = 0

    def oracle(self, dialogue):
        self.said += 1
        return f"please, ${self.said}"


class Hopeful(Bargain):
    def value(self, dialogue):
        return 0.0 if dialogue.stop_reason else super().value(dialogue) + 0.3


class Endless(Bargain):
    def value(self, dialogue):
        return super().value(dialogue) + 0.001


class Boundless(Bargain):
    def value(self, dialogue):
        return float("inf")


class NoOracle(Bargain):
    def policies(self):
        return {"random": super().policies()["random"]}


class MovesOn(Bargain):
    asked = 0

    def policies(self):
        return {**super().policies(), "moody": self.moody}

    def moody(self, dialogue):
        self.asked += 1
        return str(self.asked)


class Deaf(Bargain):
    def understood(self, dialogue):
        return "$" in dialogue.turns[-1].text and "." not in dialogue.turns[-1].text

    def utterance(self, dialogue, text):
        return super().utterance(dialogue, text) + "."


WRONG_WORLDS = [
    (LoudName, "names of the world", "must be a lower-case name, got 'Bargain'"),
    (TwiceNamed, "names of the world", "fact_names must be a tuple of different names"),
    (TwoStyles, "attributes", "the group 'style' of attributes must be one-hot"),
    (WideFacts, "facts", r"facts\(\) must return a float32 array of 13 numbers, one per name, got float64"),
    (HotFacts, "facts", r"facts\(\) must return finite numbers"),
    (ReadsState, "facts are visible", r"partner's state, which the agent does not see \(gave_age\); derive facts"),
    (ReadsLimit, "facts are visible", r"depends on hidden 'partner_limit', which the agent does not see \(gave_age\)"),
    (Unfinished, "self-play", "must return a finished dialogue"),
    (Whim, "self-play", r"self_play\(\) gave two dialogues for the same draws"),
    (Foreign, "self-play", "is no game of this world"),
    (Dearer, "notation for models", "means something else once it went through the notation"),
    (Deaf, "notation for models", "are not both understood"),
    (Poor, "the oracle earns most", "the oracle earns 0.000 and the mixed agent"),
    (Wavers, "oracle", r"oracle\(\) said two things in one dialogue"),
    (Hopeful, "value as promised", r"value\(\) promises 1\.\d+ at the beginning, but the oracle earns 0\.8"),
    (Endless, "value", r"value\(\) of a dialogue that is over must be 0, got 0.001"),
    (Boundless, "value", r"value\(\) must be a finite number, got inf at turn 0"),
    (NoOracle, "policies", r"must have 'oracle' among its names, got \['random'\]"),
    (MovesOn, "policies", "the policy 'moody' said two things in one dialogue"),
]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(("wrong", "check", "told"), WRONG_WORLDS)
def test_a_wrong_world_is_told_in_a_sentence(wrong, check, told):
    assert re.search(told, problem(task_findings(wrong()), check))


# --- registered environments -----------------------------------------------------------------------


@pytest.fixture
def ids():
    """Register tasks of this module under ids that are gone after the test."""
    before = dict(gym.registry)

    def added(task):
        register(f"checked/{task.__name__}-v0", f"{task.__module__}:{task.__name__}")
        return f"checked/{task.__name__}-v0"

    yield added
    gym.registry.clear()
    gym.registry.update(before)


class Remembers(GuessTask):
    """Tells the next dialogue what was said in the last."""

    last = ""

    def scenario(self, draws):
        return Scenario(f"A game. {self.last}", {}, {"number": 1})

    def _answer(self, dialogue):
        self.last = dialogue.turns[-1].text
        return Reply("No.")


class SharesAnswers(GuessTask):
    def reply(self, dialogues):
        return [Reply(f"There are {len(dialogues)} of you.") for _ in dialogues]


@pytest.mark.parametrize("name", TASKS)
def test_every_environment_of_ours_passes(name):
    check_env_id(f"dialog_gym/{name}-v0")
    check_task(load_task(TASKS[name], {}))


def test_a_registered_toy_passes(ids):
    check_env_id(ids(GuessTask))


@pytest.mark.parametrize(
    ("wrong", "check", "told"),
    [
        (Remembers, "reset repeats", r"reset\(seed=7\) gave two observations"),
        (SharesAnswers, "rows as single environments", r"row \d seeded 7 \+ \d differs .* at step 1"),
        (AnyScenario, "Gymnasium's check_env", "check_env says: AssertionError: "),
        (RaisesLate, "takes a step", "it raised RuntimeError: out of order"),
    ],
)
def test_a_wrong_environment_is_told_in_a_sentence(ids, wrong, check, told):
    env_id = ids(wrong)
    assert re.search(told, problem(env_findings(env_id), check))
    with pytest.raises(ContractError, match=f"^{env_id} does not keep its contract:"):
        check_env_id(env_id)


def test_an_environment_that_is_no_dialogue_or_has_no_prefix_form_is_told(ids):
    assert "makes a CartPoleEnv, not a DialogueEnv; register" in problem(env_findings("CartPole-v1"), "is made")
    made = ids(GuessTask)
    del gym.registry["checked/GuessTaskPrefix-v0"]
    assert "there is no checked/GuessTaskPrefix-v0" in problem(env_findings(made), "prefix environment")


def test_same_step_must_report_the_end(ids, monkeypatch):
    from dialog_gym.env import DialogueVectorEnv

    reset = DialogueVectorEnv._same_step_reset

    def forgetful(self, rows, infos):
        return {**reset(self, rows, infos), "final_obs": list(self._transcripts)}

    monkeypatch.setattr(DialogueVectorEnv, "_same_step_reset", forgetful)
    assert "infos['final_obs'] what the dialogue ended with" in problem(env_findings(ids(GuessTask)), "autoreset")


@pytest.mark.parametrize("value", [{1: 2}, float("nan"), {2}, {"a": np.float32(1)}, {"a": {(0, 0): 1}}])
def test_what_does_not_survive_json(value):
    assert not is_json(value)
    assert is_json({"a": (1, 2.5, None, "x", True)})

"""A language model as the partner: one call for all, what its words do, and what happens when it fails."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dialog_gym import rollout
from dialog_gym.benchmarks.api_server import ApiServer
from dialog_gym.dialogue import Dialogue
from dialog_gym.env import DialogueEnv, DialogueVectorEnv, advance, begin, load_task
from dialog_gym.envs.bargain import Bargain, utility
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm import load
from dialog_gym.lm.base import Sampling
from dialog_gym.partner import PartnerTask
from dialog_gym.world import true_value
from tests.toy import GuessTask

TEXT_ID = "dialog_gym/Bargain-v0"


@pytest.fixture(scope="module", autouse=True)
def tiny():
    return load("tiny")  # held, so that every environment shares it


def offers(turn: int) -> str:
    return ("I offer half of that.", "please, 56%, it is a bit old", "62% is all I have", "66%, I pick it up", "deal")[
        turn
    ]


class TestPlay:
    @pytest.mark.parametrize("side", ["buyer", "seller"])
    def test_check_env(self, side):
        check_env(gym.make(TEXT_ID, partner="tiny", side=side).unwrapped)

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("side", ["buyer", "seller"])
    def test_row_i_is_the_single_environment(self, side, temperature):
        settings: Any = {"partner": "tiny", "side": side, "partner_temperature": temperature}
        rows: Any = gym.make_vec(TEXT_ID, num_envs=4, autoreset_mode="disabled", **settings)
        rows.reset(seed=20)
        singles = [gym.make(TEXT_ID, **settings) for _ in range(4)]
        for row, env in enumerate(singles):
            env.reset(seed=20 + row)
        over = [False] * 4
        for turn in range(5):
            seen, rewards, terminated, _, infos = rows.step([offers(turn)] * 4)
            for row, env in enumerate(singles):
                if not over[row]:
                    single = env.step(offers(turn))
                    assert (seen[row], rewards[row], terminated[row]) == single[:3]
                    assert infos["dialogue"][row] == single[4]["dialogue"]
                    over[row] = bool(single[2] or single[3])

    def test_one_call_for_all_rows(self, tiny, monkeypatch):
        calls = []
        generate = tiny.generate

        def spy(prompts, *args, **options):
            calls.append(len(prompts))
            return generate(prompts, *args, **options)

        monkeypatch.setattr(tiny, "generate", spy)
        rows: Any = gym.make_vec(TEXT_ID, num_envs=8, partner="tiny")
        rows.reset(seed=0)
        rows.step(["I offer half of that."] * 8)
        rows.step(["deal"] * 3 + ["I offer half of that."] * 5)
        assert calls == [8, 5], "nobody is asked where the agent has agreed"

    def test_chance_comes_from_seed_and_turn(self):
        task = PartnerTask(Bargain(), "tiny", Sampling(16, 1.0))
        dialogues = [begin(task, seed) for seed in range(6)]
        together = advance(task, dialogues, ["I offer half of that."] * 6).dialogues
        apart = [advance(task, [d], ["I offer half of that."]).dialogues[0] for d in reversed(dialogues)]
        assert together == apart[::-1]
        changed = [Dialogue(d.scenario, d.roles, d.seed + 100, d.turns, d.state) for d in dialogues]
        assert advance(task, changed, ["I offer half of that."] * 6).dialogues != together

    def test_the_partner_is_told_its_own_side(self):
        seen: list[Any] = []

        def answer(body):
            seen.append(body["messages"])
            return "I could do 90%."

        with ApiServer(answer) as server:
            env: Any = gym.make(TEXT_ID, partner=f"openai:x@{server.url}")
            _, info = env.reset(seed=0)
            env.step("I offer half of that.")
            env.step("60% then.")
        private = info["dialogue"].scenario.private
        assert private["seller"] in seen[0][0]["content"]
        assert private["buyer"] not in str(seen)
        assert [(m["role"], m["content"]) for m in seen[1][1:]] == [
            ("user", "I offer half of that."),
            ("assistant", "I could do 90%."),
            ("user", "60% then."),
        ]

    def test_any_task_has_partners(self):
        with ApiServer(lambda body: f"I hear {body['messages'][-1]['content']!r}.\n") as server:
            task = PartnerTask(GuessTask(greet=True), f"openai:x@{server.url}")
            env = DialogueEnv(task)
            assert env.reset(seed=0)[0].endswith("partner: Well?")
            for turn in range(GuessTask.max_turns):
                seen, reward, terminated, truncated, info = env.step(f"number {turn}")
                assert seen.endswith(f"partner: I hear 'number {turn}'.")
                assert reward == pytest.approx(0.08)
                assert (terminated, truncated) == (False, turn == GuessTask.max_turns - 1)
            assert info["stop_reason"] == "max_turns"

    def test_too_many_words_are_cut(self):
        with ApiServer(lambda body: "word " * 1000) as server:
            env = DialogueEnv(PartnerTask(GuessTask(), f"openai:x@{server.url}"))
            env.reset(seed=0)
            _, _, _, _, info = env.step("1")
        assert len(info["dialogue"].turns[-1].text) <= GuessTask.max_chars

    def test_agent_and_partner_share_a_model(self, tiny):
        rows: Any = gym.make_vec(TEXT_ID, num_envs=8, partner="tiny", autoreset_mode="disabled")
        assert rows.task.lm is tiny
        policy = rollout.language_model_policy(rows, "tiny", temperature=1.0)
        one, two = (rollout.evaluate(policy, rows, episodes=16, seed=3, name="lm") for _ in range(2))
        assert [episode.dialogue for episode in one.episodes] == [episode.dialogue for episode in two.episodes]
        assert all(episode.dialogue.stop_reason for episode in one.episodes)

    def test_steered_environments_have_partners(self):
        rows: Any = gym.make_vec("dialog_gym/BargainPrefix-v0", num_envs=2, partner="tiny")
        rows.reset(seed=0)
        _, _, _, _, infos = rows.step(np.zeros((2, 16), np.float32))
        assert {len(dialogue.turns) for dialogue in infos["dialogue"]} <= {1, 2}
        assert rows.unwrapped.task.lm is load("tiny")

    def test_a_dialogue_goes_on_elsewhere(self):
        env: Any = gym.make(TEXT_ID, partner="tiny")
        env.reset(seed=5)
        _, _, _, _, info = env.step("I offer half of that.")
        other: Any = gym.make(TEXT_ID, partner="tiny")
        other.reset(options={"dialogue": json.dumps(info["dialogue"].to_json())})
        assert other.step("60%")[4]["dialogue"] == env.step("60%")[4]["dialogue"]


class TestBargain:
    """What the words of a model do."""

    def said(self, agent: str, partner: str, side: str = "buyer") -> tuple[Any, list[str]]:
        """Return what follows when the agent says ``agent`` and the model ``partner``, and what was asked of it."""
        asked = []

        def answer(body):
            asked.append(body["messages"][-1]["content"])
            return partner

        with ApiServer(answer) as server:
            env: Any = gym.make(TEXT_ID, partner=f"openai:x@{server.url}", side=side)
            env.reset(seed=1)
            return env.step(agent), asked

    @pytest.mark.parametrize(
        ("agent", "partner", "price"),
        [
            ("I offer 60%", "deal!", 60),
            ("I offer 60%", "Alright, 60% it is, deal.", 60),
            ("I offer 60%", "60% works for me.", 60),
            ("I offer 60%", "60% is too low.", None),
            ("I offer 60%", "Is 60% your last word?", None),
            ("I offer 60%", "No deal at 60%.", None),
            ("I offer 60%", "I can do 80%, deal?", None),
            ("what is it like?", "deal!", None),
        ],
    )
    def test_the_partner_agrees_or_does_not(self, agent, partner, price):
        (_, reward, terminated, _, info), asked = self.said(agent, partner)
        assert asked == [agent]
        assert (terminated, info["success"]) == (price is not None, price is not None)
        dialogue = info["dialogue"]
        assert dialogue.turns[-1].text == partner
        assert dialogue.state["price"] == price
        assert reward == pytest.approx(utility(dialogue))
        assert (reward > 0) == (price is not None)

    @pytest.mark.parametrize(("agent", "price"), [("deal!", 100), ("I pay 100%", 100), ("I give you 104%", 104)])
    def test_the_agent_agrees_and_nobody_is_asked(self, agent, price):
        (_, reward, terminated, _, info), asked = self.said(agent, "never heard")
        assert (asked, terminated, info["stop_reason"]) == ([], True, "deal")
        assert info["dialogue"].state["price"] == price
        assert (reward, info["success"]) == (0.0, False), "beyond the agent's limit"
        assert len(info["dialogue"].turns) == 1

    def test_a_price_stands_until_the_next(self):
        prices = iter(["80%, please.", "It is a good one.", "never heard"])
        with ApiServer(lambda body: next(prices)) as server:
            env: Any = gym.make(TEXT_ID, partner=f"openai:x@{server.url}")
            env.reset(seed=1)
            assert env.step("I offer 40%")[4]["dialogue"].state["ask"] == 80
            state = env.step("50%?")[4]["dialogue"].state
            assert (state["ask"], state["offer"]) == (80, env.unwrapped.dialogue.scenario.hidden["agent_limit"] - 50)
            _, reward, terminated, _, info = env.step("deal")
        assert terminated
        assert info["dialogue"].state["price"] == 80
        assert reward == pytest.approx(utility(info["dialogue"]) * 0.95**2)

    def test_the_seller_sells(self):
        (_, reward, terminated, _, info), _ = self.said("70%, please", "ok, deal!", side="seller")
        assert terminated
        assert info["dialogue"].state["price"] == 70
        assert reward == pytest.approx(utility(info["dialogue"]))
        assert reward > 0

    def test_goodbye(self):
        (_, reward, terminated, _, info), asked = self.said("I offer 60%", "Goodbye!")
        assert (reward, terminated, info["stop_reason"], len(asked)) == (0.0, True, "left", 1)
        (_, _, terminated, _, info), asked = self.said("I am out, goodbye.", "never heard")
        assert (terminated, info["stop_reason"], asked) == (True, "left", [])

    def test_a_scripted_partner_knows_nothing_of_this(self):
        env: Any = gym.make(TEXT_ID)
        env.reset(seed=1)
        assert not isinstance(env.unwrapped.task, PartnerTask)


class TestFailure:
    def test_it_names_the_dialogue_and_the_step_may_be_tried_again(self):
        with ApiServer(lambda body: "90%, please.") as server:
            spec = f"openai:x@{server.url}?attempts=2&backoff=0.001"
            rows: Any = gym.make_vec(TEXT_ID, num_envs=3, partner=spec, autoreset_mode="disabled")
            _, infos = rows.reset(seed=0)
            rows.step(["I offer 40%"] * 3)
            before = rows.get_state()
            bad = infos["dialogue"][1]
            server.faults = lambda request: (
                "500" if bad.scenario.public in request.body["messages"][0]["content"] else None
            )
            where = f"partner's answer is missing at turn 4 of the dialogue with seed {bad.seed}: "
            with pytest.raises(LanguageModelError, match=rf"{where}.*'openai:x@.*HTTP 500"):
                rows.step(["I offer 50%"] * 3)
            assert rows.get_state() == before
            server.faults = None
            _, _, _, _, infos = rows.step(["I offer 50%"] * 3)
            assert [dialogue.turn for dialogue in infos["dialogue"]] == [2, 2, 2]

    def test_nothing_made_up_is_ever_said(self):
        faults = {"429": 0.1, "500": 0.1, "cut": 0.05, "malformed": 0.05, "filter": 0.05}
        with ApiServer(lambda body: "90%, please.", faults=faults) as server:
            spec = f"openai:x@{server.url}?attempts=2&backoff=0.001"
            rows = DialogueVectorEnv(PartnerTask(Bargain(), spec), 4, autoreset_mode="disabled")
            rows.reset(seed=0)
            failures = 0
            while rows.live.any():
                try:
                    rows.step(["I offer 40%"] * 4)
                except LanguageModelError:
                    failures += 1
            assert failures > 0
            assert {text for d in rows.dialogues for text in d.texts("seller")} == {"90%, please."}
            assert [d.turn for d in rows.dialogues] == [8] * 4


class TestTask:
    def test_all_else_is_the_tasks_own(self):
        inner = Bargain(side="seller", max_turns=5)
        task = PartnerTask(inner, "tiny")
        assert (task.roles, task.max_turns, task.reward, task.cost) == (inner.roles, 5, inner.reward, None)
        assert (task.attribute_names, task.listings, task.model_tokens) == (
            inner.attribute_names, inner.listings, inner.model_tokens,
        )  # fmt: skip
        dialogue = begin(task, 3)
        assert dialogue == begin(inner, 3)
        assert task.messages(dialogue, "buyer") == inner.messages(dialogue, "buyer")
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = task.no_such_thing

    def test_there_is_no_oracle(self):
        with pytest.raises(NotImplementedError, match="no oracle: the partner is language model 'tiny'"):
            PartnerTask(Bargain(), "tiny").oracle(begin(Bargain(), 0))

    def test_nobody_knows_what_a_state_is_worth(self):
        task, dialogue = PartnerTask(Bargain(), "tiny"), begin(Bargain(), 0)
        with pytest.raises(NotImplementedError, match="the true value of a turn is not known"):
            true_value(task, dialogue, dialogue.said("buyer", "hm"))

    def test_contradictions_are_judged_by_the_task(self):
        dialogue = begin(Bargain(), 0)
        task, list_price = PartnerTask(Bargain(), "tiny"), dialogue.scenario.hidden["list_price"]
        cheap = dialogue.said("buyer", "hm").said("seller", f"I can do ${list_price * 0.2:.2f}")
        assert task.contradicts(cheap) is Bargain().contradicts(cheap) is True

    def test_a_judge_scores_it_too(self, tiny):
        task = load_task("dialog_gym.envs.bargain:Bargain", {"partner": "tiny", "judge": GuessTask.reward})
        assert set(task.reward.terms) == {"deal", "hits"}
        assert isinstance(task, PartnerTask)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"partner_temperature": 1.0}, "go with a language model, e.g. partner='tiny'"),
            ({"partner": "tinny"}, "did you mean 'tiny'"),
            ({"partner": "tiny", "partner_tokens": 0}, "max_tokens must be at least 1, got 0"),
            ({"partner": "tiny", "partner_temperature": -1.0}, "temperature must be finite and at least 0"),
        ],
    )
    def test_bad_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            load_task("dialog_gym.envs.bargain:Bargain", settings)

    def test_none_is_the_same_as_not_given(self):
        names = ("partner", "partner_temperature", "partner_tokens", "judge", "rubric", "reward", "cost")
        task: Any = gym.make(TEXT_ID, **dict.fromkeys(names)).unwrapped
        assert type(task.task) is Bargain
        assert set(task.task.reward.terms) == {"deal"}
        with pytest.raises(ValueError, match="partner_tokens go with a language model"):
            gym.make(TEXT_ID, partner=None, partner_temperature=0.0)

    def test_the_spec_of_the_environment_tells_who_it_is(self):
        env = gym.make(TEXT_ID, partner="tiny", partner_temperature=0.5)
        assert env.spec is not None
        again: Any = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.task.lm.name == "tiny"
        assert again.unwrapped.task.sampling == Sampling(64, 0.5)

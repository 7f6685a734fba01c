"""Playing many dialogues: the same for any number of rows, no episode preferred, intervals that are right."""

import json
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.lm import load
from dialog_gym.rewards.base import Reward
from dialog_gym.rollout import (
    Episode,
    Evaluation,
    bootstrap,
    constant_policy,
    evaluate,
    language_model_policy,
    make_rows,
    normalise,
    oracle_policy,
    play,
    random_policy,
)
from dialog_gym.task import Reply, Task
from dialog_gym.wrappers import VectorLagrangianWrapper, VectorMisalignedContext
from tests.lm.models import lm as random_lm
from tests.toy import GuessTask, Hits

TEXT_ID, PREFIX_ID = "dialog_gym/Bargain-v0", "dialog_gym/BargainPrefix-v0"


@pytest.fixture(scope="module", autouse=True)
def _models():
    held = load("tiny"), load("tiny-bargain")  # so that every environment shares them
    yield
    del held


class OneATurn(Reward):
    name, low, high = "one", 0.0, 1.0

    def __call__(self, dialogues):
        return np.ones(len(dialogues))


class Patience(Task):
    """A partner that hangs up after one to nine turns, whatever is said; every turn pays 1."""

    roles, max_turns, max_chars, reward = ("agent", "partner"), 100, 50, OneATurn()

    def scenario(self, draws: Draws) -> Scenario:
        return Scenario("A call.", hidden={"turns": draws.integer(1, 10)})

    def reply(self, dialogues):
        return [
            Reply("Go on.", stop_reason="hung up" if d.turn >= d.scenario.hidden["turns"] else "") for d in dialogues
        ]


def rows_of(task: Task, rows: int) -> DialogueVectorEnv:
    return DialogueVectorEnv(task, rows, autoreset_mode="disabled")


def guesser(observations, infos):
    """Guess from what is seen alone, as a deterministic policy does."""
    return [str(len(text) % 5) for text in observations]


def saying(text):
    """Always say ``text``."""
    return lambda observations, infos: [text] * len(observations)


@pytest.mark.parametrize("rows", [1, 3, 8, 50])
def test_no_short_episode_is_preferred(rows):
    result = evaluate(lambda observations, infos: [""] * rows, rows_of(Patience(), rows), episodes=40, seed=17)
    single = DialogueEnv(Patience())
    exact = [single.reset(seed=17 + k)[1]["dialogue"].scenario.hidden["turns"] for k in range(40)]
    assert len(set(exact)) > 5
    assert result.returns.tolist() == exact
    assert result.mean == np.mean(exact)
    assert result.turns == np.mean(exact)
    assert [episode.seed for episode in result.episodes] == list(range(17, 57))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), episodes=st.integers(1, 20), rows=st.integers(1, 9))
def test_the_number_of_rows_changes_nothing(seed, episodes, rows):
    one = evaluate(guesser, rows_of(GuessTask(), 1), episodes=episodes, seed=seed)
    many = evaluate(guesser, rows_of(GuessTask(), rows), episodes=episodes, seed=seed)
    assert one.episodes == many.episodes
    assert one.to_json() == many.to_json()


def test_each_episode_is_what_a_single_environment_plays():
    env = DialogueEnv(GuessTask())
    for episode in evaluate(guesser, rows_of(GuessTask(), 3), episodes=7, seed=5).episodes:
        observation, info = env.reset(seed=episode.seed)
        rewards, costs, hits, over = [], [], [], False
        while not over:
            observation, reward, terminated, truncated, info = env.step(guesser([observation], info)[0])
            rewards.append(reward)
            costs.append(info["cost"])
            hits.append(info["reward_terms"]["hits"])
            over = terminated or truncated
        parts = {"hits": tuple(hits)}, {"shouting": tuple(costs)}
        assert episode == Episode(episode.seed, info["dialogue"], tuple(rewards), tuple(costs), *parts)
        assert (episode.actions, episode.states) == (None, None), "texts are in the dialogue"
        assert episode.total == sum(rewards)


class TestPolicies:
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_the_language_model_says_the_same_in_any_number_of_rows(self, temperature):
        results = []
        for rows in (1, 3, 8):
            envs = make_rows(TEXT_ID, rows)
            policy = language_model_policy(envs, "tiny", temperature=temperature)
            results.append(evaluate(policy, envs, episodes=9, seed=3))
        assert results[0].episodes == results[1].episodes == results[2].episodes
        assert results[0].env == TEXT_ID

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_a_constant_vector_earns_the_same_in_any_number_of_rows(self, temperature):
        action = np.linspace(-1, 1, 16)
        results = []
        for rows in (1, 3, 8):
            envs = make_rows(PREFIX_ID, rows, {"temperature": temperature})
            results.append(evaluate(constant_policy(envs, action), envs, episodes=9, seed=3))
        assert results[0].episodes == results[1].episodes == results[2].episodes

    def test_an_id_makes_the_environment(self):
        def silent(observations, infos):
            return [""] * len(observations)

        made = evaluate(silent, TEXT_ID, episodes=3, rows=2, env_kwargs={"side": "seller"}, name="silent")
        given = evaluate(silent, make_rows(TEXT_ID, 3, {"side": "seller"}), episodes=3)
        assert made.episodes == given.episodes
        assert (made.env, made.policy) == (TEXT_ID, "silent")
        assert made.episodes[0].dialogue.roles[0] == "seller"

    def test_the_oracle_wins(self):
        envs = make_rows(TEXT_ID, 8)
        oracle = evaluate(oracle_policy(envs), envs, episodes=24)
        assert oracle.mean > evaluate(random_policy(envs), envs, episodes=24).mean
        assert oracle.success_rate > 0.5

    def test_the_oracle_of_a_toy(self):
        envs = rows_of(GuessTask(), 4)
        result = evaluate(oracle_policy(envs), envs, episodes=10)
        assert (result.success_rate, result.turns, result.mean) == (1.0, 1.0, 1.0)

    def test_random_is_seeded_and_stays_in_the_box(self):
        one, other, third = (make_rows(PREFIX_ID, 2) for _ in range(3))
        first, again, else_ = random_policy(one, seed=4), random_policy(other, seed=4), random_policy(third, seed=5)
        action = first(None, {})
        assert np.array_equal(action, again(None, {}))
        assert not np.array_equal(action, else_(None, {}))
        assert action in one.action_space

    def test_an_oracle_nobody_wrote(self):
        envs = rows_of(Patience(), 1)
        with pytest.raises(NotImplementedError, match="Patience has no oracle"):
            evaluate(oracle_policy(envs), envs, episodes=1)

    def test_a_language_model_of_ones_own(self):
        envs = rows_of(GuessTask(), 2)
        result = evaluate(language_model_policy(envs, random_lm()), envs, episodes=2)
        assert all(0 < episode.dialogue.turn <= 4 for episode in result.episodes)

    def test_a_constant_of_another_size(self):
        envs = make_rows(PREFIX_ID, 2)
        with pytest.raises(ValueError, match=r"must have shape \(2, 16\), got \(2, 3\)"):
            evaluate(constant_policy(envs, [0, 0, 0]), envs, episodes=2)


def test_a_rollout_yields_episodes_as_they_end():
    played = list(play(lambda observations, infos: [""] * 2, rows_of(Patience(), 2), 6, seed=1))
    assert sorted(k for k, _ in played) == list(range(6))
    assert all(episode.seed == 1 + k for k, episode in played)


class TestSpareRows:
    """Rows for which there is no episode: nobody is asked for them, and the others are as they were."""

    def test_neither_partner_nor_reward_is_asked_for_them(self):
        class Counted(Hits):
            asked = 0

            def __call__(self, dialogues):
                self.asked += len(dialogues)
                return super().__call__(dialogues)

        task = GuessTask(greet=True)
        task.reward = reward = Counted()
        envs = rows_of(task, 32)
        for seed, episodes in ((5, 2), (9, 1), (0, 40)):  # also where the rows have played before
            task.batches, reward.asked = [], 0
            found = evaluate(saying("no"), envs, episodes=episodes, seed=seed)
            turns = sum(episode.dialogue.turn for episode in found.episodes)
            assert sum(task.batches) == reward.asked == turns
            assert found.episodes == evaluate(saying("no"), rows_of(task, 3), episodes=episodes, seed=seed).episodes

    @pytest.mark.parametrize("words", [True, False], ids=["words", "vectors"])
    def test_no_language_model_reads_or_writes_in_them(self, words):
        spent, found = [], []
        for rows in (2, 8):
            envs = make_rows(TEXT_ID if words else PREFIX_ID, rows)
            lm = load("tiny" if words else "tiny-bargain")
            policy = language_model_policy(envs, lm) if words else constant_policy(envs, np.linspace(-1, 1, 16))
            before = (lm.counts.prefilled, lm.counts.generated)
            found.append(evaluate(policy, envs, episodes=2, seed=3).episodes)
            spent.append((lm.counts.prefilled - before[0], lm.counts.generated - before[1]))
        assert found[0] == found[1]
        assert spent[0] == spent[1]
        assert min(spent[0]) > 0

    def test_a_random_policy_draws_the_same(self):
        envs = make_rows(PREFIX_ID, 5)
        found = evaluate(random_policy(envs, seed=8), envs, episodes=2, seed=3)
        envs.action_space.seed(8)
        drawn = [envs.action_space.sample() for _ in range(max(e.dialogue.turn for e in found.episodes))]
        for row, episode in enumerate(found.episodes):
            assert np.array_equal(
                np.array(episode.actions), [actions[row] for actions in drawn[: episode.dialogue.turn]]
            )

    def test_wrappers_know_them(self):
        plain = evaluate(saying("NO"), rows_of(GuessTask(greet=True), 2), episodes=2, seed=5)
        shown = VectorMisalignedContext(rows_of(GuessTask(greet=True), 7), lambda dialogue: "bad")
        paying = VectorLagrangianWrapper(shown, budget=0.5, every=100)
        found = evaluate(saying("NO"), paying, episodes=2, seed=5)
        assert [e.costs for e in found.episodes] == [e.costs for e in plain.episodes]
        assert sorted(paying.lagrangian.get_state()["finished"]) == sorted(sum(e.costs) for e in plain.episodes)


def test_vectors_are_recorded_where_the_agent_acts_by_vectors():
    envs = make_rows(PREFIX_ID, 3)
    taken: dict[tuple[int, int], tuple[Any, Any]] = {}

    def act(observations, infos):
        actions = random(observations, infos) * 1.5  # some of them outside the box
        for row, dialogue in enumerate(infos["dialogue"]):
            taken.setdefault((dialogue.seed, dialogue.turn), (observations[row].copy(), actions[row].clip(-1, 1)))
        return actions

    random = random_policy(envs, seed=3)
    for _, episode in play(act, envs, 5, seed=2):
        turns = episode.dialogue.turn
        assert episode.actions is not None
        assert episode.states is not None
        assert episode.actions.shape == (turns, 16)
        assert len(episode.states) == turns + 1
        for turn in range(turns):
            state, action = taken[episode.dialogue.seed, turn]
            assert np.array_equal(episode.states[turn], state)
            assert np.array_equal(episode.actions[turn], action)
        terminated = episode.dialogue.stop_reason != "max_turns"
        assert terminated == (not episode.states[-1].any()), "nothing is observed after a dialogue has terminated"


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
def test_rows_that_reset_themselves_are_refused(mode):
    with pytest.raises(ValueError, match="roll-outs need autoreset_mode='disabled'"):
        evaluate(guesser, DialogueVectorEnv(GuessTask(), 2, autoreset_mode=mode), episodes=2)


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_refused(episodes):
    with pytest.raises(ValueError, match=f"episodes must be at least 1, got {episodes}"):
        evaluate(guesser, TEXT_ID, episodes=episodes)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        evaluate(guesser, TEXT_ID, episodes=3, rows=0)


def test_a_progress_bar_changes_nothing(capsys):
    quiet = evaluate(guesser, rows_of(GuessTask(), 2), episodes=5)
    assert capsys.readouterr() == ("", "")
    loud = evaluate(guesser, rows_of(GuessTask(), 2), episodes=5, name="guesser", progress=True)
    out, err = capsys.readouterr()
    assert out == "", "results are printed there, not bars"
    assert "evaluate guesser" in err
    assert "5/5" in err
    assert quiet.episodes == loud.episodes


@settings(max_examples=25)
@given(
    texts=st.lists(st.text(max_size=20), max_size=4),
    rewards=st.lists(st.floats(-1e6, 1e6), max_size=4),
    seed=st.integers(0, 2**53),
    stop=st.sampled_from(["", "max_turns", "deal"]),
)
def test_an_episode_goes_through_json_unchanged(texts, rewards, seed, stop):
    dialogue = Dialogue(Scenario("p", {"agent": "g"}, {"x": 1}), ("agent", "partner"), seed, stop_reason=stop)
    for text in texts:
        dialogue = dialogue.said("agent", text).said("partner", text[::-1])
    dialogue = replace(dialogue, stop_reason=stop, success=stop == "deal")
    earned, costs = tuple(rewards), tuple(0.5 for _ in rewards)
    episode = Episode(seed, dialogue, earned, costs, {"a": earned}, {}, {"b": earned[::-1], "c": ()})
    data = json.loads(json.dumps(episode.to_json()))
    assert Episode.from_json(data) == episode
    older = {name: value for name, value in data.items() if name not in ("terms", "cost_terms", "signals")}
    assert Episode.from_json(older) == replace(episode, terms={}, signals={}), "files of earlier versions"
    assert data["return"] == pytest.approx(sum(rewards))
    assert data["said"] == [f"{role}: {text}" for role, text in dialogue.turns]


def test_an_evaluation_sums_up_its_episodes():
    result = evaluate(guesser, rows_of(GuessTask(), 3), episodes=6, references={"lm": 0.0, "oracle": 2.0})
    summary = json.loads(json.dumps(result.to_json()))
    assert summary["mean"] == pytest.approx(np.mean(summary["returns"]))
    assert summary["normalised"] == pytest.approx(summary["mean"] / 2)
    assert summary["success_rate"] == np.mean([episode.dialogue.success for episode in result.episodes])
    assert (summary["env"], summary["policy"], summary["episodes"]) == ("DialogueVectorEnv", "policy", 6)
    assert summary["costs"] == [sum(episode.costs) for episode in result.episodes]
    assert summary["cost"] == pytest.approx(np.mean(summary["costs"]))
    low, high = summary["interval"]
    assert low <= summary["mean"] <= high


def test_normalise():
    scale = {"lm": 2.0, "oracle": 6.0}
    assert [normalise(value, scale) for value in (2.0, 6.0, 5.0, 0.0)] == [0.0, 1.0, 0.75, -0.5]
    assert normalise(1.0, {}) is None
    assert normalise(1.0, {"lm": 0.0}) is None
    assert normalise(1.0, {"lm": 1.0, "oracle": 1.0}) is None, "no scale to measure on"
    assert Evaluation("env", "policy", ()).references == {}


class TestBootstrap:
    @settings(max_examples=20)
    @given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=30))
    def test_it_contains_the_mean_and_is_deterministic(self, values):
        low, high = bootstrap(values)
        assert low <= np.mean(values) + 1e-9
        assert high >= np.mean(values) - 1e-9
        assert (low, high) == bootstrap(values)

    def test_it_is_the_percentile_interval_of_scipy(self):
        stats = pytest.importorskip("scipy.stats")
        values = np.random.default_rng(3).gamma(2.0, size=200)
        for level in (0.8, 0.95):
            theirs = stats.bootstrap(
                (values,), np.mean, confidence_level=level, n_resamples=9999, method="percentile", rng=1
            ).confidence_interval
            ours = bootstrap(values, level=level)
            assert ours == pytest.approx(tuple(theirs), abs=0.03)
            assert ours[1] - ours[0] == pytest.approx(theirs.high - theirs.low, rel=0.1)

    def test_one_value_and_equal_values_have_no_spread(self):
        assert bootstrap([2.5]) == (2.5, 2.5)
        assert bootstrap([1.0] * 9) == (1.0, 1.0)

    @pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 3.0])
    def test_what_is_no_sample_is_refused(self, values):
        with pytest.raises(ValueError, match="expected at least one value in one dimension, got shape"):
            bootstrap(values)


def test_rows_made_for_roll_outs_never_reset_themselves():
    envs: Any = make_rows(TEXT_ID, 2)
    assert envs.metadata["autoreset_mode"] is gym.vector.AutoresetMode.DISABLED

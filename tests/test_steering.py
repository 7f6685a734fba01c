"""The laws of steered environments, on the model that ships with the package and on a random one."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.errors import DialogueOverError, UnsupportedError
from dialog_gym.lm import load
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.openai_lm import OpenAILM
from dialog_gym.lm.speaker import Speaker
from dialog_gym.wrappers import EmbeddingObservation, PrefixAction, vector
from tests.lm.models import lm as random_lm
from tests.toy import GuessTask

PREFIX_ID, TEXT_ID = "dialog_gym/BargainPrefix-v0", "dialog_gym/Bargain-v0"
SAMPLING = st.sampled_from([0.0, 1.0])


@pytest.fixture(scope="module", autouse=True)
def shipped():
    return load("tiny-bargain")  # held, so that every environment shares it


def rows_of(rows: int, **settings: Any) -> Any:
    return gym.make_vec(PREFIX_ID, num_envs=rows, **settings)


def actions(turns: int, rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (turns, rows, 16)).astype(np.float32)


def close(one, other):
    np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


def play_alone(seed: int, acts: Any, **settings: Any) -> list[tuple[Any, ...]]:
    """Return what ``reset`` and each step of the single environment give, up to the end of an episode."""
    env = gym.make(PREFIX_ID, **settings)
    observation, info = env.reset(seed=seed)
    results: list[tuple[Any, ...]] = [(observation, 0.0, False, False, info)]
    for act in acts:
        results.append(env.step(act))
        if results[-1][2] or results[-1][3]:
            break
    return results


def same(step, row, single):
    observations, rewards, terminated, truncated, infos = step
    close(observations[row], single[0])
    assert (rewards[row], terminated[row], truncated[row]) == single[1:4]
    assert infos["dialogue"][row] == single[4]["dialogue"]


class TestRowsAreSingles:
    """Row i of n rows seeded s is the single environment seeded s + i."""

    @settings(max_examples=6)
    @given(seed=st.integers(0, 2**31 - 10), rows=st.sampled_from([1, 2, 5]), temperature=SAMPLING, state=st.booleans())
    def test_disabled(self, seed, rows, temperature, state):
        setting = {"temperature": temperature, "state": "last+mean" if state else "last"}
        acts = actions(4, rows, seed % 1000)
        envs = rows_of(rows, autoreset_mode="disabled", **setting)
        alone = [play_alone(seed + row, acts[:, row], **setting) for row in range(rows)]
        observations, infos = envs.reset(seed=seed)
        zeros = np.zeros(rows)
        steps = [(observations, zeros, zeros, zeros, infos), *(envs.step(act) for act in acts)]
        for row, singles in enumerate(alone):
            for step, single in zip(steps, singles, strict=False):
                same(step, row, single)
            for step in steps[len(singles) :]:  # it stays as it ended
                same(step, row, (singles[-1][0], 0.0, *singles[-1][2:]))

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("mode", ["next_step", "same_step"])
    def test_autoreset(self, mode, temperature):
        rows, acts, ends = 3, actions(11, 3, 3), 0
        envs = rows_of(rows, autoreset_mode=mode, temperature=temperature)
        singles = [gym.make(PREFIX_ID, temperature=temperature) for _ in range(rows)]
        envs.reset(seed=40)
        for row, env in enumerate(singles):
            env.reset(seed=40 + row)
        over = [False] * rows
        for act in acts:
            step = envs.step(act)
            for row, env in enumerate(singles):
                single: tuple[Any, ...]
                if over[row]:
                    observation, info = env.reset()
                    single, over[row] = (observation, 0.0, False, False, info), False
                else:
                    single = env.step(act[row])
                    over[row] = bool(single[2] or single[3])
                    ends += over[row]
                    if over[row] and mode == "same_step":
                        single, over[row] = self.same_step(step, row, single, env), False
                same(step, row, single)
        assert ends >= 3, "episodes end in this test"

    def same_step(self, step, row, single, env):
        """Compare what an episode ended with, and return what the step shows of the next one."""
        infos = step[4]
        assert infos["_final_obs"][row]
        close(infos["final_obs"][row], single[0])
        assert infos["final_info"]["dialogue"][row] == single[4]["dialogue"]
        (name,) = single[4]["reward_terms"]
        assert infos["final_info"]["reward_terms"][name][row] == single[1]
        observation, info = env.reset()
        return observation, *single[1:4], info

    @settings(max_examples=4)
    @given(order=st.permutations(range(5)), temperature=SAMPLING)
    def test_the_order_of_rows_is_of_no_importance(self, order, temperature):
        acts = actions(3, 5, 8)
        envs, mixed = (rows_of(5, autoreset_mode="disabled", temperature=temperature) for _ in range(2))
        observations, _ = envs.reset(seed=[70, 71, 72, 73, 74])
        other, _ = mixed.reset(seed=[70 + row for row in order])
        close(observations[order], other)
        for act in acts:
            step, again = envs.step(act), mixed.step(act[order])
            close(step[0][order], again[0])
            assert list(step[1][order]) == list(again[1])
            assert list(step[4]["dialogue"][order]) == list(again[4]["dialogue"])

    def test_what_is_sampled_depends_on_seed_and_turn_alone(self):
        one, other = (rows_of(2, autoreset_mode="disabled", temperature=1.0) for _ in range(2))
        one.reset(seed=[5, 6])
        other.reset(seed=[99, 98])
        for act in actions(3, 2, 1):
            other.step(act)
        mask = np.array([True, False])
        other.reset(seed=[5, None], options={"reset_mask": mask})
        for act in actions(3, 2, 2):
            said, again = (envs.step(act)[4]["dialogue"][0] for envs in (one, other))
            assert said == again

    def test_the_action_is_what_steers(self):
        envs = rows_of(24, autoreset_mode="disabled")
        envs.reset(seed=[4] * 24)
        _, _, _, _, infos = envs.step(actions(1, 24)[0])
        assert len({dialogue.turns[-2:] for dialogue in infos["dialogue"]}) > 3


class TestStateOfTheRows:
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("state", ["last", "last+mean"])
    @pytest.mark.parametrize("mode", ["disabled", "next_step"])
    def test_what_was_saved_goes_on_bit_for_bit(self, mode, state, temperature):
        setting = {"autoreset_mode": mode, "state": state, "temperature": temperature}
        envs, acts = rows_of(3, **setting), actions(9, 3, 5)
        observations, _ = envs.reset(seed=12)
        for start in (0, 2, 5):
            resumed = rows_of(3, **setting)
            shown, infos = resumed.set_state(json.loads(json.dumps(envs.get_state())))
            assert np.array_equal(shown, observations)
            assert list(infos["dialogue"]) == envs.unwrapped.dialogues
            for act in acts[start : start + 3]:
                one, other = envs.step(act), resumed.step(act)
                for mine, theirs in zip(one[:4], other[:4], strict=True):
                    assert np.array_equal(mine, theirs)
                assert list(one[4]["dialogue"]) == list(other[4]["dialogue"])
                observations = one[0]

    def test_one_dialogue_saved_goes_on_bit_for_bit(self):
        env, resumed = gym.make(PREFIX_ID), gym.make(PREFIX_ID)
        observation, _ = env.reset(seed=3)
        for act in actions(6, 1, 7)[:, 0]:
            saved = json.loads(json.dumps(env.unwrapped.get_state()))  # type: ignore[attr-defined]
            shown, info = resumed.unwrapped.set_state(saved)  # type: ignore[attr-defined]
            assert np.array_equal(shown, observation)
            one, other = env.step(act), resumed.unwrapped.step(act)
            assert np.array_equal(one[0], other[0])
            assert one[1:4] == other[1:4]
            assert one[4]["dialogue"] == other[4]["dialogue"]
            observation = one[0]
            if one[2] or one[3]:
                observation, info = env.reset()
                shown, again = resumed.unwrapped.reset()
                assert info["dialogue"] == again["dialogue"]

    def test_saving_changes_nothing_but_rounding(self):
        envs, saved = rows_of(2, autoreset_mode="disabled"), rows_of(2, autoreset_mode="disabled")
        envs.reset(seed=1)
        saved.reset(seed=1)
        for act in actions(4, 2):
            saved.get_state()
            one, other = envs.step(act), saved.step(act)
            close(one[0], other[0])
            assert list(one[4]["dialogue"]) == list(other[4]["dialogue"])

    def test_the_state_of_another_number_of_rows_is_refused(self):
        envs = rows_of(2)
        envs.reset(seed=0)
        with pytest.raises(ValueError, match="expected the state of 3 rows, got 2"):
            rows_of(3).set_state(envs.get_state())


class TestObservation:
    def test_zero_when_terminated_and_true_when_truncated(self):
        lm, task = random_lm(), GuessTask()
        envs = vector.EmbeddingObservation(DialogueVectorEnv(task, 2, autoreset_mode="disabled"), lm)
        observations, infos = envs.reset(seed=0)
        close(observations[:, :32], lm.embed([d.messages("agent") for d in infos["dialogue"]]))
        for word in ("bye", "?", "?", "?"):
            observations, _, terminated, truncated, infos = envs.step([word, "?"])
        assert list(terminated) == [True, False]
        assert list(truncated) == [False, True]
        assert not observations[0].any()
        close(observations[1, :32], lm.embed([infos["dialogue"][1].messages("agent")])[0])
        again, _ = envs.reset(options={"reset_mask": np.array([True, False])})
        assert again[0].any()
        assert np.array_equal(again[1], observations[1]), "the row that is not reset stays as it is"

    def test_zero_when_terminated_and_true_when_truncated_of_one_dialogue(self):
        lm = random_lm()
        env = EmbeddingObservation(DialogueEnv(GuessTask()), lm)
        env.reset(seed=0)
        assert not env.step("bye")[0].any()
        env.reset(seed=0)
        for _ in range(4):
            observation, _, _, truncated, info = env.step("?")
        assert truncated
        close(observation[:32], lm.embed([info["dialogue"].messages("agent")])[0])

    def test_final_observations_of_the_same_step(self):
        lm = random_lm()
        envs = vector.EmbeddingObservation(DialogueVectorEnv(GuessTask(), 2, autoreset_mode="same_step"), lm)
        envs.reset(seed=0)
        for word in ("?", "?", "?", "bye"):
            observations, _, terminated, truncated, infos = envs.step([word, "?"])
        assert list(terminated) == [True, False]
        assert list(truncated) == [False, True]
        assert not infos["final_obs"][0].any()
        ended = infos["final_info"]["dialogue"][1]
        close(infos["final_obs"][1][:32], lm.embed([ended.messages("agent")])[0])
        assert all(dialogue.turn == 0 for dialogue in infos["dialogue"])
        close(observations[:, :32], lm.embed([d.messages("agent") for d in infos["dialogue"]]))


class TestCost:
    """Few passes a turn, however many rows, over what is new alone."""

    def test_passes_do_not_grow_with_the_rows(self, shipped):
        passes = {}
        for rows in (1, 4, 16, 64):
            envs = rows_of(rows, autoreset_mode="disabled", max_tokens=1)
            shipped.counts.reset()
            envs.reset(seed=0)
            opening = shipped.counts.forwards
            shipped.counts.reset()
            envs.step(actions(1, rows)[0])
            passes[rows] = (opening, shipped.counts.forwards)
        assert passes[1] == (1, 2), "a read; a prefix that gives the only token of the reply, and a read"
        for opening, step in passes.values():  # some more where it saves padding that prompts of unlike lengths need
            assert opening <= 3
            assert step <= 4

    def test_only_what_is_new_is_read(self, shipped):
        envs = rows_of(3, autoreset_mode="disabled")
        envs.reset(seed=0)
        task = envs.unwrapped.task
        before = [len(ids) for ids in shipped.encode([task.messages(d, d.roles[0]) for d in envs.unwrapped.dialogues])]
        for act in actions(5, 3, 7):
            live = envs.unwrapped.live
            shipped.counts.reset()
            _, _, terminated, _, infos = envs.step(act)
            after = [len(ids) for ids in shipped.encode([task.messages(d, d.roles[0]) for d in infos["dialogue"]])]
            new = sum(n - old for n, old, t in zip(after, before, terminated, strict=True) if not t)
            assert shipped.counts.prefilled <= new + 2 * live.sum(), "what was said, and two tokens of prefix a row"
            before = after

    def test_rows_that_are_over_cost_nothing(self, shipped, monkeypatch):
        envs = rows_of(3, autoreset_mode="disabled")
        envs.reset(seed=2)
        calls: list[tuple[str, list[int]]] = []
        for name in ("read", "write"):
            ask = getattr(envs.speaker.session, name)

            def spy(rows, *args, _name=name, _ask=ask, **kwargs):
                calls.append((_name, list(rows)))
                return _ask(rows, *args, **kwargs)

            monkeypatch.setattr(envs.speaker.session, name, spy)
        terminated, ended = np.zeros(3, bool), np.zeros(3, bool)
        for act in actions(40, 3, 11):
            going = np.flatnonzero(~ended).tolist()
            calls.clear()
            _, _, terminated, truncated, _ = envs.step(act)
            ended = terminated | truncated
            heard = [row for row in going if not terminated[row]]
            assert calls == [("write", going)][: len(going)] + [("read", heard)][: len(heard)]
            if ended.all():
                break
        assert ended.all()
        shipped.counts.reset()
        envs.step(actions(1, 3)[0])
        assert (shipped.counts.forwards, shipped.counts.prefilled, shipped.counts.generated) == (0, 0, 0)


class TestStacks:
    """Wrappers put together by hand."""

    def test_a_stack_is_the_registered_environment(self, shipped):
        env = PrefixAction(EmbeddingObservation(gym.make(TEXT_ID), shipped), prefix="steer")
        assert env.speaker.session is env.env.speaker.session, "one cache for both"  # type: ignore[attr-defined]
        registered = gym.make(PREFIX_ID)
        assert (env.observation_space, env.action_space) == (registered.observation_space, registered.action_space)
        (one, _), (other, _) = env.reset(seed=6), registered.reset(seed=6)
        assert np.array_equal(one, other)
        for act in actions(3, 1)[:, 0]:
            step, again = env.step(act), registered.step(act)
            assert np.array_equal(step[0], again[0])
            assert step[1:] == again[1:]
            if step[2] or step[3]:
                break

    def test_a_vector_stack_is_the_registered_one(self, shipped):
        below = gym.make_vec(TEXT_ID, num_envs=2, autoreset_mode="disabled")
        envs = vector.PrefixAction(vector.EmbeddingObservation(below, shipped), prefix="steer")
        registered = rows_of(2, autoreset_mode="disabled")
        (one, _), (other, _) = envs.reset(seed=6), registered.reset(seed=6)
        assert np.array_equal(one, other)
        for act in actions(3, 2):
            shipped.counts.reset()
            step = envs.step(act)
            cost = shipped.counts.prefilled
            shipped.counts.reset()
            again = registered.step(act)
            assert cost == shipped.counts.prefilled, "nothing is read twice"
            assert np.array_equal(step[0], again[0])
            assert list(step[4]["dialogue"]) == list(again[4]["dialogue"])

    def test_vectors_in_and_text_out(self, shipped):
        env = PrefixAction(gym.make(TEXT_ID), shipped, prefix="steer", sampling=Sampling(8))
        envs = vector.PrefixAction(gym.make_vec(TEXT_ID, num_envs=2), shipped, prefix="steer", sampling=Sampling(8))
        text, _ = env.reset(seed=3)
        texts, _ = envs.reset(seed=3)
        assert text == texts[0]
        act = actions(1, 2)[0]
        step, steps = env.step(act[0]), envs.step(act)
        assert step[0] == steps[0][0]
        assert step[0].startswith(text)
        state = json.loads(json.dumps(envs.get_state()))
        other = vector.PrefixAction(gym.make_vec(TEXT_ID, num_envs=2), shipped, prefix="steer", sampling=Sampling(8))
        assert other.set_state(state)[0] == steps[0]
        assert other.step(act)[0] == envs.step(act)[0]

    def test_words_in_and_states_out(self):
        env = EmbeddingObservation(DialogueEnv(GuessTask()), random_lm())
        assert env.observation_space.shape == (64,)
        observation, _ = env.reset(seed=0)
        assert observation in env.observation_space
        assert env.step("what?")[0] in env.observation_space

    def test_a_speaker_of_ones_own_tells_the_state_it_is_made_for(self):
        task = GuessTask()
        speaker = Speaker(task, random_lm(), 2, prefix="pca", state="last", sampling=Sampling(3))
        envs = vector.PrefixAction(vector.EmbeddingObservation(DialogueVectorEnv(task, 2), speaker))
        assert envs.speaker.session is speaker.session
        observations, _ = envs.reset(seed=0)
        assert observations.shape == (2, 32)


def small(rows: int | None = None) -> Any:
    """Return a steered toy environment: one dialogue, or a vector of them."""
    if rows is None:
        return PrefixAction(EmbeddingObservation(DialogueEnv(GuessTask()), random_lm()), prefix="pca")
    return vector.PrefixAction(
        vector.EmbeddingObservation(DialogueVectorEnv(GuessTask(), rows, autoreset_mode="disabled"), random_lm()),
        prefix="pca",
    )


class TestBadInput:
    def test_no_speaker(self):
        with pytest.raises(ValueError, match=r"needs a model to speak through, e\.g\."):
            PrefixAction(DialogueEnv(GuessTask()))
        with pytest.raises(ValueError, match=r"needs a model to speak through, e\.g\."):
            vector.PrefixAction(DialogueVectorEnv(GuessTask()))

    def test_no_prefix_map(self):
        with pytest.raises(ValueError, match=r"needs a prefix map, e\.g\. prefix='steer'"):
            PrefixAction(DialogueEnv(GuessTask()), random_lm())
        with pytest.raises(ValueError, match=r"needs a prefix map, e\.g\. prefix='steer'"):
            vector.PrefixAction(DialogueVectorEnv(GuessTask()), random_lm())
        with pytest.raises(ValueError, match="has no prefix map"):
            Speaker(GuessTask(), random_lm()).speak(
                [0], [DialogueEnv(GuessTask()).reset(seed=0)[1]["dialogue"]], np.zeros((1, 16), np.float32)
            )

    def test_an_unknown_prefix_map(self):
        with pytest.raises(ValueError, match=r"no prefix map 'steeer' for language model 'tiny-bargain'.*steer"):
            gym.make(PREFIX_ID, prefix="steeer")

    def test_the_map_of_another_model(self, shipped):
        speaker = Speaker(GuessTask(), shipped, prefix="steer")
        with pytest.raises(ValueError, match="belongs to another language model"):
            Speaker(GuessTask(), random_lm(), prefix=speaker.prefix)

    def test_an_unknown_model(self):
        with pytest.raises(ValueError, match=r"unknown language model 'tiny-bargian'.*did you mean 'tiny-bargain'"):
            gym.make(PREFIX_ID, lm="tiny-bargian")

    def test_a_model_that_cannot_be_steered(self):
        deaf = OpenAILM("deaf", "http://127.0.0.1:9/v1")  # speaks, if it is there, and gives nothing else
        with pytest.raises(UnsupportedError, match=r"steering by vectors needs 'prefix', which .* 'openai:deaf@"):
            PrefixAction(DialogueEnv(GuessTask()), deaf, prefix="pca")
        with pytest.raises(UnsupportedError, match=r"'openai:deaf@.*' gives no state.*observer=.*'tiny'"):
            EmbeddingObservation(DialogueEnv(GuessTask()), deaf)

    def test_an_unknown_state(self):
        with pytest.raises(ValueError, match=r"state must be 'last', 'last\+mean', .*\(facts-bargain\), got 'first'"):
            gym.make(PREFIX_ID, state="first")

    def test_too_few_rows(self):
        speaker = Speaker(GuessTask(), random_lm(), 2, prefix="pca")
        for wrapper in (vector.EmbeddingObservation, vector.PrefixAction):
            with pytest.raises(ValueError, match="this speaker is for 2 rows, the environment has 3"):
                wrapper(DialogueVectorEnv(GuessTask(), 3), speaker)

    @pytest.mark.parametrize("make", [lambda: gym.make(PREFIX_ID), small], ids=["registered", "stack"])
    def test_steering_what_is_steered(self, make):
        with pytest.raises(TypeError, match=r"steered already|the actions of this environment are Box"):
            PrefixAction(make(), "tiny-bargain", prefix="steer")

    @pytest.mark.parametrize("make", [lambda: rows_of(2), lambda: small(2)], ids=["registered", "stack"])
    def test_steering_rows_that_are_steered(self, make):
        with pytest.raises(TypeError, match="the actions of this environment are Box"):
            vector.PrefixAction(make(), "tiny-bargain", prefix="steer")

    def test_steering_what_is_no_dialogue(self):
        with pytest.raises(TypeError, match=r"steering wraps a text dialogue environment .*, got CartPoleEnv"):
            EmbeddingObservation(gym.make("CartPole-v1"), random_lm())
        with pytest.raises(TypeError, match="steering wraps a DialogueVectorEnv, got CartPoleVectorEnv"):
            vector.EmbeddingObservation(gym.make_vec("CartPole-v1"), random_lm())

    @pytest.mark.parametrize(
        ("action", "match"),
        [
            (np.zeros(15), r"must have shape \(16,\), got \(15,\)"),
            (np.zeros((1, 16)), r"must have shape \(16,\), got \(1, 16\)"),
            (0.5, r"must have shape \(16,\), got \(\)"),
            (np.full(16, np.nan), r"must be finite, got NaN or infinity; check the policy"),
            (np.full(16, np.inf), "must be finite"),
            ("I offer $5", "must be numbers, shape"),
            (["1"] * 16, "must be numbers, shape"),
            (None, "must be numbers"),
            ([[1], [1, 2]], "must be numbers"),
            (np.full(16, 1j), "must be numbers"),
        ],
    )
    def test_a_bad_action_is_refused_and_changes_nothing(self, action, match):
        env = small()
        env.reset(seed=0)
        before = env.unwrapped.dialogue
        with pytest.raises(ValueError, match=match):
            env.step(action)
        assert env.unwrapped.dialogue is before
        assert env.step(np.zeros(16))[4]["turn"] == 1

    @pytest.mark.parametrize(
        ("bad", "match"),
        [
            (np.zeros((3, 16)), r"must have shape \(2, 16\), got \(3, 16\)"),
            (np.zeros(16), r"must have shape \(2, 16\), got \(16,\)"),
            (np.array([[0.0] * 16, [np.nan] * 16]), r"in rows \[1\]; check the policy"),
            (np.array([[-np.inf] * 16, [0.0] * 16]), r"in rows \[0\]"),
            (["a", "b"], r"must be numbers, shape \(2, 16\)"),
            (("I offer $5", "Deal."), "must be numbers"),
            ([], r"got \(0,\)"),
        ],
    )
    def test_bad_actions_are_refused_and_no_row_moves(self, bad, match):
        envs = small(2)
        envs.reset(seed=0)
        before = list(envs.unwrapped.dialogues)
        with pytest.raises(ValueError, match=match):
            envs.step(bad)
        assert envs.unwrapped.dialogues == before

    def test_vectors_outside_the_box_are_clipped_to_it(self):
        far, edge = actions(1, 2)[0] * 50, np.clip(actions(1, 2)[0] * 50, -1, 1)
        one, other = small(2), small(2)
        one.reset(seed=0)
        other.reset(seed=0)
        assert list(one.step(far)[4]["dialogue"]) == list(other.step(edge)[4]["dialogue"])
        assert np.abs(far).max() > 1, "the caller's array is left as it is"

    @pytest.mark.parametrize(
        "action", [[0] * 16, np.full(16, 1e300), np.ones(16, np.uint8)], ids=["list", "huge", "bytes"]
    )
    def test_any_finite_numbers_are_an_action(self, action):
        env = small()
        env.reset(seed=0)
        assert env.step(action)[4]["turn"] == 1

    def test_step_before_reset_and_after_the_end(self):
        env, envs = small(), small(2)
        with pytest.raises(DialogueOverError, match="has not begun; call reset"):
            env.step(np.zeros(16))
        with pytest.raises(DialogueOverError, match="has not begun; call reset"):
            envs.step(np.zeros((2, 16)))
        env.reset(seed=0)
        for _ in range(4):
            *_, terminated, truncated, _ = env.step(np.zeros(16))
            if terminated or truncated:
                break
        with pytest.raises(DialogueOverError, match="has ended"):
            env.step(np.zeros(16))

    def test_of_a_dialogue_longer_than_the_model_can_read_the_oldest_turns_are_left_out(self):
        lm = random_lm()
        env = EmbeddingObservation(DialogueEnv(GuessTask()), Speaker(GuessTask(), lm, state="last"))
        env.reset(seed=0)
        for said in ("?", "wörd " * 40):
            env.step(said)
        state, *_, info = env.step("wörd " * 60)
        messages = GuessTask().messages(info["dialogue"], "agent")
        with pytest.raises(ValueError, match="512"):
            lm.embed([[messages[0], {"role": "user", "content": "wörd " * 200}]])
        assert len(lm.chat.encode([messages])[0]) > 512
        close(state, lm.embed([[messages[0], *messages[5:]]])[0])  # by fours
        assert env.reset(seed=0)[0].any(), "the environment goes on after reset"


def test_the_wrappers_are_named():
    import dialog_gym.wrappers as named

    with pytest.raises(AttributeError, match=r"no attribute .SteerAction.; it has .*EmbeddingObservation, .*Prefix"):
        _ = named.SteerAction

"""The laws of the environments, on a toy task."""

import json
import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.env import DialogueEnv, DialogueVectorEnv, advance, env_task
from dialog_gym.errors import DialogueOverError, SettingError
from tests.toy import GuessTask, Hits

SAY = st.sampled_from(["0", "1", "2", "3", "what?", "WHAT", "", "bye", "Grüße 🙂"])


def same(vector_step, row, single_step):
    observations, rewards, terminated, truncated, infos = vector_step
    observation, reward, end, cut, info = single_step
    assert observations[row] == observation
    assert (rewards[row], terminated[row], truncated[row]) == (reward, end, cut)
    same_info(infos, row, info)


def same_info(infos, row, info):
    assert {key for key in infos if not key.startswith("_")} == info.keys()
    for key in ("dialogue", "turn", "success", "stop_reason", "cost"):
        assert infos[key][row] == info[key], key
        assert infos[f"_{key}"][row]
    assert infos["reward_terms"]["hits"][row] == info["reward_terms"]["hits"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 10),
    rows=st.integers(1, 5),
    said=st.lists(st.lists(SAY, min_size=5, max_size=5), min_size=1, max_size=12),
    greet=st.booleans(),
)
def test_row_i_is_the_single_env_seeded_s_plus_i(seed, rows, said, greet):
    batch = DialogueVectorEnv(GuessTask(greet), rows)
    singles = [DialogueEnv(GuessTask(greet)) for _ in range(rows)]
    observations, infos = batch.reset(seed=seed)
    for row, env in enumerate(singles):
        observation, info = env.reset(seed=seed + row)
        assert observations[row] == observation
        same_info(infos, row, info)
    over = [False] * rows
    for turn in said:
        step = batch.step(turn[:rows])
        for row, env in enumerate(singles):
            if over[row]:
                observation, info = env.reset()
                single = (observation, 0.0, False, False, info)
            else:
                single = env.step(turn[row])
            same(step, row, single)
            over[row] = bool(single[2] or single[3])


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_every_autoreset_mode_does_what_gymnasiums_own_vector_env_does(mode):
    ours = DialogueVectorEnv(GuessTask(), 3, autoreset_mode=mode)
    theirs = SyncVectorEnv(
        [lambda: DialogueEnv(GuessTask())] * 3, autoreset_mode=gym.vector.AutoresetMode[mode.upper()]
    )
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    equal(ours.reset(seed=5), theirs.reset(seed=5))
    over = np.zeros(3, bool)
    for k in range(15):
        words = tuple(("0", "1", "2", "why")[(k + row) % 4] for row in range(3))
        if mode == "disabled" and over.any():
            mask = over.copy()
            equal(ours.reset(options={"reset_mask": mask})[:1], theirs.reset(options={"reset_mask": mask})[:1])
        mine, other = ours.step(words), theirs.step(words)
        equal(mine, other)
        over = mine[2] | mine[3]


def equal(mine, other):
    """Compare results of two vector environments; infos where both say that they hold."""
    for a, b in zip(mine, other, strict=True):
        if isinstance(a, dict):
            equal_infos(a, b)
        else:
            assert np.array_equal(a, b)


def equal_infos(a, b):
    assert a.keys() == b.keys()
    for key in a:
        if key.startswith("_"):
            continue
        if isinstance(a[key], dict):
            equal_infos(a[key], b[key])
        else:
            held = b[f"_{key}"]
            assert np.array_equal(a[f"_{key}"], held), key
            assert list(a[key][held]) == list(b[key][held]), key


def test_one_partner_call_a_turn_and_none_for_rows_that_are_over():
    task = GuessTask()
    env = DialogueVectorEnv(task, 4, autoreset_mode="disabled")
    env.reset(seed=0)
    env.step(["bye", "hm", "bye", "hm"])
    assert list(env.live) == [False, True, False, True]
    _, rewards, terminated, _, infos = env.step(["hm"] * 4)
    assert task.batches == [4, 2]
    assert list(terminated) == [True, False, True, False]
    assert rewards[0] == rewards[2] == 0
    assert infos["turn"].tolist() == [1, 2, 1, 2]


def test_partial_reset_leaves_the_other_rows_and_their_streams_alone():
    env, other = (DialogueVectorEnv(GuessTask(), 3, autoreset_mode="disabled") for _ in range(2))
    env.reset(seed=7)
    other.reset(seed=7)
    before = env.dialogues[1]
    env.reset(seed=[100, None, None], options={"reset_mask": np.array([True, False, False])})
    assert env.dialogues[1] is before
    assert env.dialogues[0].seed == DialogueEnv(GuessTask()).reset(seed=100)[1]["dialogue"].seed
    mask = np.array([False, True, False])
    env.reset(options={"reset_mask": mask})
    other.reset(options={"reset_mask": mask})
    assert env.dialogues[1] == other.dialogues[1], "a seed given to a row that is not reset changes nothing"


@pytest.mark.parametrize(
    ("mask", "match"),
    [(np.ones(2, bool), r"shape \(3,\), got bool \(2,\)"), (np.ones(3), "got float64"), ([1, 0, 1], "got int64")],
)
def test_bad_reset_mask(mask, match):
    env = DialogueVectorEnv(GuessTask(), 3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=match):
        env.reset(options={"reset_mask": mask})


def test_gymnasium_checker_has_no_complaint():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(DialogueEnv(GuessTask()), skip_render_check=True)


def test_two_resets_leave_no_trace_of_the_first_episode():
    env, fresh = DialogueEnv(GuessTask()), DialogueEnv(GuessTask())
    env.reset(seed=1)
    env.step("what?")
    assert env.reset(seed=2) == fresh.reset(seed=2)


def test_global_random_state_is_untouched():
    np.random.seed(3)  # noqa: NPY002 - the global state is the subject
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    env = DialogueVectorEnv(GuessTask(), 2)
    env.reset(seed=0)
    env.step(["a", "b"])
    env.action_space.sample()
    assert np.array_equal(before, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def test_terminated_on_success_truncated_on_the_last_turn_and_never_both():
    env = DialogueEnv(GuessTask())
    _, info = env.reset(seed=0)
    number = info["dialogue"].state["number"]
    *_, terminated, truncated, info = env.step(str(number))
    assert (terminated, truncated, info["stop_reason"], info["success"]) == (True, False, "named", True)
    env.reset(seed=0)
    ends = [env.step("?")[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    env.reset(seed=0)
    for _ in range(3):
        _, _, _, _, info = env.step("?")
    *_, terminated, truncated, _ = env.step(str(info["dialogue"].state["number"]))
    assert (terminated, truncated) == (True, False)


def test_reward_and_cost_are_in_info():
    env = DialogueEnv(GuessTask())
    env.reset(seed=0)
    _, reward, _, _, info = env.step("WHAT IS IT")
    assert info["reward_terms"] == {"hits": reward}
    assert info["cost"] == 1.0


class Judged(GuessTask):
    """The reward, a tenth of an utterance's length here, tells success."""

    success_above = ("hits", 0.04)


def test_success_settled_by_a_score_stays_and_nothing_else_is_changed():
    said = ["four", "hello", "four"]  # worth .04, .05, .04: only the second is above
    plain, judged = DialogueEnv(GuessTask()), DialogueVectorEnv(Judged(), 2)
    transcripts = [plain.reset(seed=1)[0], judged.reset(seed=0)[0][1]]
    seen = []
    for text in said:
        observation, reward, *_, info = plain.step(text)
        observations, rewards, *_, infos = judged.step(["no", text])
        transcripts = [observation, observations[1]]
        assert transcripts[0] == transcripts[1]
        assert rewards[1] == reward
        assert infos["dialogue"][1] == replace(info["dialogue"], success=bool(infos["success"][1]))
        seen.append(infos["success"].tolist())
    assert seen == [[False, False], [False, True], [False, True]]
    assert advance(Judged(), [infos["dialogue"][1]], ["no"]).dialogues[0].success, "also where one goes on from it"


def test_success_by_a_term_that_nobody_measures_is_refused():
    task = Judged()
    task.success_above = ("charm", 0.5)
    env = DialogueEnv(task)
    env.reset(seed=0)
    before = env.dialogue
    with pytest.raises(ValueError, match=r"settled by the reward term 'charm', but the rewards measure \['hits'\]"):
        env.step("hello")
    assert env.dialogue is before


def test_resume_from_a_dialogue_or_play_a_scenario():
    env, other = DialogueEnv(GuessTask()), DialogueEnv(GuessTask())
    env.reset(seed=9)
    env.step("what?")
    assert env.dialogue is not None
    saved = json.loads(json.dumps(env.dialogue.to_json()))
    other.reset(options={"dialogue": saved})
    assert env.step("why?") == other.step("why?")
    _, info = other.reset(seed=1, options={"scenario": saved["scenario"]})
    assert info["dialogue"].scenario == env.dialogue.scenario
    with pytest.raises(ValueError, match="not both"):
        other.reset(options={"dialogue": saved, "scenario": saved["scenario"]})
    with pytest.raises(ValueError, match="expected a dialogue between"):
        other.reset(options={"dialogue": {**saved, "roles": ["x", "y"]}})


@pytest.mark.parametrize("rows", [None, 3])
def test_get_state_set_state_continue_exactly(rows):
    def make():
        return DialogueEnv(GuessTask()) if rows is None else DialogueVectorEnv(GuessTask(), rows)

    word = "?" if rows is None else ["?"] * rows
    env, other = make(), make()
    env.reset(seed=4)
    env.step(word)
    observation, _ = other.set_state(json.loads(json.dumps(env.get_state())))
    for _ in range(9):
        if rows is None and env.dialogue.stop_reason:
            a, b = env.reset(), other.reset()
            assert a == b
        else:
            a, b = env.step(word), other.step(word)
            assert a[0] == b[0]
            assert list(np.atleast_1d(a[1])) == list(np.atleast_1d(b[1]))
    assert observation is not None


class TestBadInput:
    @pytest.mark.parametrize(
        ("action", "error", "match"),
        [
            (3, TypeError, "action must be what the agent says, a str, got int 3"),
            (None, TypeError, "got NoneType"),
            (b"hi", TypeError, "got bytes"),
            ("x" * 301, ValueError, "action has 301 characters, at most 300"),
            ("x" * 100_000, ValueError, "100000 characters"),
        ],
    )
    def test_bad_actions_are_refused_and_change_nothing(self, action, error, match):
        env = DialogueEnv(GuessTask())
        env.reset(seed=0)
        before = env.dialogue
        with pytest.raises(error, match=match):
            env.step(action)
        assert env.dialogue is before

    @pytest.mark.parametrize("action", ["", " ", "\x00\x1b[2J", "\ud800 alone", "𝔘🙂‮", "\n\n", "{{x}} %s {0}"])
    def test_any_unicode_is_a_turn(self, action):
        env = DialogueEnv(GuessTask(), render_mode="ansi")
        env.reset(seed=0)
        observation, *_, info = env.step(action)
        assert info["turn"] == 1
        json.dumps(info["dialogue"].to_json()).encode()
        observation.encode("utf-8")
        assert "\x1b" not in str(env.render())

    @pytest.mark.parametrize("rows", [1, 3])
    def test_a_bad_row_is_named_and_no_row_moves(self, rows):
        env = DialogueVectorEnv(GuessTask(), rows)
        env.reset(seed=0)
        before = list(env.dialogues)
        with pytest.raises(TypeError, match=rf"actions\[{rows - 1}\] must be"):
            env.step([*["a"] * (rows - 1), 7])  # type: ignore[list-item]
        with pytest.raises(ValueError, match=f"expected {rows} actions, one per dialogue, got {rows + 1}"):
            env.step(["a"] * (rows + 1))
        assert env.dialogues == before

    def test_step_before_reset_and_after_the_end(self):
        env, batch = DialogueEnv(GuessTask()), DialogueVectorEnv(GuessTask(), 2)
        with pytest.raises(DialogueOverError, match="has not begun; call reset"):
            env.step("a")
        with pytest.raises(DialogueOverError, match="has not begun; call reset"):
            batch.step(["a", "a"])
        env.reset(seed=0)
        env.step("bye")
        with pytest.raises(DialogueOverError, match=r"has ended \(left\); call reset"):
            env.step("again")

    @pytest.mark.parametrize("score", [[np.nan, 0], [np.inf, 0], [1.0], [[1.0, 2.0]]])
    def test_a_reward_that_is_no_number_is_refused(self, score):
        class Broken(Hits):
            name = "broken"

            def __call__(self, dialogues):
                return np.array(score)

        task = GuessTask()
        task.reward = Broken()
        env = DialogueVectorEnv(task, 2)
        env.reset(seed=0)
        with pytest.raises(ValueError, match="reward 'broken' must return 2 finite scores"):
            env.step(["a", "b"])

    def test_settings(self):
        with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
            DialogueVectorEnv(GuessTask(), 0)
        with pytest.raises(ValueError, match="render_mode must be None, 'human' or 'ansi', got 'rgb_array'"):
            DialogueEnv(GuessTask(), render_mode="rgb_array")
        with pytest.raises(ValueError, match="autoreset_mode must be"):
            DialogueVectorEnv(GuessTask(), 1, autoreset_mode="sometimes")
        with pytest.raises(ValueError, match="dialogues must have one entry"):
            DialogueVectorEnv(GuessTask(), 2).reset(options={"dialogues": [None]})


def test_render_shows_what_a_person_wants_to_see(capsys):
    env = DialogueEnv(GuessTask(), render_mode="ansi")
    env.reset(seed=0)
    env.step("what?")
    text = str(env.render())
    assert "> agent   what?" in text
    assert "Name it." in text
    assert "It is" not in text, "the partner's secret is not shown"
    assert "turn 1, going on" in text
    env.step("bye")
    assert "ended after turn 2: left, goal not reached" in str(env.render())
    human = DialogueEnv(GuessTask(), render_mode="human")
    human.reset(seed=0)
    human.step("[bold]what?")
    assert "[bold]what?" in capsys.readouterr().out, "what is said is no markup"


class TestTheTaskOfAnId:
    def test_it_is_made_with_the_settings_of_the_id_and_with_arguments(self):
        assert env_task("dialog_gym/Bargain-v0").roles[0] == "buyer"
        assert env_task("any_module:dialog_gym/Bargain-v0", {"side": "seller", "cost": None}).roles[0] == "seller"
        own = {"task": "tests.toy:GuessTask", "highest": 2}
        gym.register("toy/Guess-v0", entry_point="dialog_gym.env:make_env", kwargs=own)
        try:
            made: list[Any] = [env_task("toy/Guess-v0"), env_task("toy/Guess-v0", {"highest": 3})]
            assert [task.highest for task in made] == [2, 3]
        finally:
            del gym.registry["toy/Guess-v0"]

    def test_what_steers_is_none_of_the_tasks(self):
        speaks = {"lm": "nobody", "prefix": "x", "temperature": 1.0, "max_tokens": 9}
        others = {"observer": "y", "state": "last", "render_mode": "ansi", "max_turns": 3}
        task = env_task("dialog_gym/BargainPrefix-v0", {**speaks, **others})
        assert task.max_turns == 3
        with pytest.raises(SettingError, match="temperature"):
            env_task("dialog_gym/Bargain-v0", {"temperature": 1.0})
        with pytest.raises(SettingError, match="did you mean 'side'"):
            env_task("dialog_gym/BargainPrefix-v0", {"sid": "buyer"})

    def test_others_are_refused(self):
        with pytest.raises(ValueError, match="CartPole-v1 is not an environment of dialogues"):
            env_task("CartPole-v1")
        with pytest.raises(gym.error.NameNotFound):
            env_task("dialog_gym/Bargin-v0")


def test_gymnasiums_episode_statistics_work():
    env = RecordEpisodeStatistics(DialogueVectorEnv(GuessTask(), 2))
    env.reset(seed=0)
    _, _, _, _, infos = env.step(["bye", "hm"])
    assert infos["episode"]["l"][0] == 1

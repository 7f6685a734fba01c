"""Branching: forks, candidates, play-outs, with numbers that can be worked out by hand."""

import json
from dataclasses import asdict, replace
from typing import ClassVar

import numpy as np
import pytest

from dialog_gym.data import Rankings
from dialog_gym.data.branch import Scoring, branch, candidates, reached, scores, talker
from dialog_gym.data.collect import Actor, actor
from dialog_gym.data.rank import Options, collect_rankings
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.distributed import Cluster, Done
from dialog_gym.distributed.parts import FOLDER, Ahead, Part
from dialog_gym.env import DialogueVectorEnv, begin
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm import load
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Reply, Task
from tests.toy import GuessTask

ENV = "dialog_gym/Bargain-v0"


@pytest.fixture(scope="module", autouse=True)
def _models():
    held = load("tiny")
    yield
    del held


class Length(Reward):
    name, low, high = "length", 0.0, 100.0

    def __call__(self, dialogues):
        return np.array([len(d.texts("agent")[-1]) for d in dialogues], np.float32)


class Coin(Reward):
    name, low, high = "coin", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array([d.state["coin"] for d in dialogues], np.float32)


class Coins(Task):
    """Three turns, each worth the coin that the partner throws, if the agent says "throw"; talk costs its length."""

    roles, max_turns, max_chars, reward, cost = ("agent", "partner"), 3, 50, Coin(), Length()

    def scenario(self, draws: Draws) -> Scenario:
        return Scenario("Coins.")

    def opening(self, dialogue):
        return replace(dialogue, state={"coin": 0})

    def reply(self, dialogues):
        return [self._answer(d) for d in dialogues]

    def _answer(self, d):
        thrown = int(d.turns[-1].text == "throw") and d.draws("coin").integer(0, 2)
        return Reply("So.", {"coin": thrown})


def say(text):
    return lambda dialogues: [text] * len(dialogues)


class TestScores:
    def test_the_reward_of_the_next_step(self):
        start = [begin(GuessTask(), seed) for seed in range(3)]
        said = [(str(d.state["number"]), "no idea") for d in start]
        for earned, spent in scores(GuessTask(), start, said, Scoring(plays=4)):
            assert earned.tolist() == pytest.approx(np.array([[1.0] * 4, [0.07] * 4]))
            assert not spent[1].any()

    def test_play_outs_add_up(self):
        (start,) = [begin(Coins(), 5)]
        ((earned, spent),) = scores(Coins(), [start], [("throw", "wait")], Scoring(512, say("throw")))
        assert set(earned.ravel()) <= {0.0, 1.0, 2.0, 3.0}
        assert earned.mean(axis=1) == pytest.approx([1.5, 1.0], abs=0.12)  # 3 and 2 throws of 1/2; 3 errors of .04
        assert earned.std(axis=1) == pytest.approx([0.75**0.5, 0.5**0.5], abs=0.08)
        assert spent.tolist() == [[15.0] * 512, [14.0] * 512]

    def test_all_candidates_of_a_state_meet_the_same_chance(self):
        (start,) = [begin(Coins(), 5)]
        ((earned, _),) = scores(Coins(), [start], [("throw", "wait")], Scoring(64, say("throw")))
        assert set((earned[0] - earned[1]).tolist()) == {0.0, 1.0}, "the first coin, the others are the same"

    def test_any_reward_instead_of_the_tasks(self):
        start = [begin(Coins(), 1), begin(Coins(), 2)]
        said = [("a", "abc"), ("abcd",)]
        (one, _), (other, _) = scores(Coins(), start, said, Scoring(2, say("12345"), Length()))
        assert one.tolist() == [[11.0, 11.0], [13.0, 13.0]]
        assert other.tolist() == [[14.0, 14.0]]

    def test_the_batch_changes_nothing(self, monkeypatch):
        start = [begin(Coins(), seed) for seed in range(5)]
        said = [("throw", "wait")] * 5
        whole = scores(Coins(), start, said, Scoring(7, say("throw")))
        monkeypatch.setattr("dialog_gym.data.branch.BATCH", 3)
        parts = scores(Coins(), start, said, Scoring(7, say("throw")))
        assert all(
            np.array_equal(a, b)
            for one, other in zip(whole, parts, strict=True)
            for a, b in zip(one, other, strict=True)
        )

    def test_the_oracle_s_words_are_best_and_its_value_is_met(self):
        task = Bargain()
        start = [begin(task, seed) for seed in range(6)]
        said = [(task.oracle(d), "Goodbye, I am leaving.") for d in start]
        for (earned, _), dialogue in zip(
            scores(task, start, said, Scoring(64, talker(task, "oracle"))), start, strict=True
        ):
            good, bad = earned.mean(axis=1)
            assert good > 0.5 > bad
            assert good == pytest.approx(task.value(dialogue), abs=0.12)


class TestCandidates:
    def test_repetitions_are_dropped_and_asked_for_again(self):
        asked = []

        def two(dialogues):
            asked.append(len(dialogues))
            return [str(d.draws("word").integer(0, 2)) for d in dialogues]

        start = [begin(Coins(), seed) for seed in range(8)]
        found = candidates(Coins(), start, [two], 2, rounds=30)
        assert all(set(texts) == {"0", "1"} for texts in found)
        assert asked[0] == 16
        assert asked[1] < 16, "only what is missing is asked for again"

    def test_talkers_take_turns(self):
        def named(name):
            return lambda dialogues: [f"{name} {d.draws('word').bits()}" for d in dialogues]

        (texts,) = candidates(Coins(), [begin(Coins(), 0)], [named("a"), named("b")], 6)
        assert sorted(text[0] for text in texts) == ["a", "a", "a", "b", "b", "b"]
        assert len(set(texts)) == 6

    def test_they_follow_from_the_dialogue(self):
        task, start = Bargain(), [begin(Bargain(), seed) for seed in range(4)]
        found = [candidates(task, group, [talker(task, "lm-sampled")], 4) for group in (start, start[2:])]
        assert found[0][2:] == found[1]
        assert all(len(texts) == 4 for texts in found[0])

    def test_who_always_says_the_same_gives_no_ranking(self):
        start = [begin(Coins(), seed) for seed in range(2)]
        assert branch(Coins(), start, [say("throw")], 4, Scoring(2)) == [None, None]

    @pytest.mark.parametrize(("k", "talkers"), [(1, [say("a")]), (2, [])])
    def test_too_few(self, k, talkers):
        with pytest.raises(ValueError, match="expected at least 2 candidates from at least 1 talker"):
            candidates(Coins(), [], talkers, k)


class TestBranch:
    def test_the_best_comes_first_with_its_error(self):
        start = [begin(Coins(), seed) for seed in range(3)]
        for found in branch(Coins(), start, [say("wait"), say("throw")], 2, Scoring(64)):
            assert found is not None
            assert found.candidates == ("throw", "wait")
            assert found.more["cost"] == (5.0, 4.0)
            thrown = found.scores[0] * 64
            error = np.sqrt(thrown * (64 - thrown) / 64 / 63 / 64)  # of a mean of zeros and ones
            assert found.more["error"] == pytest.approx((error, 0.0))
            assert found.dialogue in start
            assert found.messages == tuple(found.dialogue.messages("agent"))

    def test_one_play_has_no_error(self):
        (found,) = branch(Coins(), [begin(Coins(), 0)], [say("wait"), say("throw")], 2, Scoring(1))
        assert found is not None
        assert set(found.more) == {"cost"}

    def test_a_dialogue_that_is_over(self):
        with pytest.raises(ValueError, match="dialogue that is over, as that with seed 3 is"):
            branch(Coins(), [replace(begin(Coins(), 3), stop_reason="left")], [say("a")], 2, Scoring())

    def test_no_plays(self):
        with pytest.raises(ValueError, match="plays must be at least 1, got 0"):
            Scoring(0)


class TestReached:
    def test_states_are_those_of_the_episodes(self):
        rows = DialogueVectorEnv(Coins(), 3, autoreset_mode="disabled")
        who = Actor("waits", lambda observations, infos: ["wait"] * 3, rows)
        every = list(reached(who, 5, seed=10, per_episode=0))
        assert [[s.dialogue.turn for s in states] for states in every] == [[0, 1, 2]] * 5
        assert [states[0].seed for states in every] == [10, 11, 12, 13, 14]
        one = list(reached(who, 60, seed=10))
        turns = [states[0].dialogue.turn for states in one]
        assert all(len(states) == 1 for states in one)
        assert min(turns.count(turn) for turn in range(3)) >= 10, "20 each are expected"
        assert all(not s.dialogue.stop_reason for states in one for s in states)

    def test_the_partner_is_asked_for_them_alone(self):
        class Asked(Coins):
            batches: ClassVar[list[int]] = []

            def reply(self, dialogues):
                self.batches.append(len(dialogues))
                return super().reply(dialogues)

        rows = DialogueVectorEnv(Asked(), 5, autoreset_mode="disabled")
        assert len(list(reached(Actor("waits", lambda observations, infos: ["wait"] * 5, rows), 2))) == 2
        assert Asked.batches == [2, 2, 2], "5 rows are more than a part may have episodes"

    def test_by_any_policy(self):
        found = list(reached(actor("oracle", ENV, {}, 4), 6))
        assert len(found) == 6
        assert all(isinstance(s.dialogue, Dialogue) for states in found for s in states)


OPTIONS = Options(ENV, reach="random", candidates=("oracle", "random"), k=4, by="oracle", plays=4)


class TestCollectRankings:
    def test_rows_and_starts_change_nothing(self, tmp_path):
        whole = collect_rankings(OPTIONS, 12, tmp_path / "whole", rows=5, shard_rows=4)
        collect_rankings(OPTIONS, 5, tmp_path / "parts", rows=2)
        parts = collect_rankings(OPTIONS, 12, tmp_path / "parts", rows=1)
        assert parts.content_hash == whole.content_hash
        assert collect_rankings(OPTIONS, 12, tmp_path / "parts").content_hash == whole.content_hash
        assert len(whole) == 12
        assert [row.meta["seed"] for row in whole] == list(range(12))

    def test_other_options_are_other_rows(self, tmp_path):
        collect_rankings(OPTIONS, 3, tmp_path)
        found = collect_rankings(replace(OPTIONS, plays=2), 3, tmp_path)
        assert [row.meta["plays"] for row in found] == [4, 4, 4, 2, 2, 2]

    def test_killed_within_an_episode(self, tmp_path):
        options = replace(OPTIONS, per_episode=0)
        whole = list(collect_rankings(options, 4, tmp_path / "whole"))
        with Rankings.writing(tmp_path / "killed") as writer:
            writer.extend(whole[: len(whole) // 2])
        assert list(collect_rankings(options, 4, tmp_path / "killed")) == whole

    def test_killed_within_an_episode_while_its_part_waits(self, tmp_path, monkeypatch):
        class Here:
            """Stands for a pool of workers."""

            def __init__(self, make, cluster):
                self.work = make()

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def run(self, items):
                return (Done(i, self.work(item), None) for i, item in enumerate(items))

        monkeypatch.setattr("dialog_gym.distributed.pool.Pool", Here)
        options = replace(OPTIONS, per_episode=0, lm="tiny")
        whole = collect_rankings(options, 3, tmp_path / "whole")
        rows = list(whole)
        assert [row.meta["seed"] for row in rows[:2]] == [0, 0]
        with Rankings.writing(tmp_path / "killed") as writer:
            writer.add(rows[0])
        how = json.loads(json.dumps({**asdict(options), "reward": None}))
        Ahead(Rankings, tmp_path / "killed", how).keep(Part(0, 3), rows)
        found = collect_rankings(options, 3, tmp_path / "killed", cluster=Cluster(workers=1))
        assert found.content_hash == whole.content_hash, "no row is there twice"
        assert not (tmp_path / "killed" / FOLDER).exists()

    def test_the_oracle_s_words_rank_above_random_ones(self, tmp_path):
        found = list(collect_rankings(replace(OPTIONS, plays=16), 20, tmp_path))
        spread = np.mean([row.scores[0] - row.scores[-1] for row in found])
        assert spread > 0.1
        assert all(list(row.scores) == sorted(row.scores, reverse=True) for row in found)

    def test_a_language_model_proposes_and_a_reward_decides(self, tmp_path):
        class Words(Reward):
            name, low, high = "words", 0.0, 100.0

            def __call__(self, dialogues):
                return np.array([len(d.texts("buyer")[-1].split()) for d in dialogues], np.float32)

        options = replace(OPTIONS, candidates=("lm-sampled",), by="next", plays=1)
        for row in collect_rankings(options, 3, tmp_path, reward=Words()):
            assert row.scores == tuple(float(len(text.split())) for text in row.candidates)
            assert row.meta["reward"] == "words"

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"k": 1}, "k must be at least 2"),
            ({"candidates": ()}, "candidates must name at least one"),
            ({"candidates": ("orakle",)}, "did you mean 'oracle'"),
            ({"by": "nobody"}, "no policy named 'nobody'"),
        ],
    )
    def test_mistakes(self, tmp_path, change, told):
        with pytest.raises((ValueError, KeyError), match=told):
            collect_rankings(replace(OPTIONS, **change), 2, tmp_path)

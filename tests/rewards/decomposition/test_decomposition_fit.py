"""Reward learning from files on disk to a reward that plugs in."""

import json
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from dialog_gym import checkpoint
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.rewards.decomposition import Args, Decomposed, fit_reward, load_reward
from dialog_gym.rewards.decomposition.command import run
from dialog_gym.rewards.decomposition.conversations import Conversation, Wanted, held_out, parted, read, records
from dialog_gym.rewards.decomposition.learner import METHODS, Learner, objective
from dialog_gym.rewards.decomposition.metrics import by_class, classes, correlations, ranks
from dialog_gym.rewards.decomposition.model import GeliHead, HeadSpec, LstmHead, TurnModel
from dialog_gym.rewards.decomposition.stacked import Lessons, Pool, Recipe, fit_stacked, predict_stacked
from dialog_gym.rewards.decomposition.training import data_files, scale_of
from dialog_gym.rewards.decomposition.worlds import task_of, true_turns
from dialog_gym.runs import Interrupted, RunFolder
from dialog_gym.scoring import scored
from tests.rewards.decomposition.test_decomposition_turns import Lengths

CHAT, BARGAIN = "dialog_gym/Chat-v0", "dialog_gym/Bargain-v0"


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """Self-play of Chat-v0 as a data set, with the affect of each turn as a signal and the survey as the score."""
    folder = tmp_path_factory.mktemp("data") / "chats"
    task = task_of(CHAT, {})
    with Episodes.writing(folder) as writer:
        for number in range(60):
            writer.add(recorded(task, number))
    return folder


def recorded(task, number, **changes):
    ended = task.self_play(Draws(3, "test", number))
    zeros = (0.0,) * ended.turn
    values = tuple(float(move) * 2 for move in task.true_moves(ended))
    one = Recorded(ended.seed, ended, zeros, zeros, signals={"affect": values}, env=CHAT)
    return replace(one, score=float(ended.state["survey"]), **changes)


def settings(chats, tmp_path, **changes):
    given = {
        "episodes": str(chats),
        "out": str(tmp_path / "run"),
        "local": "affect",
        "encoder": "facts",
        "notation": CHAT,
        "cache": str(tmp_path / "cache"),
        "steps": 60,
        "eval_every": 20,
        "checkpoint_every": 20,
        "track": "none",
        "progress": False,
    }
    return Args(**{**given, **changes})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_saved(method, chats, tmp_path):
    args = settings(chats, tmp_path, method=method, steps=20)
    model = fit_reward(args)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["conversations"] + result["held_out"] == 60
    assert {"truth/pearson", "truth/spearman_dialogue", "reward_of/low", "eval/loss"} <= result.keys()
    assert ("eval/global_loss" in result) == (method != "li")
    again = fit_reward(args)  # a finished run is loaded
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(tensor, again.head.state_dict()[name])


def test_a_clean_local_signal_gives_the_true_reward_and_geli_hears_it(chats, tmp_path):
    fit_reward(settings(chats, tmp_path, method="geli", steps=300, weight=0.1))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["truth/pearson"] > 0.5
    assert result["reward_of/low"] < result["reward_of/middle"] < result["reward_of/high"]


@pytest.mark.parametrize("method", ["geli", "rudder"])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(method, chats, tmp_path, monkeypatch):
    whole = settings(chats, tmp_path / "whole", method=method, k=3 if method == "geli" else 0, dropout=0.3)
    fit_reward(whole)
    parts = settings(chats, tmp_path / "parts", method=method, k=whole.k, dropout=0.3)
    save = RunFolder.save

    def stopping(self, step, *args, **kwargs):
        save(self, step, *args, **kwargs)
        self.interrupted = step == 20

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", stopping)
        with pytest.raises(Interrupted):
            fit_reward(parts)
    fit_reward(parts)
    one, two = (
        checkpoint.read(tmp_path / name / "run" / "reward", "decomposed reward") for name in ("whole", "parts")
    )
    assert one.data == two.data
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)
    metrics = [(tmp_path / name / "run" / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]


def test_every_distinct_turn_is_encoded_once_whatever_learns_from_it(chats, tmp_path, monkeypatch):
    from dialog_gym.rewards.decomposition.encoders import FactsEncoder

    passes = []
    encode = FactsEncoder.__call__

    def counting(self, texts):
        passes.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(FactsEncoder, "__call__", counting)
    fit_reward(settings(chats, tmp_path, steps=20))
    first = len(passes)
    assert first == len(set(passes)) > 400
    fit_reward(settings(chats, tmp_path, steps=20, method="rrd", out=str(tmp_path / "other")))
    assert len(passes) == first


def test_a_tuned_encoder_moves_and_comes_back(tmp_path):
    chats = tmp_path / "few"
    with Episodes.writing(chats) as writer:
        writer.extend(recorded(task_of(CHAT, {}), number) for number in range(8))
    args = settings(chats, tmp_path, encoder="tiny-chat", tune=True, tune_learning_rate=1e-3, steps=2, batch=2)
    args = replace(args, eval_every=2, checkpoint_every=2)
    model = fit_reward(args)
    assert model.encoder_state is not None
    assert not list((tmp_path / "run").glob("texts"))
    assert not (tmp_path / "cache").exists()
    reward, frozen = load_reward(tmp_path / "run"), load_reward(tmp_path / "run")
    from dialog_gym.rewards.decomposition.encoders import load_encoder

    frozen.encoder = load_encoder("tiny-chat", notation=CHAT)
    dialogue = next(iter(Episodes.load(chats))).dialogue
    assert abs(reward([dialogue]) - frozen([dialogue])).max() > 1e-6


def test_training_that_diverges_saves_no_reward(chats, tmp_path):
    with pytest.raises(ValueError, match=r"diverged; give a smaller learning_rate"):
        fit_reward(settings(chats, tmp_path, learning_rate=1e9, encoder="bag:8", steps=40))
    assert not (tmp_path / "run" / "reward").exists()


def test_states_of_a_tuned_encoder_are_those_of_their_rows_however_they_are_batched(chats, tmp_path, monkeypatch):
    from dialog_gym.rewards.decomposition import encoders
    from dialog_gym.rewards.decomposition.fitting import Fitting

    few = tmp_path / "few"
    with Episodes.writing(few) as writer:
        writer.extend(recorded(task_of(CHAT, {}), number) for number in range(10))
    args = settings(few, tmp_path, encoder="tiny-chat", tune=True)
    (tmp_path / "run").mkdir()
    fitting = Fitting(args, tmp_path / "run")
    rows = np.array([[3, 0, 1], [1, 7, 3]])
    with torch.no_grad():
        whole = fitting._encodings(rows)
        monkeypatch.setattr(encoders, "_BATCH_ROWS", 2)
        parts = fitting._encodings(rows)
    fitting.close()
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[0, 0], whole[1, 2])
    assert (whole[0, 0] - whole[0, 1]).abs().max() > 1e-3


# --- the reward -------------------------------------------------------------------------------------


def test_another_encoder_than_the_one_it_has_learned_with_is_refused(learned, monkeypatch):
    from dialog_gym.rewards.decomposition.encoders import FactsEncoder

    monkeypatch.setattr(FactsEncoder, "fingerprint", lambda self: "f" * 16)
    with pytest.raises(ValueError, match=r"'facts' is not the one .* fit the reward again"):
        load_reward(learned)


def test_a_run_does_not_go_on_with_another_encoder(chats, tmp_path):
    from dialog_gym.rewards.decomposition.fitting import Fitting

    (tmp_path / "run").mkdir()
    fitting = Fitting(settings(chats, tmp_path), tmp_path / "run")
    fitting.advance()
    arrays, data = fitting.state()
    fitting.restore(1, (arrays, data))
    with pytest.raises(ValueError, match="not the one that this run began with"):
        fitting.restore(1, (arrays, {**data, "fingerprint": "f" * 16}))


def test_a_folder_without_a_reward_says_what_to_do(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match=r"holds no learned reward; expected .* started again"):
        load_reward(tmp_path)


def test_facts_are_those_of_the_whole_dialogue_however_little_is_read(chats, tmp_path):
    found = {}
    for utterances in (2, 20):
        args = settings(chats, tmp_path, steps=20, utterances=utterances, out=str(tmp_path / str(utterances)))
        found[utterances] = fit_reward(args)
    encodings = np.random.default_rng(0).standard_normal((3, found[2].size))
    np.testing.assert_array_equal(found[2].score_turns(encodings), found[20].score_turns(encodings))
    dialogue = next(iter(Episodes.load(chats))).dialogue
    one, two = (load_reward(tmp_path / name).turns([dialogue])[0] for name in ("2", "20"))
    np.testing.assert_array_equal(one, two)


def test_a_reward_that_learned_from_no_score_predicts_none(chats, tmp_path, learned):
    fit_reward(settings(chats, tmp_path, method="li", steps=20))
    rows = list(Episodes.load(chats))[:1]
    (told,) = scored(str(tmp_path / "run"), rows)
    assert told.predicted is None
    assert next(scored(str(learned), rows)).predicted is not None


@pytest.fixture(scope="module")
def learned(chats, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    fit_reward(settings(chats, folder))
    return folder / "run"


def test_the_reward_of_a_turn_is_the_same_alone_in_a_batch_and_over_the_dialogue(learned, chats):
    reward = load_reward(learned)
    dialogues = [one.dialogue for one in list(Episodes.load(chats))[:4]]
    turns = reward.turns(dialogues)
    assert [len(some) for some in turns] == [dialogue.turn for dialogue in dialogues]
    np.testing.assert_allclose(reward(dialogues), [some[-1] for some in turns], atol=1e-6)
    np.testing.assert_allclose(reward(dialogues), [reward([one])[0] for one in dialogues], atol=1e-6)
    sums = reward.offset + np.array([some.sum() for some in turns])
    np.testing.assert_allclose(reward.predicted_scores(dialogues), sums, atol=1e-5)
    assert reward([]).shape == (0,)


def test_the_reward_plugs_into_an_environment(learned):
    reward = load_reward(learned)
    env = gym.make(CHAT, reward=reward)
    env.reset(seed=1)
    _, earned, *_, info = env.step("That sounds hard. How is your work?")
    assert info["reward_terms"]["decomposed"] == pytest.approx(earned, abs=1e-6)
    assert reward.low <= float(earned) <= reward.high


def test_a_silent_agent_has_no_reward(learned):
    with pytest.raises(ValueError, match="said nothing yet"):
        load_reward(learned)([Dialogue(Scenario(""), ("listener", "speaker"))])


def test_rewards_of_rudder_sum_to_its_last_prediction(chats, tmp_path):
    fit_reward(settings(chats, tmp_path, method="rudder", steps=20))
    reward = load_reward(tmp_path / "run")
    dialogue = next(iter(Episodes.load(chats))).dialogue
    (turns,) = reward.turns([dialogue])
    assert reward([dialogue])[0] == pytest.approx(turns[-1])
    assert np.isinf(reward.high)
    head = LstmHead(5)
    rewards = head(torch.randn(2, 7, 5))
    assert rewards.shape == (2, 7)
    earlier = head(torch.randn(1, 1, 5))
    assert earlier.shape == (1, 1)


def test_a_damaged_model_is_refused(learned, tmp_path):
    import shutil

    shutil.copytree(learned / "reward", tmp_path / "reward")
    with open(tmp_path / "reward" / checkpoint.ARRAYS, "r+b") as file:
        file.seek(200)
        file.write(b"xxxx")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        Decomposed(tmp_path / "reward")


# --- heads ------------------------------------------------------------------------------------------


def test_the_head_of_the_sheet():
    head = HeadSpec("geli", dropout=0.2).make(1024)
    assert isinstance(head, GeliHead)
    assert sum(parameter.numel() for parameter in head.parameters()) == 131_072 + 128 + 128 + 1
    assert head.output_dropout.p == 0
    encodings = 100 * torch.randn(4, 3, 1024)
    head.eval()
    rewards = head(encodings)
    assert torch.equal(rewards, head(encodings))
    assert rewards.abs().max() <= 1
    head.train()
    assert not torch.equal(head(encodings), head(encodings))


@pytest.mark.parametrize("changes", [{"name": "cnn"}, {"dropout": 1.0}, {"limit": 0.0}])
def test_a_head_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        HeadSpec(**changes)


def test_saved_and_loaded_it_scores_the_same(tmp_path):
    spec = HeadSpec("mlp", hidden=8)
    model = TurnModel(spec.make(4), spec, 4, mean=torch.ones(4), spread=torch.full((4,), 2.0))
    model.save(tmp_path / "model")
    encodings = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        TurnModel.load(tmp_path / "model").score_turns(encodings), model.score_turns(encodings)
    )


# --- data -------------------------------------------------------------------------------------------


def broken():
    """Conversations of which the last three are bad, each in its own way."""
    task = task_of(CHAT, {})
    good = [recorded(task, number) for number in range(3)]
    short = Dialogue(Scenario(""), ("listener", "speaker")).said("speaker", "Hi.").said("listener", "Hello.")
    one = Recorded(7, short, (0.0,), (0.0,), signals={"affect": (1.0,)}, score=0.5)
    return [*good, replace(good[0], score=None), one, replace(good[1], score=9.0)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [(3, "expected a score of the conversation"), (4, "at least 2 turns"), (5, r"score in \[0, 1\], got 9")],
)
def test_bad_conversations_are_named(bad, message, tmp_path):
    from dialog_gym.rewards.decomposition.cache import EncodingCache

    cache = EncodingCache(tmp_path, Lengths())
    wanted = Wanted(local="affect", score_range=(0, 1))
    with pytest.raises(DatasetError, match=f"conversation 0 .*{message}.*--skip-bad"):
        read([broken()[bad]], cache, wanted)


def test_bad_conversations_are_left_out_and_counted(tmp_path):
    from dialog_gym.rewards.decomposition.cache import EncodingCache

    wanted = Wanted(local="affect", score_range=(0, 1), skip_bad=True)
    found = read(broken(), EncodingCache(tmp_path, Lengths()), wanted)
    assert (len(found.conversations), found.skipped, len(found.bad)) == (3, 3, 3)
    with pytest.raises(DatasetError, match=r"none that can be used; the first of 1 bad"):
        read(broken()[3:4], EncodingCache(tmp_path, Lengths()), wanted)


def test_nan_and_infinite_numbers_are_bad(tmp_path):
    from dialog_gym.rewards.decomposition.cache import EncodingCache

    one = broken()[0]
    cache = EncodingCache(tmp_path, Lengths())
    with pytest.raises(DatasetError, match="expected a score in"):
        read([replace(one, score=float("nan"))], cache, Wanted())
    infinite = {"affect": (float("inf"),) * one.dialogue.turn}
    with pytest.raises(DatasetError, match="expected finite"):
        read([replace(one, signals=infinite)], cache, Wanted(local="affect"))


def test_a_signal_that_is_not_there_is_told(chats, tmp_path):
    with pytest.raises(ValueError, match="smile"):
        fit_reward(settings(chats, tmp_path, local="smile"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"local": ""}, "needs a local signal"),
        ({"weight": 1.5}, "lambda"),
        ({"k": 1}, "at least 2"),
        ({"method": "li", "link": "fitted"}, "own scale"),
        ({"method": "rudder", "head": "mlp"}, "lstm"),
        ({"method": "rrd", "head": "lstm"}, "every turn"),
        ({"method": "geli", "head": "lstm", "k": 3}, "every turn"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"score_range": (9.0, 1.0)}, "lowest and the highest"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Args(**{"episodes": "x", "local": "affect", **changes})


def test_the_split_keeps_both_sides_of_a_talk_together_and_is_even():
    out = [held_out(f"talk {number}", 0.2, 1) for number in range(4000)]
    assert abs(np.mean(out) - 0.2) < 0.02
    assert out != [held_out(f"talk {number}", 0.2, 2) for number in range(4000)]


def test_what_reports_on_a_head_has_not_chosen_it_and_both_sides_of_a_talk_stay_together():
    rows, local = np.zeros(0, np.int64), np.zeros(0, np.float32)
    sides = [Conversation(f"talk {number // 2}", rows, 0.0, local, None) for number in range(200)]
    parts = parted(sides, 0.2, 1)
    keys = [{one.key for one in part} for part in parts]
    assert [sum(map(len, parts)), sum(map(len, keys))] == [200, 100]
    assert 0 <= len(keys[1]) - len(keys[2]) <= 1
    with pytest.raises(DatasetError, match="1 held out"):
        parted([one for one in sides if one.key in {*list(keys[0])[:3], min(keys[1])}], 0.2, 1)


def test_standard_units_make_scores_sums_of_turns_of_unit_spread(chats, tmp_path):
    from dialog_gym.rewards.decomposition.cache import EncodingCache

    found = read(records(chats), EncodingCache(tmp_path, Lengths()), Wanted(local="affect")).conversations
    train, _, _ = parted(found, 0.2, 1)
    scale = scale_of(train, settings(chats, tmp_path))
    turns = np.mean([len(one.rows) for one in train])
    standard = np.array([(one.score - scale.offset) / scale.unit for one in train])
    assert standard.mean() == pytest.approx(0, abs=1e-6)
    assert standard.std() == pytest.approx(turns**0.5, rel=1e-6)
    with pytest.raises(ValueError, match="nothing to decompose"):
        scale_of([one._replace(score=1.0) for one in train], settings(chats, tmp_path))


def test_the_truth_of_a_bargain_sums_to_the_return_less_the_value_of_the_beginning():
    from dialog_gym.env import advance, begin

    task: Any = task_of(BARGAIN, {})
    state, earned = begin(task, 5), 0.0
    first = task.value(state)
    while not state.stop_reason:
        outcome = advance(task, [state], [task.policies()["infers"](state)])
        state, earned = outcome.dialogues[0], earned + outcome.rewards[0]
    zeros = (0.0,) * state.turn
    truth = true_turns(Recorded(5, state, zeros, zeros, env=BARGAIN))
    assert truth is not None
    assert sum(truth) == pytest.approx(earned - first)
    other = Recorded(5, state.said("buyer", "more"), (*zeros, 0.0), (*zeros, 0.0), env=BARGAIN)
    assert true_turns(other) is None  # it was not played so
    steered = Recorded(5, state, zeros, zeros, env="dialog_gym/BargainPrefix-v0")
    speaks = {"lm": "tiny-bargain", "prefix": "pca", "observer": None, "state": "last"}
    ways = {"temperature": 1.0, "max_tokens": 24, "partner": None, "reward": "Success", "side": "buyer"}
    assert true_turns(replace(steered, env_kwargs={**speaks, **ways})) == truth  # none of it moves the truth
    assert true_turns(replace(steered, env_kwargs={"partner": "tiny"})) is None  # whose mind nobody knows
    assert true_turns(replace(steered, env_kwargs={"gone": 1})) is None  # the environment has no such setting any more


# --- metrics, and the objective ---------------------------------------------------------------------


def test_correlations_by_hand():
    learned = [np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0])]
    truth = [np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])]
    found = correlations(learned, truth)
    assert found["pearson_dialogue"] == pytest.approx(0.5)  # 1 and, where the reward is constant, 0
    assert found["pearson"] == pytest.approx(np.corrcoef(np.concatenate(learned), np.concatenate(truth))[0, 1])
    assert ranks(np.array([3.0, 1.0, 3.0, 3.0])).tolist() == [3.0, 1.0, 3.0, 3.0]


def test_classes_of_a_binary_and_of_a_graded_signal():
    smile = np.array([0.0, 1.0, np.nan, 1.0])
    assert by_class(np.array([1.0, 2.0, 9.0, 4.0]), smile, classes(smile)) == {"0": 1.0, "1": 3.0}
    graded = np.linspace(0, 1, 30)
    found = by_class(graded, graded, classes(graded))
    assert list(found) == ["low", "middle", "high"]
    assert found["low"] < found["middle"] < found["high"]
    seldom = np.concatenate([np.zeros(50), np.linspace(0.1, 1, 10)])  # both thirds end at 0
    assert by_class(seldom, seldom, classes(seldom)) == {"low": 0.0, "high": pytest.approx(0.55)}


def test_of_a_corpus_recordings_are_not_hashed(tmp_path):
    for name in ("talk/survey.csv", "talk/processed/talk.mp3", "talk/face.PNG", "talk/metadata.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = data_files(f"corpus:candor:{tmp_path}")
    assert found == [str(tmp_path / "talk/metadata.json"), str(tmp_path / "talk/survey.csv")]


def test_conversations_that_a_corpus_leaves_out_count_among_all(tmp_path, caplog):
    class Corpus(list[Any]):
        skipped, bad = 2, ["talk 7: no survey"]

    from dialog_gym.rewards.decomposition.cache import EncodingCache

    found = read(Corpus(broken()[:4]), EncodingCache(tmp_path, Lengths()), Wanted(local="affect", skip_bad=True))
    assert (found.skipped, found.bad[0]) == (3, "talk 7: no survey")
    assert "3 of 6 conversations were left out" in caplog.text


def test_the_objective_of_geli_has_both_ends_and_its_signal_may_be_on_another_scale():
    rewards, mask = torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, dtype=torch.bool)
    turns, score, local = torch.tensor([2]), torch.tensor([2.0]), torch.tensor([[0.0, 1.0]])

    def loss(weight, **more):
        return float(objective("geli", (rewards, rewards), mask, turns, score, local, weight=weight, **more))

    assert (loss(1.0, per_turn=False), loss(1.0), loss(0.0), loss(0.5)) == (4.0, 2.0, 2.5, 2.25)
    learner = Learner(torch.nn.Identity(), "fitted")
    learner.shift.data.fill_(3.0)
    learner.log_gain.data.fill_(float(np.log(2.0)))
    given, shown = learner(rewards)
    assert given.tolist() == [[1.0, 3.0]]
    torch.testing.assert_close(shown, torch.tensor([[5.0, 9.0]]))


def test_models_in_a_stack_are_trained_as_if_alone():
    generator = torch.Generator().manual_seed(0)
    pool = Pool(torch.randn(30, 4, 3, generator=generator), torch.randint(1, 5, (30,), generator=generator))
    order = torch.stack([torch.randperm(30, generator=generator) for _ in range(2)])
    scores, local = torch.randn(2, 30, generator=generator), torch.randn(2, 30, 4, generator=generator)
    both = Lessons(order[:, :20], order[:, 20:], scores, local)
    recipe = Recipe("geli", steps=6, eval_every=3, batch=5)
    one = predict_stacked(recipe, fit_stacked(recipe, pool, both, 1), pool)
    changed = Lessons(both.train, both.held, torch.stack([scores[0], -scores[1]]), both.local)
    two = predict_stacked(recipe, fit_stacked(recipe, pool, changed, 1), pool)
    torch.testing.assert_close(one[0], two[0])
    assert (one[1] - two[1]).abs().max() > 1e-3


# --- the command ------------------------------------------------------------------------------------


def test_the_command_prints_json_and_draws(chats, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = [
        "--episodes",
        str(chats),
        "--method",
        "geli",
        "--local",
        "affect",
        "--lambda",
        "0.25",
        "--encoder",
        "facts",
    ]
    words += ["--notation", "Chat-v0", "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    run([*words, "--steps", "20", "--eval-every", "10", "--no-progress", "--track", "none", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["weight"] == 0.25
    assert told["settings"]["notation"] == CHAT
    assert [path.rpartition("/")[2] for path in told["plots"]] == ["losses.png", "truth.png", "classes.png"]
    assert all((tmp_path / "run" / path.rpartition("/")[2]).stat().st_size > 1000 for path in told["plots"])

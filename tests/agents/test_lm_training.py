"""The training that language-model policies share: equivalences, resuming, what it keeps and refuses."""

import json
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]

from dialog_gym.agent import load_agent
from dialog_gym.agents import tf
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_recorded import batch_rows, parted
from dialog_gym.agents.lm_steps import DivergedError, StepArgs, Stepper, learning_rate
from dialog_gym.agents.lm_tokens import batch_of
from dialog_gym.agents.lm_training import DataArgs, cross_entropy
from dialog_gym.data.episodes import Episodes
from dialog_gym.runs import RunFolderError
from tests.agents.contract import numbers
from tests.agents.graph import GRAPH, random_walks, walker
from tests.agents.test_lm_tokens import row_of
from tests.lm.models import llama

QUICK: dict[str, Any] = {
    "env": GRAPH,
    "max_tokens": 4,
    "batch": 8,
    "steps": 6,
    "eval_every": 2,
    "checkpoint_every": 3,
    "log_every": 1,
}
QUIET: dict[str, Any] = {"eval_episodes": 2, "track": "none", "progress": False, "samples": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    return str(random_walks(tmp_path_factory.mktemp("walks") / "data", 60))


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm", width=16, layers=1)


@pytest.fixture
def args(walks, spec, tmp_path):
    return tf.AllArgs(data=(walks,), lm=spec, out=str(tmp_path / "a"), **QUICK, **QUIET)


def weights(agent):
    return {name: value.detach().clone() for name, value in agent.network.named_parameters()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- steps -----------------------------------------------------------------------------------


def rows(count=8):
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 30, count)
    return [row_of(rng.integers(2, 300, n), range(2, n, 2), [0] * len(range(2, n, 2))) for n in lengths]


def stepped(parts, *, dropout=0.0, **settings):
    args = StepArgs(**{"batch": 8, "lr": 0.1, "schedule": "constant", "warmup": 0.0, **settings})
    network = LMNetwork(llama(attention_dropout=dropout))
    stepper = Stepper(network, args, Accelerator(cpu=True), 10)

    def loss(part):
        batch = batch_of(part)
        found = stepper.network(batch.tokens, batch.positions, batch.where)
        return cross_entropy(found.logits, batch.actions).sum(), {}

    told = [stepper.step(parts, loss, sum(len(row.said) for part in parts for row in part)) for _ in range(2)]
    return network, told


def test_a_batch_of_8_is_2_of_4_accumulated():
    every = rows()
    whole, losses = stepped([every])
    parts, theirs = stepped([every[:4], every[4:]])
    for one, other in zip(losses, theirs, strict=True):
        torch.testing.assert_close(one["loss"], other["loss"])
        torch.testing.assert_close(one["gradient"], other["gradient"], rtol=1e-4, atol=1e-6)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # Adam divides rounding by rounding


def test_dropout_follows_from_the_seed_and_leaves_torch_alone():
    before = torch.get_rng_state()
    (one, _), (again, _), (other, _) = (stepped([rows()], dropout=0.5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert same(dict(one.named_parameters()), dict(again.named_parameters()))
    assert not same(dict(one.named_parameters()), dict(other.named_parameters()))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change():
    network = LMNetwork(llama())
    stepper = Stepper(network, StepArgs(), Accelerator(cpu=True), 10)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}

    def loss(part):
        found = stepper.network(torch.tensor([[1, 2]]), torch.arange(2)[None], torch.arange(2))
        return found.logits.sum() * float("nan"), {}

    with pytest.raises(DivergedError, match="the gradient of step 1 is not finite: the last"):
        stepper.step([0], loss, 1.0)
    assert same(before, dict(network.named_parameters()))


def test_the_learning_rate_rises_and_falls():
    args = StepArgs(lr=2.0, warmup=0.5)
    assert [round(learning_rate(step, 8, args), 3) for step in range(8)] == [
        0.5,
        1.0,
        1.5,
        2.0,
        2.0,
        1.707,
        1.0,
        0.293,
    ]
    assert learning_rate(7, 8, replace(args, schedule="constant")) == 2.0


def test_recomputing_activations_changes_nothing():
    (one, _), (other, _) = stepped([rows()]), stepped([rows()], recompute=True)
    for name, value in one.named_parameters():
        torch.testing.assert_close(value, dict(other.named_parameters())[name], rtol=1e-4, atol=1e-5)


# --- data ------------------------------------------------------------------------------------


def test_every_dialogue_comes_once_before_any_comes_again():
    drawn = [place for step in range(6) for place in batch_rows(10, 5, step, seed=3)]
    assert all(sorted(drawn[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert drawn[:10] != drawn[10:20]
    assert sorted(batch_rows(3, 5, 0, seed=3)[:3]) == [0, 1, 2]  # fewer than a batch


def test_contexts_are_held_out_whole():
    every = [Told((), (), (), group=group) for group in (0, 0, 0, 1, 1, 2, 3)]
    train, out = parted(every, 0.25, seed=0)
    assert len(train) + len(out) == 7
    assert len({one.group for one in out}) == 1
    assert not {one.group for one in out} & {one.group for one in train}
    assert parted(every, 0.0, seed=0) == (every, [])


def test_rankings_of_one_prompt_are_held_out_together():
    prompts = [({"role": "user", "content": str(number % 5)},) for number in range(50)]
    every = [Told((prompt,), ("a",), (0.0,), group=n, ranked=True) for n, prompt in enumerate(prompts)]
    for seed in range(5):
        train, out = parted(every, 0.4, seed)
        assert len(out) == 20
        assert not {str(one.prompts) for one in out} & {str(one.prompts) for one in train}


# --- the run ---------------------------------------------------------------------------------


def test_a_run_that_is_stopped_goes_on_to_the_same_numbers(args, tmp_path):
    whole = tf.train_all(args)
    again = tf.train_all(replace(args, out=str(tmp_path / "b")))
    assert same(weights(whole), weights(again))
    calls = []

    def killed(agent):
        calls.append(agent)
        if len(calls) == 2:  # at step 4, the checkpoint is of step 3
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        tf.train_all(replace(args, out=str(tmp_path / "c")), evaluate=killed)
    resumed = tf.train_all(replace(args, out=str(tmp_path / "c")))
    assert same(weights(whole), weights(resumed))
    mine, theirs = numbers(tmp_path / "a"), numbers(tmp_path / "c")
    assert mine[3:] == theirs[3:]
    with pytest.raises(RunFolderError, match=r"args.lr \(there 0.001, now 0.5\)"):
        tf.train_all(replace(args, out=str(tmp_path / "c"), lr=0.5))


def test_a_run_holds_the_best_policy_samples_and_what_it_is(args, tmp_path):
    state = torch.get_rng_state()
    args = replace(args, lr=1.0, schedule="constant", warmup=0.0, steps=8)  # goes up and down
    agent = tf.train_all(replace(args, track="tensorboard"))
    assert torch.equal(state, torch.get_rng_state())
    found = numbers(tmp_path / "a")
    losses = {one["step"]: one["eval/loss"] for one in found if "eval/loss" in one}
    assert list(losses) == [2, 4, 6, 8]
    training = tf.Training(tf.TFAll, args)
    training.agent = cast(tf.TFAll, load_agent(tmp_path / "a"))
    assert training.score_held_out()["eval/loss"] == pytest.approx(min(losses.values()), rel=1e-5)
    assert same(weights(load_agent(tmp_path / "a")), weights(agent))
    assert {"train/loss", "train/gradient", "train/epoch", "eval/return", "eval/accuracy", "eval/perplexity"} <= {
        name for one in found for name in one
    }
    (line, _) = (tmp_path / "a" / "samples" / "step-000000008.jsonl").read_text().splitlines()
    sample = json.loads(line)
    assert set(sample) == {"step", "context", "said", "reference"}
    assert sample["context"].endswith("<|assistant|>")
    assert list((tmp_path / "a").glob("events.*"))
    last = tf.train_all(replace(args, best="none", out=str(tmp_path / "last")))
    assert not same(weights(last), weights(agent))


def test_parts_packing_and_an_adapter_of_a_run(args, tmp_path):
    whole = tf.train_all(replace(args, eval_every=0))
    parts = tf.train_all(replace(args, eval_every=0, micro=4, packed=True, out=str(tmp_path / "b")))
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=1e-2, atol=2e-3)
    lora = tf.train_all(replace(args, lora=2, out=str(tmp_path / "c")))
    resumed = load_agent(tmp_path / "c")
    assert same(weights(lora), weights(resumed))


def test_epochs_give_the_number_of_updates(args, tmp_path):
    training = tf.Training(tf.TFAll, replace(args, epochs=2.0))
    assert training.total == -(-2 * len(training.train_rows) // 8)
    assert len(training.train_rows) + len(training.held_rows) == 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": ()}, "expected data to learn from"),
        ({"data": ("nowhere",)}, "nowhere"),
        ({"env": "dialog_gym/BargainPrefix-v0"}, "expected actions that are text"),
        ({"limit": 1, "held_out": 0.5, "data": "empty"}, "no dialogue has a turn of the agent"),
        ({"max_length": 8}, "longer than the 8 positions"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_training(args, tmp_path, settings, message):
    if settings.get("data") == "empty":
        Episodes.writing(tmp_path / "empty").close()
        settings = {**settings, "data": (str(tmp_path / "empty"),)}
    with pytest.raises(ValueError, match=message):
        tf.train_all(replace(args, **settings))
    assert not list((tmp_path / "a").glob("checkpoints/*"))


def test_settings_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="micro must divide batch, got micro=3 and batch=8"):
        DataArgs(batch=8, micro=3)
    with pytest.raises(ValueError, match="best='return' needs an environment"):
        DataArgs(env="", best="return")
    with pytest.raises(ValueError, match="held_out must be a share"):
        DataArgs(held_out=1.0)


def test_a_full_disk_keeps_the_last_checkpoint(args, tmp_path, monkeypatch):
    from dialog_gym.agents.lm_policy import LMPolicy

    saving = LMPolicy._save_model

    def full(self, folder):
        if "step-000000006" in str(folder):
            raise OSError(28, "No space left on device")
        saving(self, folder)

    monkeypatch.setattr(LMPolicy, "_save_model", full)
    with pytest.raises(RunFolderError, match=r"No space left on device. The checkpoint of step 3 is safe"):
        tf.train_all(args)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == ["step-000000003"]

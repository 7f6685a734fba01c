"""DPO and KTO: what is learned from, TRL's losses as they are set up here, resuming, and what is refused."""

import math
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dialog_gym.agent import load_agent
from dialog_gym.agents import dpo, kto, trl_trainers
from dialog_gym.agents.lm_network import load_model
from dialog_gym.agents.preference_data import (
    Context,
    class_weights,
    contexts,
    labelled,
    pairs,
    read_rankings,
    require_metric,
)
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.rollout import make_rows
from tests.agents.contract import numbers
from tests.agents.graph import random_walks, walker
from tests.test_chance import random_state

QUICK: dict[str, Any] = {
    "env": "",
    "max_tokens": 8,
    "batch": 8,
    "held_out": 0.2,
    "eval_every": 4,
    "log_every": 1,
    "checkpoint_every": 2,
    "track": "none",
    "progress": False,
    "device": "cpu",
    "lr": 5e-3,
}
BOTH = [(dpo, dpo.DPO), (kto, kto.KTO)]
AT_THE_END: dict[str, Any] = {"eval_every": 1000, "log_every": 1000, "checkpoint_every": 1000}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm")


def chat(*texts):
    roles = ["system", *["user", "assistant"] * len(texts)]
    return tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=False))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Forty contexts of two turns; good is a low node, costly to say it twice."""
    folder = tmp_path_factory.mktemp("ranked") / "r"
    rng = random.Random(0)
    with Rankings.writing(folder) as writer:
        for _ in range(40):
            best, middle, worst = sorted(rng.sample(range(12), 3))
            texts = (f"n{best}", f"n{middle} n{middle}", f"n{worst}")
            context = chat("from n1 .", f"at n{middle}", f"n{worst}", f"at n{best}")
            writer.add(Ranking(context, texts, (1.0, 0.5, 0.0), {"cost": (0.1, 0.9, 0.1)}))
    return str(folder)


@pytest.fixture
def args(ranked, spec, tmp_path):
    return {"data": (ranked,), "lm": spec, "out": str(tmp_path / "run"), **QUICK}


def ids(*tokens):
    return np.array(tokens, np.int32)


def context(values, group=0):
    return Context(ids(1, 2), tuple(ids(5 + place) for place in range(len(values))), tuple(values), group)


# --- pairs and labels --------------------------------------------------------------------------


def test_pairs_of_a_context():
    found = pairs([context([0.5, 1.0, 0.5, 0.0])])
    assert [(p.chosen.item(), p.rejected.item()) for p in found] == [(6, 5), (6, 7), (6, 8), (5, 8), (7, 8)]
    assert [(p.chosen.item(), p.rejected.item()) for p in pairs([context([0.5, 1.0, 0.5, 0.0])], which="best")] == [
        (6, 8)
    ]
    wide = pairs([context([0.5, 1.0, 0.5, 0.0])], margin=0.5)
    assert [(p.chosen.item(), p.rejected.item()) for p in wide] == [(6, 8)]  # by more than the margin


def test_labels_by_a_threshold_and_by_the_mean_of_the_context():
    every = [context([0.0, 0.4, 1.0]), context([2.0, 3.0, 4.0], 1)]

    def told(**how):
        return sorted((row.answer.item(), row.label) for row in labelled(every[:1], **how))

    assert told() == [(5, False), (6, False), (7, True)]  # the mean is .47
    assert told(threshold=0.4) == [(5, False), (6, True), (7, True)]  # reaching it is enough
    assert told(threshold=0.4, margin=0.1) == [(5, False), (7, True)]
    assert [row.label for row in labelled([context([2.0, 3.0, 4.0])], seed=1)].count(True) == 1  # 3 is the mean
    assert len(labelled(every)) == 5
    orders = [[(row.answer.item(), row.label) for row in labelled(every, seed=seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]  # shuffled, by the seed


def test_a_share_takes_what_differs_most_in_all_contexts_together():
    values = [(0.0, 0.125, 1.0), (3.0, 3.5, 3.625)]  # pairs differ by 1, .875, .125 and by .625, .5, .125
    every = [Context(ids(k), tuple(ids(10 * k + n) for n in range(3)), one, k) for k, one in enumerate(values)]

    def told(**how):
        return [(pair.chosen.item(), pair.rejected.item()) for pair in pairs(every, **how)]

    assert len(told()) == 6
    assert told(share=0.5) == [(2, 1), (2, 0), (12, 10)]
    assert told(share=0.01) == [(2, 0)], "never none"
    assert len(told(share=0.5, margin=0.55)) == 2, "half of the three that differ enough"
    assert len(pairs([context([0.0, 1.0, 2.0])], share=0.5)) == 3, "of those that differ alike all or none"
    farthest = labelled(every, share=1 / 6)  # .625 from the mean of its context
    assert [(row.answer.item(), row.label) for row in farthest] == [(2, True)]


@pytest.mark.parametrize("args", [dpo.Args, kto.Args])
@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_that_is_none_is_refused(args, share):
    with pytest.raises(ValueError, match="share must be"):
        args(share=share)


def test_the_partner_is_an_answer_to_another_context():
    every = [
        Context(ids(group), tuple(ids(10 * group + k) for k in range(4)), (0, 1, 2, 3), group) for group in range(5)
    ]
    rows = labelled(every, seed=3)
    assert all(row.other.item() // 10 != row.answer.item() // 10 for row in rows)
    assert len({row.other.item() for row in rows}) > 8


def test_class_weights_are_applied_once():
    rows = labelled([context([0.0, 0.1, 0.2, 1.0])])
    assert class_weights(rows) == (3.0, 1.0)
    good, bad = class_weights(rows)
    assert good * sum(r.label for r in rows) == bad * sum(not r.label for r in rows)


def test_bad_data_are_refused_before_anything_is_trained(args, tmp_path):
    folders = map(str, (tmp_path / str(number) for number in range(99)))

    def refused(rows, match, module: Any = dpo, **settings):
        folder = next(folders)
        with Rankings.writing(folder) as writer:
            for row in rows:
                writer.add(row)
        told = module.Args(**{**args, "data": (folder,), **settings})
        with pytest.raises(ValueError, match=match):
            module.train(told)
        assert not list(Path(args["out"]).glob("checkpoints/*"))

    prompt = chat("from n1 .")
    equal = [Ranking(prompt, ("n1", "n2"), (0.5, 0.5))] * 3
    refused(equal, "no pair to learn from: in none of 3 contexts do two different answers differ by more than 0 ")
    cut = [Ranking(prompt, ("n1 n2 n3", "n1 n2 n4"), (0.5, 1.0))] * 3  # alike when cut to one token
    refused(cut, "no pair to learn from.*3 have one text alone", max_tokens=1)
    refused(equal, "no answer to learn from: in none of 3 contexts is one further than 0 from the mean", kto)
    refused([*equal, Ranking(prompt, ("n1", "n2"), (0.5, 0.6))], "no pair to learn from", held_out=0.0, margin=0.1)
    refused(equal, "KTO needs desirable and undesirable answers, got 6 and 0: set threshold", kto, threshold=0.1)
    refused(equal, "no number named 'cost'; candidates have: score; choose another metric", metric="-cost")
    long = chat("n1 " * 200)
    refused([Ranking(long, ("n1", "n2"), (0.5, 1.0))] * 3, "candidate 0 in row 0 .*(too long|positions|tokens)")
    good = [Ranking(prompt, ("n1", "n2"), (0.5, 1.0))] * 3
    refused(good, "cannot load a causal language model from '/nowhere'", reference="hf:/nowhere")


@pytest.mark.parametrize(("module", "cls"), BOTH)
def test_held_out_contexts_need_have_nothing_to_learn(module, cls, args, tmp_path):
    with Rankings.writing(tmp_path / "r") as writer:
        for number in range(4):
            writer.add(Ranking(chat(f"from n{number} ."), ("n1", "n2"), (0.5, 1.0 if number == 0 else 0.5)))
    seed = next(seed for seed in range(99) if 0 not in np.random.default_rng([seed, 1]).permutation(4)[:1])
    told = module.Args(**{**args, "data": (str(tmp_path / "r"),), "seed": seed})
    training = module.Training(cls, told)
    assert training.train_rows
    assert not training.held_rows
    assert training.score_held_out() == {}


def test_white_space_around_an_answer_is_no_difference(spec, tmp_path):
    with Rankings.writing(tmp_path / "r") as writer:
        writer.add(Ranking(chat("from n1 ."), ("n1", " n1 ", "n2\n", "n2"), (0.5, 1.0, 0.2, 0.3)))
    lm = TransformersLM(*load_model(spec, "float32", "cpu"), "walker")
    (found,) = contexts(read_rankings([str(tmp_path / "r")], lm), lm)
    assert found.values == (0.5, 0.2)  # the first of each


def test_dialogues_are_no_rankings(spec, tmp_path):
    walks = str(random_walks(tmp_path / "walks", 2))
    with pytest.raises(DatasetError, match=r"row 0 of .*expected a ranking .* got a dialogue; `dialog-gym branch`"):
        read_rankings([walks], TransformersLM(*load_model(spec, "float32", "cpu"), "walker"))
    with pytest.raises(DatasetError, match="expected a ranking"):
        require_metric([walks], "score")


# --- tokens --------------------------------------------------------------------------------------


def test_what_is_learned_is_what_the_policy_reads_and_draws(tmp_path):
    """Rankings that are branched from a policy hold, as tokens, its own prompts and what it drew."""
    env = "dialog_gym/Bargain-v0"
    policy = dpo.DPO.build(dpo.Args(**{**QUICK, "lm": "tiny", "env": env, "max_tokens": 32}))
    rows = make_rows(env, 4)
    observations, infos = rows.reset(seed=5)
    _, _, _, _, infos = rows.step(policy.act(observations, infos))
    states = [dialogue for dialogue in infos["dialogue"] if not dialogue.stop_reason]
    said = policy.speak(states)
    assert states
    with Rankings.writing(tmp_path / "r") as writer:
        for state, one in zip(states, said, strict=True):
            assert one is not None
            made = Ranking(
                tuple(state.messages(state.roles[0])),
                (one.text, "no."),
                (1.0, 0.0),
                dialogue=state,
                meta={"env": env},
            )
            writer.add(made)
    told = read_rankings([str(tmp_path / "r")], policy.lm, policy.task)
    found = contexts(told, policy.lm, max_tokens=32)
    for one, row in zip(said, found, strict=True):
        assert one is not None
        assert row.prompt.tolist() == one.prompt
        assert row.answers[0].tolist() == list(one.drawn.tokens)


def test_the_oldest_turns_go_first(spec):
    lm = TransformersLM(*load_model(spec, "float32", "cpu"), "walker")
    turns = [f"{'at' if k % 2 else ''} n{k % 12} n{k % 7}" for k in range(60)]
    row = Ranking(chat("from n1 .", *turns[1:]), ("n1", "n2"), (0.0, 1.0))
    short = Ranking(chat("from n1 .", *turns[-3:]), ("n1", "n2"), (0.0, 1.0))
    told = [list(_told(one)) for one in (row, short)]
    cut, whole = (contexts(one, lm, max_tokens=8)[0].prompt for one in told)
    assert len(cut) <= (lm.max_positions or 0) - 8
    text, tail = str(lm.tokenizer.decode(cut)), str(lm.tokenizer.decode(whole))
    assert text.startswith(tail[: tail.index("at")])  # the system message stays
    assert text.endswith(tail[tail.index("at") :])  # and so do the last turns


def _told(row):
    from dialog_gym.agents.lm_data import Told

    for text, score in zip(row.candidates, row.scores, strict=True):
        yield Told((list(row.messages),), (text,), (score,))


# --- losses, by hand ---------------------------------------------------------------------------------


class Says:
    """A model that gives the sums of log-probabilities that it is told, in turn."""

    def __init__(self, *sums):
        self.sums = [torch.tensor(one, requires_grad=True) for one in sums]
        self.calls = iter(self.sums)

    def __call__(self, input_ids, **_):
        logps = next(self.calls)[:, None] / (input_ids.shape[1] - 1) * torch.ones(1, input_ids.shape[1] - 1)
        zeros = torch.zeros_like(logps)
        return SimpleNamespace(log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def batch(training, rows):
    return training.trainer.data_collator([row.example() for row in rows])


def test_the_loss_of_dpo_by_hand(args):
    """Log-ratios 1 and -.5 at beta .1: -log sigmoid(.15); log-ratios are sums over tokens, whatever the lengths."""
    training = dpo.Training(dpo.DPO, dpo.Args(**args))
    row = replace(training.train_rows[0], reference=(-4.0, -4.5))
    loss = training.trainer.compute_loss(Says([-3.0, -5.0]), batch(training, [row]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-0.15)))
    ipo = dpo.Training(dpo.DPO, dpo.Args(**args, loss="ipo", beta=0.5))
    row = replace(row, chosen=ids(5, 6), rejected=ids(7))
    loss = ipo.trainer.compute_loss(Says([-3.0, -5.0]), batch(ipo, [row]))
    assert loss.item() == pytest.approx((1 / 2 + 0.5 / 1 - 1) ** 2)  # means over tokens; 1 / (2 beta) = 1


def test_the_loss_of_kto_by_hand(args):
    """Weights 1 and 2 (two desirable for each undesirable), beta .1; log-ratios 1 and -.5; z is .3, or 0."""
    training = kto.Training(kto.KTO, kto.Args(**args, threshold=0.5))
    assert class_weights(training.train_rows) == (1.0, 2.0)
    good = replace(next(row for row in training.train_rows if row.label), reference=(-4.0, -6.0))
    bad = replace(next(row for row in training.train_rows if not row.label), reference=(-4.5, -6.0))

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    for distances, z in (([0.8, -0.2], 0.3), ([0.2, -2.0], 0.0)):  # below 0 it is 0
        model = Says([-6.0 + d for d in distances], [-3.0, -5.0])
        loss = training.trainer.compute_loss(model, batch(training, [good, bad]))
        expected = ((1 - sigmoid(0.1 * (1 - z))) + 2 * (1 - sigmoid(0.1 * (z + 0.5)))) / 2
        assert loss.item() == pytest.approx(expected)
        loss.backward()
        assert model.sums[0].grad is None  # no gradient through z
        assert model.sums[1].grad is not None
    for alone, value in ((good, 1 - sigmoid(0.1)), (bad, 2 * (1 - sigmoid(0.05)))):
        logp = -3.0 if alone.label else -5.0
        loss = training.trainer.compute_loss(Says([-6.0] * 2, [logp] * 2), batch(training, [alone, alone]))
        assert loss.item() == pytest.approx(value)  # a batch of one class is finite


@pytest.mark.parametrize(("module", "cls"), BOTH)
def test_the_reference_is_the_model_that_training_began_with(module, cls, args, spec):
    """In the first step the policy is the reference: DPO loses log 2, KTO one half, and all rewards are 0."""
    training = module.Training(cls, module.Args(**args))
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    training.advance()
    told = training.pop_metrics()
    assert told["train/loss"] == pytest.approx(math.log(2) if module is dpo else 0.5, abs=1e-5)
    assert told["train/rewards/chosen"] == pytest.approx(0, abs=1e-5)
    module.Training(cls, module.Args(**args))
    after = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after  # TRL seeds all of them
    row = training.train_rows[0]
    answer = row.chosen if module is dpo else row.answer
    model, _ = load_model(spec, "float32", "cpu")
    whole = torch.tensor([[*row.prompt.tolist(), *answer.tolist()]])
    logps = model(whole).logits.log_softmax(-1)[0, len(row.prompt) - 1 : -1]
    by_hand = logps.gather(1, torch.tensor(answer.tolist())[:, None]).sum().item()
    assert row.reference[0] == pytest.approx(by_hand, abs=1e-4)


def test_another_reference_can_be_named(args, tmp_path):
    other = walker(tmp_path / "other", layers=1)
    mine, theirs = (
        dpo.Training(dpo.DPO, dpo.Args(**args, reference=reference)).train_rows[0].reference
        for reference in ("", other)
    )
    assert mine != pytest.approx(theirs, abs=1e-3)
    plain = dpo.Training(dpo.DPO, dpo.Args(**{**args, "lm": other})).train_rows[0].reference
    assert theirs == pytest.approx(plain, abs=1e-5)


# --- training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "cls"), BOTH)
@pytest.mark.parametrize("lora", [0, 4])
def test_it_learns_what_is_preferred_and_can_be_loaded(module, cls, lora, args):
    told = module.Args(**{**args, **AT_THE_END, "lora": lora, "epochs": 6.0, "lr": 2e-2 if lora else 5e-3})
    policy = module.train(told)
    last = numbers(Path(args["out"]))[-1]
    assert last["eval/rewards/margins"] > (0.01 if lora else 0.3)  # an adapter of a random model learns slowly
    if module is dpo and not lora:
        assert last["eval/rewards/accuracies"] > 0.8
    assert policy.network.plain.config.use_cache  # else generation is many times slower
    assert "forward" not in vars(policy.network.plain)
    loaded = load_agent(args["out"])
    assert isinstance(loaded, cls)
    theirs = dict(loaded.network.named_parameters())
    for name, value in policy.network.named_parameters():
        assert torch.equal(value, theirs[name])
    assert list(theirs) == list(dict(cls.build(told).network.named_parameters()))  # nothing of TRL's is left


def test_a_trainer_that_fails_leaves_what_others_draw_alone(args, monkeypatch):
    class Failing(trl_trainers.TokenDPO):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            raise RuntimeError("no trainer")

    monkeypatch.setattr(trl_trainers, "TokenDPO", Failing)
    state = random_state()
    with pytest.raises(RuntimeError, match="no trainer"):
        dpo.Training(dpo.DPO, dpo.Args(**args))
    assert random_state() == state


def test_the_cost_is_learned_to_be_low(args):
    dpo.train(dpo.Args(**{**args, **AT_THE_END, "metric": "-cost", "epochs": 4.0}))
    assert numbers(Path(args["out"]))[-1]["eval/rewards/accuracies"] > 0.8


@pytest.mark.parametrize(("module", "cls", "lora"), [(dpo, dpo.DPO, 0), (kto, kto.KTO, 4)])
def test_killed_at_a_random_moment_and_resumed_it_ends_the_same(module, cls, lora, args, tmp_path):
    told = module.Args(**{**args, "lora": lora, "epochs": 0.0, "steps": 24, "lora_dropout": 0.1 if lora else 0.0})
    whole = module.train(replace(told, out=str(tmp_path / "whole")))
    killed = Path(told.out)
    process = multiprocessing.get_context("fork").Process(target=module.train, args=(told,))
    process.start()
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.1))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (killed / "result.json").exists()
    resumed = module.train(told)
    theirs = dict(whole.network.named_parameters())
    for name, value in resumed.network.named_parameters():
        assert torch.equal(value, theirs[name])
    assert numbers(tmp_path / "whole") == numbers(killed)


def test_the_parts_of_a_batch_do_not_matter_to_dpo(args):
    whole, parts = (dpo.Training(dpo.DPO, dpo.Args(**args, micro=micro)) for micro in (0, 2))
    for training in (whole, parts):
        training.advance()
    for one, other in zip(whole.agent.network.parameters(), parts.agent.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # Adam divides rounding by rounding


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"beta": 0.0}, "beta must be above 0, got 0"),
        ({"margin": -1.0}, "margin must be at least 0"),
        ({"label_smoothing": 0.5}, "label_smoothing must be a share from 0 and below 0.5"),
        ({"label_smoothing": 0.1, "loss": "ipo"}, "label_smoothing is for loss='sigmoid'"),
        ({"best": "return", "env": ""}, "best='return' needs an environment"),
        ({"held_out": 1.0}, "held_out must be a share"),
    ],
)
def test_settings_that_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        dpo.Args(**settings)


def test_kto_needs_two_rows_at_once():
    with pytest.raises(ValueError, match="batch and micro must be 2 or more"):
        kto.Args(batch=4, micro=1)

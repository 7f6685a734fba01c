"""Fitting: what goes into a batch, that it learns, and that it is the same twice."""

import numpy as np
import pytest
import torch

from dialog_gym.lm.base import Sampling
from dialog_gym.lm.control import control_report, edit_similarity
from dialog_gym.lm.fitting import (
    Example,
    FitSettings,
    fit_prefix,
    own_replies,
    reply_loss,
    said_replies,
    teacher_batch,
)
from dialog_gym.lm.prefix import PcaMap, SteerMap
from tests.lm.models import lm
from tests.lm.test_session import assert_close, chat

QUICK = FitSettings(steps=3, batch=4, max_tokens=8)


@pytest.mark.parametrize("position", ["start", "end"])
def test_a_batch_is_longer_by_the_prefix_and_learns_the_reply_alone(position):
    model = lm()
    examples = said_replies(model, [chat(2, 1), chat(4, 2)], FitSettings())
    prefix = torch.full((3, 2, 32), 7.0)
    batch = teacher_batch(model, examples, prefix, position)
    bare = teacher_batch(model, examples, prefix[:, :0], position)
    assert batch.inputs.shape[1] == bare.inputs.shape[1] + 2
    for row, example in enumerate(examples):
        where = (batch.inputs[row] == 7.0).all(1).nonzero()[:, 0].tolist()
        reply = (batch.labels[row] != -100).nonzero()[:, 0].tolist()
        first = batch.seen[row].nonzero()[0, 0].item()
        wanted = reply[0] - 2 if position == "end" else first + 1
        assert where == [wanted, wanted + 1]
        assert batch.labels[row, reply].tolist() == example.reply
        assert batch.seen[row].sum() == len(example.prompt) + 2 + len(example.reply)
        assert example.reply[-1] == model.tokenizer.convert_tokens_to_ids("<|end|>")


def test_the_loss_is_minus_the_log_probability():
    model = lm()
    prompts = [chat(1, 1), chat(3, 2)]
    replies = [[9, 8, 7], [30]]
    examples = [
        Example(p, r, "", np.zeros(32, np.float32)) for p, r in zip(model.encode(prompts), replies, strict=True)
    ]
    losses = reply_loss(model, teacher_batch(model, examples, torch.zeros(2, 0, 32), "end"))
    assert_close(losses, [-scores.mean() for scores in model.logprobs(prompts, replies)])


def test_the_state_is_that_of_the_prompt_alone():
    model = lm()
    talk = chat(4, 3)
    said = said_replies(model, [talk], FitSettings())
    other = said_replies(model, [[*talk[:4], {"role": "assistant", "content": "else"}]], FitSettings())
    assert [example.text for example in said] != [example.text for example in other]
    for example, changed, prompt in zip(said, other, (talk[:2], talk[:4]), strict=True):
        assert_close(example.state, model.embed([prompt])[0])
        assert_close(example.state, changed.state)


def test_a_clone_learns_from_what_the_model_itself_says():
    model = lm()
    settings = FitSettings(max_tokens=6, samples=2)
    examples = own_replies(model, [chat(1), chat(4)], settings, seed=5)
    assert len(examples) == 2 + 2 * 2  # a chat without a reply is a prompt
    assert [e.reply for e in examples] == [e.reply for e in own_replies(model, [chat(1), chat(4)], settings, seed=5)]
    assert [e.reply for e in examples] != [e.reply for e in own_replies(model, [chat(1), chat(4)], settings, seed=6)]


@pytest.mark.parametrize(("kind", "informed"), [("clone", False), ("clone", True), ("steer", True)])
def test_a_fit_learns_and_leaves_the_model_as_it_was(kind, informed):
    model = lm()
    before = model.fingerprint()
    settings = FitSettings(steps=40, batch=8, max_tokens=8, informed=informed, samples=2, rates=(5e-3, 2e-2, 5e-3))
    chats = [chat(4, seed) for seed in range(4)]
    fitted = fit_prefix(kind, model, chats, action_size=4, settings=settings, progress=False)
    assert np.mean(fitted.losses[-10:]) < np.mean(fitted.losses[:5])
    assert model.fingerprint() == before
    assert not any(p.requires_grad for p in [*model.model.parameters(), *fitted.lm.model.parameters()])
    assert (fitted.lm is model) == (kind == "clone")
    fitted.map.check(fitted.lm)
    assert np.isfinite(fitted.unsteered)
    if informed:
        assert fitted.encode(["hello there", ""]).shape == (2, 4)
        assert np.abs(fitted.encode(["hello there"])).max() <= 1


def test_a_steerable_model_says_what_was_encoded():
    replies = ["you have a deal!", "no way, sorry.", "could you do seventy?", "hello there"]
    chats = [[*chat(1, seed), {"role": "assistant", "content": text}] for seed in range(6) for text in replies]
    settings = FitSettings(steps=150, batch=16, beta=1e-2, ramp=1, told=1.0, rates=(1e-2, 1e-2, 3e-3))
    fitted = fit_prefix("steer", lm(), chats, action_size=4, settings=settings, progress=False)
    for seed in (0, 3):
        prompts = [chat(1, seed)] * 4
        steered = fitted.map(fitted.encode(replies), fitted.lm.embed(prompts))
        assert [reply.text for reply in fitted.lm.generate(prompts, Sampling(24), prefixes=steered)] == replies


@pytest.mark.parametrize("kind", ["clone", "steer"])
def test_a_fit_is_a_function_of_its_seed(kind):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(np.random.randint(1000))  # noqa: NPY002  # global randomness must not matter
        fitted = fit_prefix(kind, lm(), [chat(2), chat(4)], settings=QUICK, seed=seed, progress=False)
        return torch.cat([p.flatten() for p in fitted.map.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_pca_needs_no_chats():
    fitted = fit_prefix("pca", lm(), action_size=5, prefix_tokens=1)
    assert isinstance(fitted.map, PcaMap)
    with pytest.raises(ValueError, match="fitted without an encoder"):
        fitted.encode(["hello"])


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="unknown kind of prefix map 'lora'"):
        fit_prefix("lora", lm(), [chat(2)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to learn from"):
        fit_prefix("steer", lm(), [chat(1)], progress=False)
    with pytest.raises(ValueError, match=r"attributes must return \(1, k\) numbers"):
        fit_prefix("steer", lm(), [chat(2)], attributes=lambda texts: np.zeros(3), settings=QUICK, progress=False)


def lengths(texts):
    return np.array([[len(text), np.nan] for text in texts], float)


def test_a_report_of_a_map_that_does_nothing():
    still = SteerMap(32, 4).bind(lm())  # W = 0: all actions say the same
    report = control_report(lm(), still, [chat(1, s) for s in range(3)], actions=4, attributes=lengths)
    assert (report.contexts, report.actions) == (3, 4)
    assert report.distinct == 0.25
    assert report.similarity == 1.0
    assert report.within == (0.0, 0.0)
    assert report.due == pytest.approx((0.0, 0.0))
    assert report.transplant is None


def test_a_report_of_a_map_that_does_something():
    model = lm()
    made = PcaMap.of(model.embedding_matrix, 4).bind(model)
    prompts = [chat(1 + s % 2, s) for s in range(4)]

    def encode(texts):
        return np.zeros((len(texts), 4), np.float32)

    report = control_report(model, made, prompts, actions=6, attributes=lengths, encode=encode)
    assert 0.25 < report.distinct <= 1.0
    assert 0.0 <= report.due[0] <= report.within[0] <= 1.0
    assert report.unlike_unsteered > 0
    assert report.transplant is not None
    assert len(report.transplant.correlations) == 2
    assert report.to_json()["transplant"]["chance"] == report.transplant.chance
    assert control_report(model, made, prompts, actions=6, attributes=lengths, encode=encode) == report


def test_a_report_of_too_little_is_refused():
    still = SteerMap(32, 4).bind(lm())
    with pytest.raises(ValueError, match="at least two actions"):
        control_report(lm(), still, [chat(1)], actions=1)
    with pytest.raises(ValueError, match="at least three prompts"):
        control_report(lm(), still, [chat(1)], actions=2, encode=lambda texts: np.zeros((len(texts), 4)))


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [("", "", 1.0), ("a", "", 0.0), ("a b c d", "a c d", 0.75), ("a b", "b a", 0.0), ("kind sir", "kind sir", 1.0)],
)
def test_edit_similarity_by_hand(first, second, similarity):
    assert edit_similarity(first, second) == edit_similarity(second, first) == similarity

"""vLLM, in process and as a server, says what transformers says of the same weights.

In float32 greedy replies are the same to the last token, and log-probabilities to about 5e-6: both backends read
the same token ids and embeddings, and no two tokens of these replies are as close as their rounding.
"""

import json

import numpy as np
import pytest

from dialog_gym.errors import UnsupportedError
from dialog_gym.lm import load, load_prefix
from dialog_gym.lm.base import LanguageModel, Sampling
from tests.vllm.dialogues import ROWS, dialogues, prefixes, prompts

GREEDY = Sampling(max_tokens=24)
FREE = Sampling(max_tokens=24, temperature=1.0, top_p=0.9)
SCHEMA = {
    "type": "object",
    "properties": {
        "goal": {"type": "integer", "minimum": 0, "maximum": 10},
        "tone": {"enum": ["kind", "cold"]},
        "why": {"type": "string", "maxLength": 20},
    },
    "required": ["goal", "tone", "why"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["in process", "server"])
def lm(request, folder):
    if request.param == "in process":
        return request.getfixturevalue("engine")
    url = request.getfixturevalue("server")
    return load(f"openai:steerable@{url}?prefix={folder}&server=vllm&dtype=float32")


@pytest.fixture(scope="module")
def said(reference):
    return reference.generate(prompts(), GREEDY)


def assert_same(mine, theirs):
    assert [one.text for one in mine] == [one.text for one in theirs]
    assert [one.tokens for one in mine] == [one.tokens for one in theirs]
    assert [one.stop for one in mine] == [one.stop for one in theirs]
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)


def test_it_is_a_language_model_and_says_what_it_can(lm, reference):
    assert lm.supports == {"prefix", "logprobs", "json"}
    assert lm.fingerprint() == reference.fingerprint()
    assert isinstance(lm, LanguageModel)
    with pytest.raises(UnsupportedError, match=r"needs 'state'.*'hf:NAME_OR_PATH'"):
        lm.embed(prompts(1))


def test_a_greedy_reply_is_the_same(lm, said):
    assert len({one.text for one in said}) > ROWS // 2, "replies differ, so that equality says something"
    assert_same(lm.generate(prompts(), GREEDY), said)


def test_a_greedy_reply_that_is_cut_is_the_same(lm, reference):
    short = Sampling(max_tokens=3)
    cut = lm.generate(prompts(), short)
    assert "length" in {one.stop for one in cut}
    assert_same(cut, reference.generate(prompts(), short))


@pytest.mark.parametrize("position", ["end", "start"])
def test_a_steered_greedy_reply_is_the_same(lm, reference, said, position):
    steered = lm.generate(prompts(), GREEDY, prefixes=prefixes(lm), position=position)
    assert_same(steered, reference.generate(prompts(), GREEDY, prefixes=prefixes(reference), position=position))
    moved = sum(one.text != other.text for one, other in zip(steered, said, strict=True))
    assert moved >= ROWS // 2, "the prefix changes what is said"


def test_the_map_that_comes_with_the_model_is_found(lm):
    assert load_prefix("steer", lm).fingerprint == lm.fingerprint()


def test_a_text_is_scored_the_same(lm, reference):
    texts = ["Would you take $50?", "", "No.", "I am firm on this, it is my last word."] * (ROWS // 4)
    mine, theirs = lm.logprobs(prompts(), texts), reference.logprobs(prompts(), texts)
    assert [len(one) for one in mine] == [len(one) for one in theirs]
    assert min(one.min() for one in theirs if len(one)) < -5, "unlikely texts are scored too"
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_reply_is_scored_as_it_was_drawn(lm):
    drawn = lm.generate(prompts(), FREE, seeds=range(ROWS))
    for one, score in zip(drawn, lm.logprobs(prompts(), [one.tokens for one in drawn]), strict=True):
        np.testing.assert_allclose(one.logprobs, score, atol=1e-3)


def test_a_sampled_reply_depends_on_its_seed_and_not_on_the_batch(lm):
    asked = prompts()
    together = lm.generate(asked, FREE, seeds=range(ROWS))
    backwards = lm.generate(asked[::-1], FREE, seeds=range(ROWS)[::-1])
    assert [one.tokens for one in together] == [one.tokens for one in backwards[::-1]]
    assert lm.generate(asked[5:6], FREE, seeds=[5])[0].tokens == together[5].tokens
    others = lm.generate(asked, FREE, seeds=range(ROWS, 2 * ROWS))
    assert sum(one.text != other.text for one, other in zip(together, others, strict=True)) > ROWS // 2
    with pytest.raises(ValueError, match="needs seeds"):
        lm.generate(asked, FREE)


def test_sampling_follows_the_model(lm, reference):
    """The share of each first token is its probability, within four standard errors."""
    prompt, draws = prompts()[0], 800
    first = Sampling(max_tokens=1, temperature=1.0)
    drawn = [one.tokens[0] for one in lm.generate([prompt] * draws, first, seeds=range(draws))]
    likely = sorted(set(drawn), key=drawn.count)[-3:]
    expected = np.exp([float(one[0]) for one in reference.logprobs([prompt] * 3, [[token] for token in likely])])
    found = np.array([drawn.count(token) / draws for token in likely])
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / draws)).all(), (found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_by_schema_always_parses(lm, seed):
    sampling = Sampling(max_tokens=80, temperature=1.0)
    answers = lm.generate(prompts(), sampling, seeds=range(seed * ROWS, (seed + 1) * ROWS), schema=SCHEMA)
    found = [json.loads(one.text, strict=False) for one in answers]  # xgrammar lets control characters pass
    assert all(list(one) == ["goal", "tone", "why"] for one in found)
    assert {one["goal"] for one in found} <= set(range(11))
    assert len({one["goal"] for one in found}) > 1
    assert {one["tone"] for one in found} == {"kind", "cold"}


def test_a_judge_always_has_a_verdict(lm):
    """The tiny model is no judge; what it answers is a verdict all the same, since it can say nothing else."""
    from dialog_gym.rewards.judge import Judge

    _, over = dialogues()
    judge = Judge(lm, "sotopia", max_tokens=400, reasoning_chars=60)
    verdicts = judge.verdicts(over)
    assert len(verdicts) == ROWS
    for verdict in verdicts:
        for dimension in judge.rubric.dimensions:
            assert dimension.low <= verdict.scores[dimension.name] <= dimension.high


def test_a_chat_that_the_server_writes_reads_the_same(server, said):
    lm = load(f"openai:steerable@{server}")
    assert lm.supports == {"json"}
    assert [one.text for one in lm.generate(prompts(), GREEDY)] == [one.text for one in said]

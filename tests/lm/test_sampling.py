"""A sample is a function of its seed and its own logits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.lm.base import Sampling
from dialog_gym.lm.sampling import draw, log_probability, nucleus, uniforms
from tests.lm.models import lm
from tests.lm.test_session import chat, replies_alike


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=5), st.integers(1, 20))
def test_random_numbers_belong_to_seed_and_index(seeds, count):
    together = uniforms(seeds, count)
    assert together.shape == (len(seeds), count)
    assert ((together >= 0) & (together < 1)).all()
    for row, seed in zip(together, seeds, strict=True):
        np.testing.assert_array_equal(row, uniforms([seed], count + 3)[0, :count])


def test_random_numbers_are_uniform_and_independent():
    numbers = uniforms(range(500), 40)
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(numbers.var() - 1 / 12) < 0.002
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.15
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.15


def test_inverse_of_the_cumulative_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.3]])).repeat(6, 1)
    uniform = torch.tensor([0.0, 0.499, 0.501, 0.699, 0.701, 0.999], dtype=torch.float64)
    assert draw(logits, Sampling(temperature=1.0), uniform).tolist() == [0, 0, 1, 1, 2, 2]
    assert draw(logits, Sampling(), None).tolist() == [0] * 6
    # Squared at temperature 1/2: .25, .04, .09, that is .658, .105, .237 of their sum.
    uniform = torch.tensor([0.65, 0.66, 0.76, 0.77, 0.0, 0.9], dtype=torch.float64)
    assert draw(logits, Sampling(temperature=0.5), uniform).tolist() == [0, 1, 1, 2, 0, 2]
    # The two most probable reach .8: .5 and .3, that is .625 and .375 of their sum.
    uniform = torch.tensor([0.62, 0.63, 0.9, 0.999, 0.0, 0.3], dtype=torch.float64)
    assert draw(logits, Sampling(temperature=1.0, top_p=0.75), uniform).tolist() == [0, 2, 2, 2, 0, 0]


@given(st.integers(0, 10_000), st.floats(0.0, 1.0, exclude_max=True))
def test_impossible_tokens_are_never_drawn(seed, number):
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(seed))
    logits[0, [0, 4, 8]] = -torch.inf
    token = draw(logits, Sampling(temperature=1.0), torch.tensor([min(number, 1 - 2**-32)], dtype=torch.float64))
    assert int(token) not in (0, 4, 8)


def test_the_nucleus_has_at_least_one_token_and_keeps_equals():
    table = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
    assert (nucleus(table, 1e-9) > 0).tolist() == [
        [True] * 4,
        [False, True, False, False],
        [False, False, False, True],
    ]
    assert (nucleus(table, 0.8) > 0).sum(1).tolist() == [4, 1, 3]


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.999])
def test_a_flat_nucleus_of_a_large_vocabulary(top_p):
    table = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    kept = nucleus(table, top_p)
    for row, of in zip(kept, table, strict=True):
        mass, least = row.sum(), row[row > 0].min()
        assert mass >= top_p > mass - least
        assert of[row == 0].max() < least


def test_log_probability_by_hand():
    logits = torch.tensor([[0.0, float(np.log(3.0))]])
    assert log_probability(logits, torch.tensor([1])).exp().item() == pytest.approx(0.75)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_reply_does_not_depend_on_the_batch(top_p):
    sampling = Sampling(10, temperature=1.0, top_p=top_p)
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2, 0, 3, 5])]
    seeds = [11, 12, 13, 11, 15, 16]
    together = lm().generate(prompts, sampling, seeds=seeds)
    alone = [lm().generate([p], sampling, seeds=[s])[0] for p, s in zip(prompts, seeds, strict=True)]
    assert replies_alike(together, alone)
    backwards = lm().generate(prompts[::-1], sampling, seeds=seeds[::-1])
    assert replies_alike(together, backwards[::-1])
    assert together != lm().generate(prompts, sampling, seeds=[s + 1 for s in seeds])


def test_samples_follow_the_model():
    prompt = chat(1)
    drawn = lm().generate([prompt] * 400, Sampling(1, temperature=1.0), seeds=range(400))
    counts = np.bincount([reply.tokens[0] for reply in drawn], minlength=320) / 400
    logits, _ = _logits(prompt)
    assert np.abs(counts - logits.softmax(-1).numpy()).sum() < 0.6
    top = int(logits.argmax())
    probability = float(logits.softmax(-1)[top])
    assert abs(counts[top] - probability) < 4 * np.sqrt(probability / 400)


def _logits(prompt):
    with torch.no_grad():
        output = lm().model(torch.tensor(lm().encode([prompt])))
    return output.logits[0, -1], output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be finite and at least 0"),
        ({"temperature": float("nan")}, "temperature must be finite"),
        ({"temperature": float("inf")}, "temperature must be finite"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)

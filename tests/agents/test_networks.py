"""Batched networks equal torch's own, statistics equal NumPy's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dialog_gym.agents.networks import MLP, RunningNorm, polyak


def as_modules(net: MLP, member: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in zip(net.weights, net.biases, strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data, linear.bias.data = weight[member].T.clone(), bias[member, 0].clone()
        layers += [linear, nn.LayerNorm(weight.shape[2], elementwise_affine=False), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def test_members_are_networks_of_their_own():
    net = MLP((5, 8, 7, 2), members=3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    for member in range(3):
        expected = as_modules(net, member)(x)
        torch.testing.assert_close(net(x)[member], expected)
        torch.testing.assert_close(net(x, member), expected)


def test_weights_are_drawn_like_those_of_a_linear_layer():
    net = MLP((400, 300), generator=torch.Generator().manual_seed(0))
    assert 0.0499 < net.weights[0].abs().max() <= 0.05
    assert net.weights[0].std().item() == pytest.approx(0.05 / 3**0.5, rel=0.01)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="one of relu, silu, got 'gelu'"):
        MLP((1, 1), activation="gelu")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_running_statistics_are_those_of_all_rows_together(sizes):
    rows = np.random.default_rng(0).normal(3, 2, size=(sum(sizes), 4)).astype(np.float32)
    norm = RunningNorm(4, clip=5)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        norm.update(torch.from_numpy(part))
    np.testing.assert_allclose(norm.mean.numpy(), rows.astype(float).mean(0), atol=1e-12)
    np.testing.assert_allclose(norm.variance.numpy(), rows.astype(float).var(0), atol=1e-12)


def test_norm_by_hand():
    norm = RunningNorm(1, clip=1.5)
    norm.update(torch.tensor([[1.0], [3.0]]))  # mean 2, standard deviation 1
    torch.testing.assert_close(norm(torch.tensor([[2.5], [9.0], [-9.0]])), torch.tensor([[0.5], [1.5], [-1.5]]))


def test_polyak_by_hand():
    online, target = [torch.tensor([1.0, 2.0])], [torch.tensor([0.0, 0.0])]
    polyak(online, target, 0.25)
    torch.testing.assert_close(target[0], torch.tensor([0.25, 0.5]))

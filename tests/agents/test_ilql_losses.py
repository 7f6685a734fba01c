"""The losses of ILQL: numbers worked out by hand, and an independent implementation in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.agents import ilql_losses as losses
from dialog_gym.agents.lm_tokens import TokenRow, batch_of

WORDS = 7  # size of the vocabulary


# --- by hand -----------------------------------------------------------------------------------


def test_v_weighs_what_is_above_by_tau():
    values = torch.tensor([1.0, 1.0, 1.0])
    found = losses.v_loss(values, torch.tensor([1.5, 0.0, 1.0]), 0.8)
    torch.testing.assert_close(found, torch.tensor([0.8 * 0.25, 0.2 * 1.0, 0.0]))


def test_v_at_one_half_is_half_the_squared_error():
    torch.testing.assert_close(losses.v_loss(torch.zeros(2), torch.tensor([3.0, -3.0]), 0.5), torch.full((2,), 4.5))


def test_q_and_cql_add_up_the_heads():
    q = [torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])]
    actions = torch.tensor([1])
    target = torch.tensor([1.0])
    found = losses.q_loss(losses.taken(q, actions), target)
    assert found.item() == pytest.approx((math.log(3.0) - 1) ** 2 + 1)
    assert losses.cql_loss(q, actions).item() == pytest.approx(math.log(4 / 3) + math.log(2))


def test_awac_without_beta_is_cross_entropy_and_its_weight_is_limited():
    logits, actions, advantage = torch.tensor([[0.0, 0.0]]), torch.tensor([0]), torch.tensor([2.0])
    assert losses.awac_loss(logits, actions, advantage, 0.0, 5.0).item() == pytest.approx(math.log(2))
    assert losses.awac_loss(logits, actions, advantage, 0.5, 5.0).item() == pytest.approx(math.e * math.log(2))
    assert losses.awac_loss(logits, actions, advantage, 9.0, 5.0).item() == pytest.approx(5 * math.log(2))


def two_turns() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One row: a turn of two tokens that earns 1, and one of two tokens that earns 8."""
    ends, following = torch.tensor([False, True, False, True]), torch.tensor([1, 2, 3, -1])
    return ends, following, torch.tensor([0.0, 1.0, 0.0, 8.0])


def test_a_discount_per_turn_does_not_count_tokens():
    ends, following, rewards = two_turns()
    discount = losses.discounts(ends, 0.5, "turn")
    assert losses.returns(rewards, discount, following, torch.zeros(4)).tolist() == [5.0, 5.0, 8.0, 8.0]
    discount = losses.discounts(ends, 0.5, "token")
    assert losses.returns(rewards, discount, following, torch.zeros(4)).tolist() == [1.5, 3.0, 4.0, 8.0]


def test_what_is_behind_a_turn_is_the_first_token_of_the_next():
    _, following, _ = two_turns()
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert losses.behind(values, following, torch.zeros(4)).tolist() == [2.0, 3.0, 4.0, 0.0]
    assert losses.behind(values, following, torch.full((4,), 9.0)).tolist() == [2.0, 3.0, 4.0, 9.0]


def test_scores_are_log_probabilities_plus_weighted_advantages():
    logits = torch.tensor([[1.0, 0.0, -1.0, -9.0]])
    advantage = torch.tensor([[0.0, 3.0, 6.0, 99.0]])
    spoken = torch.log_softmax(logits, -1)
    torch.testing.assert_close(losses.steer(logits, advantage, beta=0.5), spoken + advantage / 2)
    floored = losses.steer(logits, advantage, beta=0.5, floor=0.05)
    assert floored.isinf().tolist() == [[False, False, False, True]]
    assert floored.argmax().item() == 2
    assert losses.steer(logits, advantage, beta=0.5, floor=0.9).isinf().tolist() == [[False, True, True, True]]
    kept = losses.steer(logits, advantage, beta=0.5, top_k=2)
    assert kept.isinf().tolist() == [[True, True, False, False]]
    torch.testing.assert_close(losses.steer(logits, advantage, beta=0.0), spoken)


# --- against loops -----------------------------------------------------------------------------


def random_rows(rng: np.random.Generator, count: int) -> list[TokenRow]:
    """Return dialogues of random length, with the agent's tokens in up to three turns."""
    rows = []
    for _ in range(count):
        said: list[int] = []
        turns: list[int] = []
        rewards: list[float] = []
        place = 0
        for turn in range(rng.integers(1, 4)):
            place += int(rng.integers(1, 4))  # what the partner says
            length = int(rng.integers(1, 4))
            said += range(place, place + length)
            turns += [turn] * length
            rewards += [0.0] * (length - 1) + [rng.normal()]
            place += length
        tokens = rng.integers(0, WORDS, place + int(rng.integers(0, 3)))
        after = float(rng.normal()) if rng.random() < 0.3 else 0.0
        rows.append(
            TokenRow(
                tokens.astype(np.int32),
                np.array(said, np.int32),
                np.array(turns, np.int32),
                np.array(rewards, np.float32),
                np.zeros(len(said), np.float32),
                after=after,
            )
        )
    return rows


def reference(rows, q, targets, v, logits, *, gamma, per, tau, cql, awac, beta, limit, monte_carlo):
    """Return the sum of all losses over the number of actions, from the formulas: one row and one action at a time.

    Index t of a row is the state before token t + 1; ``q``, ``targets``, ``v`` and ``logits`` are by row and index.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    known, targets = v.detach(), [target.detach() for target in targets]  # what is a number, and has no gradient
    for row, one in enumerate(rows):
        actions_ixs = [int(place) - 1 for place in one.said]
        states_ixs = [*actions_ixs, None]  # the state behind the last action is outside of the row
        dones = [1] * len(actions_ixs) + [0]
        for i, t in enumerate(actions_ixs):
            a = int(one.tokens[t + 1])
            last_of_turn = i + 1 == len(actions_ixs) or one.turns[i + 1] != one.turns[i]
            d = gamma if per == "token" or last_of_turn else 1.0
            if monte_carlo:
                y, weight = 0.0, 1.0
                for j in range(i, len(actions_ixs)):
                    y += weight * float(one.rewards[j])
                    ends = j + 1 == len(actions_ixs) or one.turns[j + 1] != one.turns[j]
                    weight *= gamma if per == "token" or ends else 1.0
                y += weight * float(np.float32(one.after))
            else:
                there = states_ixs[i + 1]
                following = (
                    float(known[row][there]) * dones[i + 1] if there is not None else float(np.float32(one.after))
                )
                y = float(one.rewards[i]) + d * following
            q_hat = min(float(target[row][t][a]) for target in targets)
            for head in q:
                total = total + (head[row][t][a] - y) ** 2
                total = total + cql * (torch.log(torch.exp(head[row][t]).sum()) - head[row][t][a])
            weight = 1 - tau if q_hat < float(known[row][t]) else tau
            total = total + weight * (q_hat - v[row][t]) ** 2
            spoken = torch.log(torch.exp(logits[row][t]).sum()) - logits[row][t][a]
            total = total + awac * spoken * min(math.exp(beta * (q_hat - float(known[row][t]))), limit)
            count += 1
    return total / count


def ours(rows, q, targets, v, logits, *, gamma, per, tau, cql, awac, beta, limit, monte_carlo):
    batch = batch_of(rows)

    def at(table):
        return table.flatten(0, 1)[batch.where]

    values, actions, rewards = at(v), batch.actions, batch.rewards.double()
    discount = losses.discounts(batch.ends_turn, gamma, per, torch.float64)
    after = batch.after[batch.row].double()
    if monte_carlo:
        y = losses.returns(rewards, discount, batch.following, after)
    else:
        y = rewards + discount * losses.behind(values, batch.following, after)
    heads = [at(head) for head in q]
    q_hat = losses.taken([at(target) for target in targets], actions).amin(0)
    each = losses.q_loss(losses.taken(heads, actions), y) + losses.v_loss(values, q_hat, tau)
    each = each + cql * losses.cql_loss(heads, actions)
    each = each + awac * losses.awac_loss(at(logits), actions, q_hat - values, beta, limit)
    return each.mean()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 4),
    gamma=st.sampled_from([0.5, 0.99, 1.0]),  # .99 is no float32: the discount must not be rounded
    per=st.sampled_from(["turn", "token"]),
    tau=st.floats(0.05, 0.95),
    beta=st.sampled_from([0.0, 0.7, 3.0]),
    monte_carlo=st.booleans(),
)
def test_losses_and_gradients_agree_with_loops(seed, count, gamma, per, tau, beta, monte_carlo):
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, count)
    width = max(len(row) for row in rows)

    def table(*size):
        return torch.tensor(rng.normal(size=(count, width, *size)), requires_grad=True)

    q, targets = [table(WORDS), table(WORDS)], [table(WORDS), table(WORDS)]
    v, logits = table(), table(WORDS)
    terms = {"gamma": gamma, "per": per, "tau": tau, "cql": 0.3, "awac": 0.8, "beta": beta, "limit": 4.0}
    leaves, found = [*q, *targets, v, logits], []
    for make in (reference, ours):
        loss = make(rows, q, targets, v, logits, **terms, monte_carlo=monte_carlo)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        found.append((loss, gradients))
    (expected, wanted), (loss, gradients) = found
    assert loss.dtype == torch.float64
    assert abs((loss - expected).item()) < 1e-9
    for leaf, mine, theirs in zip(leaves, gradients, wanted, strict=True):
        if theirs is None:
            assert mine is None or not mine.any()
        else:
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
        assert (theirs is None) == any(leaf is target for target in targets)

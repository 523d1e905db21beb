"""Rewards, GAE, whitening and the critic-free advantages against loops and hand-worked numbers."""

import statistics

import pytest
import torch

from learner.advantages import (
    explained_variance,
    gae,
    group_relative_advantages,
    kl_shaped_rewards,
    leave_one_out_advantages,
    masked_mean,
    whiten,
)

LENGTHS = [3, 1, 4]
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]


def test_rewards_carry_the_kl_at_each_token_and_the_score_at_the_last():
    kl = torch.tensor([[0.1, -0.2, 0.3, 9.0], [1.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 2.0]])
    rewards = kl_shaped_rewards(kl, torch.tensor([5.0, -1.0, 2.0]), MASK, 0.5)
    expected = [[-0.05, 0.1, 5 - 0.15, 0.0], [-1.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2 - 1.0]]
    torch.testing.assert_close(rewards, torch.tensor(expected))


@pytest.mark.parametrize(("discount", "lambda_"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_gae_is_the_discounted_sum_of_errors(discount, lambda_):
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(3, 4, generator=generator) for _ in range(2))
    advantages, returns = gae(rewards, values, MASK, discount, lambda_)
    for row, length in enumerate(LENGTHS):
        r, v = rewards[row, :length].tolist(), [*values[row, :length].tolist(), 0.0]
        errors = [r[t] + discount * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((discount * lambda_) ** (k - t) * errors[k] for k in range(t, length))
            assert float(advantages[row, t]) == pytest.approx(expected, abs=1e-5)
            assert float(returns[row, t]) == pytest.approx(expected + v[t], abs=1e-5)
    assert not advantages[~MASK].any()
    assert not returns[~MASK].any()


def test_gae_with_lambda_and_discount_one_is_return_minus_value():
    rewards = torch.tensor([[0.0, 0.0, 3.0, 7.0]])
    values = torch.tensor([[1.0, 2.0, 0.5, 7.0]])
    mask = torch.tensor([[True, True, True, False]])
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    assert advantages.tolist() == [[2.0, 1.0, 2.5, 0.0]]
    assert returns.tolist() == [[3.0, 3.0, 3.0, 0.0]]


def test_gae_does_not_look_at_padding():
    rewards, values = torch.randn(3, 4), torch.randn(3, 4)
    spoiled = torch.where(MASK, values, torch.nan)
    torch.testing.assert_close(gae(rewards, values, MASK, 1.0, 0.95), gae(rewards, spoiled, MASK, 1.0, 0.95))


def test_whitening_is_global_and_ignores_padding():
    values = torch.tensor([[1.0, 2.0, 3.0, 99.0], [10.0, 99.0, 99.0, 99.0], [4.0, 5.0, 6.0, 7.0]])
    white = whiten(values, MASK)
    kept = values[MASK].tolist()
    mean, deviation = statistics.fmean(kept), statistics.pstdev(kept)
    assert white[MASK].tolist() == pytest.approx([(value - mean) / deviation for value in kept], rel=1e-5)
    assert not white[~MASK].any()


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_values_that_are_all_equal_whiten_to_next_to_nothing(value):
    """Their mean may be a rounding off, and what is left must not be blown up to a deviation of one."""
    white = whiten(torch.full((3, 4), value), MASK)
    assert white.abs().max() < 0.1
    assert float(whiten(torch.tensor([[value]]), torch.tensor([[True]]))) == 0.0


def test_masked_mean():
    assert float(masked_mean(torch.tensor([1.0, 5.0, 100.0]), torch.tensor([True, True, False]))) == 3.0


def test_leave_one_out_by_hand():
    returns = torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 3.0])
    assert leave_one_out_advantages(returns, 3).tolist() == [-3.0, -1.5, 4.5, -1.5, -1.5, 3.0]


def test_group_relative_by_hand():
    advantages = group_relative_advantages(torch.tensor([1.0, 3.0, 5.0, 7.0, 7.0, 7.0]), 3)
    assert advantages.tolist() == pytest.approx([-2 / 2.001, 0.0, 2 / 2.001, 0.0, 0.0, 0.0], rel=1e-5)


def test_what_rounding_makes_of_one_reply_is_no_advantage_over_itself():
    """Eight times the same reply, one of them looked at in another piece: the deviation was 9.2e-5."""
    returns = torch.tensor([0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7 + 2.6e-4])
    assert float(group_relative_advantages(returns, 8).abs().max()) < 0.25


def test_explained_variance():
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert float(explained_variance(returns.clone(), returns)) == pytest.approx(1.0)
    assert float(explained_variance(torch.full((3,), 2.0), returns)) == pytest.approx(0.0)
    assert float(explained_variance(returns, torch.ones(3))) == 0.0

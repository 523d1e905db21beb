"""The losses against loops over plain numbers."""

import math

import pytest
import torch

from learner.losses import policy_loss, preference_loss, truncated_importance_weights, value_loss


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_preference_loss_is_the_weighted_cross_entropy():
    margins, labels, weights = [2.0, -1.0, 0.3, -0.7], [1.0, 0.0, 0.5, 0.8], [1.0, 2.0, 0.5, 0.0]
    expected = sum(
        -w * (y * math.log(sigmoid(m)) + (1 - y) * math.log(1 - sigmoid(m)))
        for m, y, w in zip(margins, labels, weights, strict=True)
    )
    loss = preference_loss(torch.tensor(margins), torch.tensor(labels), torch.tensor(weights))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_preference_loss_of_a_tie_is_least_at_equal_scores():
    margins = torch.linspace(-3, 3, 61)
    losses = torch.stack([preference_loss(m[None], torch.tensor([0.5]), torch.ones(1)) for m in margins])
    assert int(losses.argmin()) == 30
    assert float(losses.min()) == pytest.approx(math.log(2))


def test_preference_loss_survives_huge_margins():
    loss = preference_loss(torch.tensor([1e4, -1e4]), torch.tensor([1.0, 1.0]), torch.ones(2))
    assert float(loss) == pytest.approx(1e4)


def test_policy_loss_token_by_token():
    new, old = [-1.0, -0.5, -2.0, -1.0], [-1.2, -1.5, -1.0, -1.0]
    advantages, weights, clip = [1.0, 2.0, -1.0, 0.5], [1.0, 0.5, 1.0, 2.0], 0.2
    total, clipped, kl = 0.0, 0, 0.0
    for n, o, a, w in zip(new, old, advantages, weights, strict=True):
        ratio = math.exp(n - o)
        bounded = min(max(ratio, 1 - clip), 1 + clip)
        total -= w * min(ratio * a, bounded * a)
        clipped += bounded * a < ratio * a
        kl += ratio - 1 - (n - o)
    loss = policy_loss(*map(torch.tensor, (new, old, advantages)), clip, torch.tensor(weights))
    assert float(loss.total) == pytest.approx(total, rel=1e-6)
    assert int(loss.clipped) == clipped == 3
    assert float(loss.approximate_kl) == pytest.approx(kl, rel=1e-5)


def test_policy_loss_pushes_nowhere_once_clipped():
    new = torch.tensor([0.5, -0.5], requires_grad=True)
    policy_loss(new, torch.zeros(2), torch.tensor([1.0, -1.0]), 0.2).total.backward()
    assert new.grad.tolist() == [0.0, 0.0]


def test_policy_loss_at_the_old_policy_is_the_policy_gradient():
    new = torch.zeros(2, requires_grad=True)
    policy_loss(new, torch.zeros(2), torch.tensor([1.5, -2.0]), 0.2).total.backward()
    assert new.grad.tolist() == [-1.5, 2.0]


def test_value_loss_takes_the_larger_of_both_errors():
    values, old, returns, clip = [1.0, 0.0, 0.5], [0.0, 0.1, 0.5], [2.0, 0.0, 1.0], 0.2
    total, clipped = 0.0, 0
    for v, o, r in zip(values, old, returns, strict=True):
        near = o + min(max(v - o, -clip), clip)
        total += 0.5 * max((v - r) ** 2, (near - r) ** 2)
        clipped += (near - r) ** 2 > (v - r) ** 2
    loss = value_loss(*map(torch.tensor, (values, old, returns)), clip)
    assert float(loss.total) == pytest.approx(total, rel=1e-6)
    assert int(loss.clipped) == clipped == 1


def test_importance_weights_are_truncated_and_carry_no_gradient():
    trainer = torch.tensor([-1.0, -1.0, -3.0], requires_grad=True)
    weights = truncated_importance_weights(trainer, torch.tensor([-1.0, -3.0, -1.0]), 2.0)
    assert weights.tolist() == pytest.approx([1.0, 2.0, math.exp(-2)])
    assert not weights.requires_grad

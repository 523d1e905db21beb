"""The win rate at equal length, against a plain-loop maximum and cases with known answers."""

import math
from collections.abc import Callable

import pytest
import torch

from learner.length_control import length_controlled_win_rate


def test_wins_that_come_from_length_alone_are_half_at_equal_length():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 40, (4000,), generator=generator)
    others = torch.randint(5, 30, (4000,), generator=generator)
    wins = (torch.rand(4000, generator=generator) < torch.sigmoid((lengths - others) / 8)).float()
    found = length_controlled_win_rate(wins, lengths, others, 0.95)
    assert wins.mean() > 0.6
    assert found["interval"][0] < 0.5 < found["interval"][1]
    assert found["value"] == pytest.approx(0.5, abs=0.05)


def test_it_is_the_maximum_of_the_posterior():
    wins = torch.tensor([1.0, 1.0, 0.5, 0.0, 1.0, 0.0])
    lengths, others = torch.tensor([9, 12, 7, 5, 6, 4]), torch.tensor([5, 6, 7, 6, 6, 8])
    found = length_controlled_win_rate(wins, lengths, others, 0.95)

    scale = math.sqrt(sum((a - b) ** 2 for a, b in zip(lengths.tolist(), others.tolist(), strict=True)) / 6)

    def loss(a: float, b: float) -> float:
        total = (a * a + b * b) / (2 * 2.0**2)
        for win, own, other in zip(wins.tolist(), lengths.tolist(), others.tolist(), strict=True):
            p = 1 / (1 + math.exp(-(a + b * math.tanh((own - other) / scale))))
            total -= win * math.log(p) + (1 - win) * math.log(1 - p)
        return total

    def lowest(of: Callable[[float], float]) -> float:
        """Where a function that falls and then rises is lowest."""
        low, high = -4.0, 4.0
        while high - low > 1e-7:
            third = (high - low) / 3
            low, high = (low, high - third) if of(low + third) < of(high - third) else (low + third, high)
        return (low + high) / 2

    a = lowest(lambda a: loss(a, lowest(lambda b: loss(a, b))))
    b = lowest(lambda b: loss(a, b))
    assert found["value"] == pytest.approx(1 / (1 + math.exp(-a)), abs=1e-5)
    # Bends of the loss by differences: the variance of a is that of b over their determinant.
    h = 1e-3
    of_a, of_b = ((loss(a + x, b + y) - 2 * loss(a, b) + loss(a - x, b - y)) / h**2 for x, y in ((h, 0), (0, h)))
    of_both = sum(x * y * loss(a + x * h, b + y * h) for x in (1, -1) for y in (1, -1)) / (4 * h**2)
    reach = 1.959964 * math.sqrt(of_b / (of_a * of_b - of_both**2))
    assert found["interval"] == pytest.approx([1 / (1 + math.exp(-a + side * reach)) for side in (1, -1)], abs=1e-4)
    assert found["count"] == 6
    turned = length_controlled_win_rate(1 - wins, lengths, others, 0.95)
    assert turned["value"] == pytest.approx(1 - found["value"], abs=1e-9)


def test_without_a_difference_of_length_it_is_about_the_plain_win_rate():
    wins = torch.tensor([1.0] * 70 + [0.0] * 30)
    same = torch.full((100,), 10)
    found = length_controlled_win_rate(wins, same, same, 0.95)
    assert found["value"] == pytest.approx(0.7, abs=0.01)
    assert found["interval"][0] == pytest.approx(0.60, abs=0.02)
    assert found["interval"][1] == pytest.approx(0.78, abs=0.02)


@pytest.mark.parametrize("count", [1, 30, 1000])
def test_of_replies_that_won_all_it_is_where_the_prior_holds_it(count):
    """The chance p of a win, with a = logit(p), is where count (1 - p) = a / 2^2, and a's information is
    count p (1 - p) + 1 / 2^2."""
    same = torch.full((count,), 10)
    found = length_controlled_win_rate(torch.ones(count), same, same, 0.95)
    low, high = 0.0, 40.0
    for _ in range(60):
        a = (low + high) / 2
        low, high = (a, high) if count / (1 + math.exp(a)) > a / 4 else (low, a)
    p = 1 / (1 + math.exp(-a))
    reach = 1.959964 / math.sqrt(count * p * (1 - p) + 1 / 4)
    assert found["value"] == pytest.approx(p, abs=1e-9)
    assert found["interval"] == pytest.approx([1 / (1 + math.exp(-a - side * reach)) for side in (-1, 1)], abs=1e-6)


def test_wins_that_length_explains_altogether_have_an_answer():
    wins = torch.tensor([1.0, 1.0, 0.0, 0.0])
    found = length_controlled_win_rate(wins, torch.tensor([9, 8, 3, 2]), torch.tensor([5, 5, 5, 5]), 0.95)
    assert found["value"] == pytest.approx(0.5, abs=0.1)
    none = {"value": None, "interval": None, "count": 0}
    assert length_controlled_win_rate(wins[:0], wins[:0], wins[:0], 0.95) == none

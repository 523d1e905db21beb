"""Means and how sure they are, by hand and by what they must never say."""

import math
from statistics import NormalDist

import pytest
import torch

from learner.estimates import estimate, share, worth_of


def test_the_interval_of_a_mean_by_hand():
    found = estimate(torch.tensor([1.0, 2.0, 3.0, 6.0]), 0.95)
    # Variance (4 + 1 + 0 + 9) / 3; t of three degrees of freedom.
    half = 3.182446 * (14 / 3 / 4) ** 0.5
    assert (found["value"], found["count"]) == (3.0, 4)
    assert found["interval"] == pytest.approx([3 - half, 3 + half])


def test_two_values_are_the_fewest_that_tell_how_sure_they_are():
    # Variance 2, over two values; t of one degree of freedom.
    found = estimate(torch.tensor([1.0, 3.0]), 0.95)
    assert found["interval"] == pytest.approx([2 - 12.706205, 2 + 12.706205])


def test_of_few_values_it_is_said_what_is_known():
    assert estimate(torch.tensor([3.0]), 0.95) == {"value": 3.0, "interval": None, "count": 1}
    for of in (estimate, share):
        assert of(torch.zeros(0), 0.95) == {"value": None, "interval": None, "count": 0}


def test_as_how_many_of_one_weight_weighted_values_tell():
    assert worth_of(torch.full((7,), 0.25)) == pytest.approx(7)
    assert worth_of(torch.tensor([3.0, 1.0, 0.0])) == pytest.approx(1.6)
    assert worth_of(torch.zeros(3)) == worth_of(torch.zeros(0)) == 0


def test_a_share_by_hand():
    # z^2 = 3.8415: mean (3 + 1.9207) / 23.8415 = .2064, variance .2064 * .7936.
    found = share(torch.tensor([1.0] * 3 + [0.0] * 17), 0.95)
    half = 1.959964 * (0.20639 * 0.79361 / 23.84146) ** 0.5
    assert found["value"] == pytest.approx(0.15)
    assert found["interval"] == pytest.approx([0.20639 - half, 0.20639 + half], abs=1e-4)
    # Of ties all that is known is that they are ties.
    assert share(torch.full((100,), 0.5), 0.95)["interval"] == pytest.approx([0.5, 0.5], abs=0.03)


@pytest.mark.parametrize("count", [1, 2, 7, 20, 100])
def test_one_win_or_one_harmful_reply_more_never_makes_a_share_look_surer_to_be_low(count: int):
    """With the normal interval one harmful reply of 20 had a lower upper end than none."""
    values = torch.zeros(count)
    low, high = share(values, 0.95)["interval"]
    assert (low, high) == (0.0, pytest.approx(4 / count, rel=0.8))
    for place in range(count):
        for value in (0.5, 1.0):
            values[place] = value
            next_low, next_high = share(values, 0.95)["interval"]
            assert next_low >= low and next_high >= high
            low, high = next_low, next_high
    assert high == 1.0


def test_means_of_few_values_are_where_they_say_in_so_many_cases():
    """Five held-out prompts: the normal interval holds the mean in .88 of cases."""
    generator = torch.Generator().manual_seed(2)
    held = 0
    for _ in range(2000):
        low, high = estimate(torch.randn(5, generator=generator), 0.95)["interval"]
        held += low <= 0 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_shares_are_where_they_say_in_so_many_cases():
    generator = torch.Generator().manual_seed(1)
    for chance, count in ((0.02, 60), (0.3, 20), (0.5, 200)):
        held = 0
        for _ in range(2000):
            low, high = share((torch.rand(count, generator=generator) < chance).float(), 0.95)["interval"]
            held += low <= chance <= high
        assert held / 2000 > 0.94


def test_a_weighted_share_by_hand():
    """Weights of 1, 2 and 1: mean (2 x 1 + 1 x .5) / 4, mean square (2 + .25) / 4, worth 2.5."""
    found = share(torch.tensor([0.0, 1.0, 0.5]), 0.95, 2.5, torch.tensor([1.0, 2.0, 1.0]))
    z = NormalDist().inv_cdf(0.975)
    seen = 2.5 + z**2
    middle = (0.625 * 2.5 + z**2 / 2) / seen
    half = z * math.sqrt(((0.5625 * 2.5 + z**2 / 2) / seen - middle**2) / seen)
    assert (found["value"], found["count"]) == (0.625, 3)
    assert found["interval"] == pytest.approx([middle - half, middle + half])
    nothing = share(torch.ones(2), 0.95, 1.0, torch.zeros(2))
    assert nothing == {"value": None, "interval": None, "count": 2}

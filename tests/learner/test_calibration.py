"""Calibration figures against hand-worked and simulated ones."""

import math

import pytest
import torch

from learner.calibration import (
    agreeing,
    calibration_bins,
    calibration_noise,
    correlation,
    cross_entropy,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    length_slope,
    outcomes,
    temperature_of_softening,
    weighted_mean,
)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(true_temperature):
    generator = torch.Generator().manual_seed(1)
    margins = torch.randn(20_000, generator=generator) * 3
    labels = torch.sigmoid(margins / true_temperature)
    assert fit_temperature(margins, labels) == pytest.approx(true_temperature, rel=0.006)


def test_temperature_minimises_the_cross_entropy():
    generator = torch.Generator().manual_seed(2)
    margins = torch.randn(200, generator=generator) * 2
    labels = (torch.rand(200, generator=generator) < torch.sigmoid(margins)).float()
    best = fit_temperature(margins, labels)
    losses = {scale: cross_entropy(margins / (best * scale), labels) for scale in (0.7, 1.0, 1.4)}
    assert min(losses, key=losses.__getitem__) == 1.0


def test_few_comparisons_move_the_temperature_little():
    assert fit_temperature(torch.ones(0), torch.zeros(0)) == pytest.approx(1.0)
    assert 0.8 < fit_temperature(torch.ones(3), torch.ones(3)) < 1.0
    assert fit_temperature(torch.ones(3000), torch.ones(3000)) < 0.2
    # Nor do many move it without end.
    assert fit_temperature(torch.full((3000,), 0.1), torch.ones(3000)) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(torch.ones(10_000), torch.zeros(10_000)) == pytest.approx(20, rel=0.01)


def test_the_prior_of_the_temperature_by_a_finer_search():
    """Eight votes for a margin of 1: -8 log sigmoid(1 / T) + log(T / .6)^2 / (2 * .35^2), in steps of .0001."""

    def loss(temperature: float) -> float:
        return 8 * math.log(1 + math.exp(-1 / temperature)) + math.log(temperature / 0.6) ** 2 / (2 * 0.35**2)

    best = min((step / 10_000 for step in range(1000, 10_000)), key=loss)
    assert fit_temperature(torch.ones(8), torch.ones(8), near=0.6) == pytest.approx(best, rel=0.007)


def test_each_half_is_calibrated_by_the_other():
    margins = torch.tensor([3.0, 1.0] * 2000)
    # Right in three of four where 3 is said: T = 3 / ln 3. In nine of ten where 1 is said: T = 1 / ln 9.
    sure = [float(place % 4 < 3) for place in range(2000)]
    unsure = [float(place % 10 < 9) for place in range(2000)]
    labels = torch.tensor([one for pair in zip(sure, unsure, strict=True) for one in pair])
    first, second = cross_fitted(margins, labels)[:2].tolist()
    assert first == pytest.approx(3 * math.log(9), rel=0.02)
    assert second == pytest.approx(math.log(3) / 3, rel=0.02)


def test_calibration_error_by_hand():
    logit = math.log(0.8 / 0.2)
    margins = torch.tensor([logit, logit, -logit, -logit])
    # Predicted .8 in every pair; right in three of four.
    assert expected_calibration_error(margins, torch.tensor([1.0, 1.0, 0.0, 1.0])) == pytest.approx(0.05, abs=1e-6)
    assert expected_calibration_error(margins, torch.tensor([0.8, 0.8, 0.2, 0.2])) == pytest.approx(0.0, abs=1e-6)


def test_a_bin_is_a_tenth_of_the_way_from_a_half_to_certainty():
    # Predicted .549, .551, .949, .951 and 1, one that is beyond the last bin's end by rounding: each of .5 to .55,
    # .55 to .6, .9 to .95 and .95 to 1 has votes of its own, and what one has too many another cannot make up for.
    margins = torch.tensor([math.log(p / (1 - p)) for p in (0.549, 0.551, 0.949, 0.951)] + [100.0, -100.0])
    votes = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    gaps = (0.549 - 0, 1 - 0.551, 0.949 - 0, 3 - (0.951 + 1 + 1))
    assert expected_calibration_error(margins, votes) == pytest.approx(sum(gaps) / 6, abs=1e-6)
    assert [(one["count"], one["accuracy"]) for one in calibration_bins(margins, votes)] == [
        (1, 0),
        (1, 1),
        (1, 0),
        (3, 1),
    ]
    spreads = (0.549 * 0.451, 0.551 * 0.449, 0.949 * 0.051, 0.951 * 0.049)
    noise = sum(math.sqrt(2 / math.pi * one) for one in spreads) / 6
    assert calibration_noise(margins) == pytest.approx(noise, rel=1e-5)


def test_a_model_that_prefers_neither_side_is_taken_for_one_that_says_a_half_of_either():
    """Whichever side of a pair happens to stand first: imported pairs are all of one kind."""
    alike, first = torch.zeros(8), torch.ones(8)
    assert expected_calibration_error(alike, first) == expected_calibration_error(alike, 1 - first) == 0
    assert calibration_bins(alike, first) == [{"confidence": 0.5, "accuracy": 0.5, "count": 8}]


def test_a_score_agrees_with_a_vote_or_not_or_says_nothing():
    margins, labels = torch.tensor([1.0, -1.0, 0.0, -5.0, 0.1]), torch.tensor([0.9, 0.9, 0.1, 0.2, 0.51])
    assert agreeing(margins, labels).tolist() == [1, 0, 0.5, 1, 1]


def test_cross_entropy_by_hand():
    # -log .8, and -(.25 log .5 + .75 log .5).
    margins, labels = torch.tensor([math.log(4), 0.0]), torch.tensor([1.0, 0.25])
    assert cross_entropy(margins, labels) == pytest.approx((math.log(1.25) + math.log(2)) / 2)
    assert cross_entropy(torch.tensor([2.0]), torch.tensor([0.25])) == pytest.approx(math.log(1 + math.exp(2)) - 0.5)


def test_correlation():
    assert correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])) == pytest.approx(1.0)
    assert correlation(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])) == pytest.approx(-1.0)
    assert correlation(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])) is None
    assert correlation(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0])) is None
    assert correlation(torch.tensor([1.0]), torch.tensor([1.0])) is None


def test_bins_by_hand_and_in_step_with_the_error():
    margins = torch.tensor([0.0, 0.1, -3.0, 3.0, 3.0])
    labels = torch.tensor([0.4, 1.0, 0.0, 1.0, 0.5])
    low, high = calibration_bins(margins, labels)
    assert (low["count"], high["count"]) == (2, 3)
    # Of the first pair the model prefers neither side.
    assert low["accuracy"] == pytest.approx(0.75)
    assert high["accuracy"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert high["confidence"] == pytest.approx(1 / (1 + math.exp(-3)))
    error = sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in (low, high)) / 5
    assert expected_calibration_error(margins, labels) == pytest.approx(error)


def test_outcomes_of_soft_labels():
    assert outcomes(torch.tensor([0.7, 0.5, 0.05, 1.0])).tolist() == [1.0, 0.5, 0.0, 1.0]


def test_the_slope_of_length_by_hand():
    # (1*2 + 3*1 - 4*2) / (4 + 1 + 4)
    assert length_slope(torch.tensor([1.0, 3.0, -4.0]), torch.tensor([2.0, 1.0, 2.0])) == pytest.approx(-3 / 9)
    assert length_slope(torch.tensor([1.0]), torch.tensor([0.0])) == 0


def test_the_temperature_of_softening_by_hand():
    assert temperature_of_softening(torch.tensor([0.9, 0.5, 0.3])) == pytest.approx((0.8 + 0.4) / 2)
    assert temperature_of_softening(torch.tensor([0.5])) == 1.0
    # Votes that are hardly worth more than a guess do not make a model certain of itself without end.
    assert temperature_of_softening(torch.tensor([0.51])) == pytest.approx(0.1)
    assert fit_temperature(torch.ones(0), torch.zeros(0), near=0.6) == pytest.approx(0.6, rel=0.01)


def test_calibration_noise_is_what_a_calibrated_model_shows():
    generator = torch.Generator().manual_seed(3)
    errors = []
    for _ in range(300):
        margins = torch.randn(400, generator=generator) * 1.5
        votes = (torch.rand(400, generator=generator) < torch.sigmoid(margins)).float()
        errors.append(expected_calibration_error(margins, votes))
    assert calibration_noise(margins) == pytest.approx(sum(errors) / len(errors), rel=0.08)


def test_a_weight_of_three_is_three_of_the_same():
    generator = torch.Generator().manual_seed(4)
    margins, longer = torch.randn(40, generator=generator), torch.randint(-5, 6, (40,), generator=generator).float()
    labels = torch.tensor([0.9, 0.2, 0.5, 0.7]).repeat(10)
    weights = torch.tensor([1.0, 3.0, 1.0, 2.0, 1.0]).repeat(8)
    again = weights.long()
    margins_3, labels_3, longer_3 = (of.repeat_interleave(again) for of in (margins, labels, longer))
    for weighted, repeated in (
        (fit_temperature(margins, labels, 0.7, weights), fit_temperature(margins_3, labels_3, 0.7)),
        (temperature_of_softening(labels, weights), temperature_of_softening(labels_3)),
        (expected_calibration_error(margins, labels, weights), expected_calibration_error(margins_3, labels_3)),
        (length_slope(margins, longer, weights), length_slope(margins_3, longer_3)),
        (cross_entropy(margins, labels, weights), cross_entropy(margins_3, labels_3)),
        (correlation(margins, longer, weights), correlation(margins_3, longer_3)),
        (float(weighted_mean(margins, weights)), float(margins_3.mean())),
    ):
        assert weighted == pytest.approx(repeated, rel=1e-5)
    for bin_1, bin_3 in zip(
        calibration_bins(margins, labels, weights), calibration_bins(margins_3, labels_3), strict=True
    ):
        assert bin_1 == pytest.approx(bin_3 | {"count": bin_1["count"]})
    assert sum(one["count"] for one in calibration_bins(margins, labels, weights)) == 40


def test_each_half_is_calibrated_by_the_other_by_its_weights():
    margins, labels = torch.tensor([1.0, 2.0] * 50), (torch.arange(100) % 7 > 1).float()
    weights = torch.tensor([1.0, 0.2, 0.0, 3.0]).repeat(25)
    found = cross_fitted(margins, labels, 0.8, weights)
    of_even, of_odd = (fit_temperature(margins[at::2], labels[at::2], 0.8, weights[at::2]) for at in (0, 1))
    torch.testing.assert_close(found[::2], margins[::2] / of_odd)
    torch.testing.assert_close(found[1::2], margins[1::2] / of_even)


def test_the_noise_of_weighted_votes_by_hand():
    """One vote of .8 that weighs 2 and two of .9 that weigh 1 and 3."""
    margins = torch.tensor([math.log(4), -math.log(9), math.log(9)])
    spreads = math.sqrt(4 * 0.8 * 0.2), math.sqrt((1 + 9) * 0.9 * 0.1)
    expected = sum(math.sqrt(2 / math.pi) * one for one in spreads) / 6
    assert calibration_noise(margins, torch.tensor([2.0, 1.0, 3.0])) == pytest.approx(expected)

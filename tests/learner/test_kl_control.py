"""The KL controllers by hand."""

import pytest

from learner.kl_control import AdaptiveKL, FixedKL


def test_fixed_stays():
    assert FixedKL(0.05).after(100.0, 256) == FixedKL(0.05)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(4.0, 0.1), (4.4, 0.1 * (1 + 0.1 * 0.25)), (40.0, 0.1 * (1 + 0.2 * 0.25)), (0.0, 0.1 * (1 - 0.2 * 0.25))],
)
def test_adaptive_moves_by_at_most_a_fifth_of_the_horizon_share(kl, expected):
    assert AdaptiveKL(0.1, 4.0, 1000).after(kl, 250).coefficient == pytest.approx(expected)


def test_a_step_beyond_the_horizon_never_turns_the_penalty_into_a_reward():
    for kl, expected in ((0.0, 0.08), (40.0, 0.12)):
        assert AdaptiveKL(0.1, 4.0, 50).after(kl, 256).coefficient == pytest.approx(expected)

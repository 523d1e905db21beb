import math

import numpy as np
import pytest

from feedback import ratings
from feedback.store import Store, votes
from feedback.store.ratings import Tally
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample


def test_two_versions_have_the_closed_form() -> None:
    """With two versions the maximum likelihood is log(wins / losses); the prior of 5 nats moves it by little."""
    theta, deviation, side = ratings.fit(np.array([[0.0, 12.5], [37.5, 0.0]]), np.array([[0.0, 50.0], [50.0, 0.0]]))
    assert side == pytest.approx(0, abs=1e-9)
    assert theta == pytest.approx([0, math.log(3)], abs=0.005)
    assert deviation == pytest.approx([0, math.sqrt(1 / 25 + 1 / 75)], abs=0.005)


def test_a_tie_is_half_a_win_and_sides_do_not_matter() -> None:
    shown = [
        Tally("helpful", 0, 1, "0", 6), Tally("helpful", 1, 0, "1", 4), Tally("helpful", 1, 0, "0", 14),
        Tally("helpful", 0, 1, "1", 16), Tally("helpful", 0, 1, "tie", 20),
    ]  # fmt: skip
    turned = [
        Tally("helpful", 1, 0, "1", 6), Tally("helpful", 0, 1, "0", 4), Tally("helpful", 0, 1, "1", 14),
        Tally("helpful", 1, 0, "0", 16), Tally("helpful", 1, 0, "tie", 20),
    ]  # fmt: skip
    balanced = [
        Tally("helpful", 0, 1, "0", 5), Tally("helpful", 1, 0, "1", 5), Tally("helpful", 1, 0, "0", 15),
        Tally("helpful", 0, 1, "1", 15), Tally("helpful", 0, 1, "tie", 10), Tally("helpful", 1, 0, "tie", 10),
    ]  # fmt: skip
    best, reference = ratings.rate(balanced)
    assert (best.version, best.votes, best.wins, best.ties) == (1, 60, 30, 20)
    assert best.elo == pytest.approx(400 * math.log10(40 / 20), abs=1)
    assert reference.elo == reference.low == reference.high == 0
    for found, expected in zip(ratings.rate(turned), ratings.rate(shown), strict=True):
        assert found.version == expected.version
        assert (found.elo, found.low, found.high) == pytest.approx((expected.elo, expected.low, expected.high))


def test_always_winning_stays_finite_and_unlinked_versions_have_no_rating() -> None:
    rated = {
        rating.version: rating
        for rating in ratings.rate(
            [Tally("helpful", 0, 1, "1", 50), Tally("helpful", 1, 2, "0", 5), Tally("helpful", 7, 8, "0", 500)]
        )
    }
    assert 0 < rated[1].elo < 4000
    assert rated[1].low < rated[1].elo < rated[1].high
    assert rated[7].elo is rated[8].low is None
    assert rated[7].wins == 500


def test_strengths_are_found_again() -> None:
    generator = np.random.default_rng(0)
    truth = np.array([0.0, 0.5, 1.2, 2.0])
    counts = []
    for left in range(4):
        for right in range(4):
            if left != right:
                wins = generator.binomial(2000, 1 / (1 + math.exp(truth[right] - truth[left])))
                counts += [Tally("h", left, right, "0", wins), Tally("h", left, right, "1", 2000 - wins)]
    found = {rating.version: rating for rating in ratings.rate(counts)}
    for version, strength in enumerate(truth):
        assert found[version].elo == pytest.approx(strength * ratings.ELO_PER_NAT, abs=20)


def test_standing_on_the_left_more_often_gains_nothing() -> None:
    """Raters who prefer the left two to one, equal versions, and one of them nearly always on the left."""
    votes = [
        Tally("h", 1, 0, "0", 600), Tally("h", 1, 0, "1", 300), Tally("h", 0, 1, "0", 60), Tally("h", 0, 1, "1", 30),
    ]  # fmt: skip
    for rating in ratings.rate(votes):
        assert rating.elo == pytest.approx(0, abs=3)
    assert 1 in {rating.version for rating in ratings.rate(votes) if rating.low < 0 < rating.high}


def test_the_fit_is_the_maximum_of_the_posterior_and_the_deviation_its_curvature() -> None:
    """Against a general optimiser and numerical second differences of the posterior, written out vote by vote."""
    from scipy.optimize import minimize

    generator = np.random.default_rng(3)
    shown = generator.integers(0, 30, (5, 5)).astype(float)
    np.fill_diagonal(shown, 0)
    score = generator.binomial(shown.astype(int), 0.6).astype(float)

    def loss(x: np.ndarray) -> float:
        total = sum(value**2 for value in x[:5]) / (2 * ratings.PRIOR_DEVIATION_NATS**2)
        total += x[5] ** 2 / (2 * ratings.SIDE_DEVIATION_NATS**2)
        for i in range(5):
            for j in range(5):
                p = 1 / (1 + math.exp(-(x[i] - x[j] + x[5])))
                total -= score[i, j] * math.log(p) + (shown[i, j] - score[i, j]) * math.log(1 - p)
        return total

    best = minimize(loss, np.zeros(6), tol=1e-12).x
    theta, deviation, side = ratings.fit(score, shown)
    assert theta == pytest.approx(best[:5] - best[0], abs=1e-4)
    assert side == pytest.approx(best[5], abs=1e-4)
    steps = np.eye(6) * 1e-3
    hessian = np.array(
        [
            [loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b) for b in steps]
            for a in steps
        ]
    ) / (4 * 1e-6)
    covariance = np.linalg.inv(hessian)
    contrast = np.array([0, 0, 0, 1, 0, 0]) - np.eye(6)[0]
    assert deviation[3] == pytest.approx(math.sqrt(contrast @ covariance @ contrast), rel=1e-3)


def test_from_the_record(store: Store) -> None:
    for preferred in ("1", "1", "0", "tie", "both_bad"):
        store.write(votes.put, add_comparison(store), judgement(preferred), key_id="key_a", sees_all=False, rater="a")
    unseen = [add_comparison(store, sample(version_last=2)), add_comparison(store, sample(version=1))]
    for comparison_id in unseen:
        store.write(votes.put, comparison_id, judgement("0"), key_id="key_a", sees_all=False, rater="a")
    assert store.read(ratings.current)["helpful"] == []
    count_all(store)
    current = store.read(ratings.current)
    assert [(rating.version, rating.votes, rating.wins, rating.ties) for rating in current["helpful"]] == [
        (1, 4, 2, 1),
        (0, 4, 1, 1),
    ]
    assert current["harmless"] == []

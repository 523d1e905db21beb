import math
from dataclasses import replace

import numpy as np
import pytest

from feedback import ratings
from feedback.store import Store, votes
from feedback.store.ratings import Tally
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample
from tests.memory import traced


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
    found = ratings.rate(
        [Tally("helpful", 0, 1, "1", 50), Tally("helpful", 1, 2, "0", 5), Tally("helpful", 7, 8, "0", 500)]
    )
    assert [rating.version for rating in found] == [1, 2, 0, 7, 8], "the best first, then those without a rating"
    rated = {rating.version: rating for rating in found}
    assert 0 < rated[1].elo < 4000
    assert rated[1].low < rated[1].elo
    assert rated[1].high - rated[1].elo == pytest.approx(rated[1].elo - rated[1].low)
    assert rated[7].elo is rated[8].low is None
    assert rated[7].wins == 500


def test_votes_that_nearly_all_say_the_same_lead_nowhere_else() -> None:
    """Newton's whole steps went to thousands of nats. At the maximum each slope of the log posterior is 0."""
    shown, score = np.zeros((5, 5)), np.zeros((5, 5))
    for left, right, votes_shown, won in (
        (0, 1, 582, 291), (0, 2, 2, 2), (0, 4, 144206, 103906), (1, 0, 2, 1), (1, 4, 1661, 0), (2, 1, 1, 0.5),
        (3, 0, 23, 23), (3, 2, 135, 0), (4, 0, 8, 0), (4, 1, 37, 18.5), (4, 3, 127, 0),
    ):  # fmt: skip
        shown[left, right], score[left, right] = votes_shown, won
    theta, _, side = ratings.fit(score, shown)
    # With a prior for each, strengths add up to 0 before the first is taken for 0.
    slopes = [*((theta.mean() - theta) / 25), -side]
    for left, right in zip(*shown.nonzero(), strict=True):
        surprise = score[left, right] - shown[left, right] / (1 + math.exp(theta[right] - theta[left] - side))
        for place, sign in ((left, 1), (right, -1), (5, 1)):
            slopes[place] += sign * surprise
    assert slopes == pytest.approx([0] * 6, abs=1e-6)


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
    pairs = [add_comparison(store) for _ in range(4)] + [add_comparison(store, sample(version=1), sample())]
    for comparison_id, preferred in zip(pairs, ("1", "1", "0", "both_bad", "tie"), strict=True):
        store.write(votes.put, comparison_id, judgement(preferred), key_id="key_a", sees_all=False, rater="a")
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
    # A version whose only votes were taken back is not rated, nor one beside a reply that two versions wrote.
    alone = add_comparison(store, sample(version=7), sample(version=8))
    for comparison_id in (alone, add_comparison(store, sample(version=9), sample(version=0, version_last=2))):
        store.write(votes.put, comparison_id, judgement("0"), key_id="key_a", sees_all=False, rater="a")
    count_all(store)
    assert {7, 8} < {rating.version for rating in store.read(ratings.current)["helpful"]}
    store.write(votes.retract, alone, None, key_id="key_a", sees_all=False, rater="a")
    assert store.read(ratings.current) == current


def test_the_clustered_interval_is_the_sandwich_worked_by_hand() -> None:
    """Two versions, always shown on the same sides but for one cluster; plain loops over votes."""
    score = np.zeros((3, 2, 2))
    shown = np.zeros((3, 2, 2))
    for cluster, (left, wins, times) in enumerate(((0, 8.0, 10.0), (0, 2.0, 10.0), (1, 3.5, 9.0))):
        shown[cluster, left, 1 - left], score[cluster, left, 1 - left] = times, wins
    theta, _, side = ratings.fit(score.sum(axis=0), shown.sum(axis=0))
    bread, meat = np.diag([1 / 25, 1 / 25, 1.0]), np.zeros((3, 3))
    for cluster in range(3):
        slope = np.zeros(3)
        for left in (0, 1):
            right = 1 - left
            expected = 1 / (1 + math.exp(theta[right] - theta[left] - side))
            direction = np.zeros(3)
            direction[[left, right, 2]] = 1, -1, 1
            slope += (score[cluster, left, right] - shown[cluster, left, right] * expected) * direction
            bread += shown[cluster, left, right] * expected * (1 - expected) * np.outer(direction, direction)
        meat += 3 / 2 * np.outer(slope, slope)
    covariance = np.linalg.inv(bread) @ meat @ np.linalg.inv(bread)
    contrast = np.array([-1.0, 1.0, 0.0])
    # Student's t with two degrees of freedom: 4.3027 at 97.5 %.
    expected_reach = 4.302652729911275 * math.sqrt(contrast @ covariance @ contrast)
    for clusters, reach in ((3, expected_reach), (1, 0)):
        where = np.nonzero(shown[:clusters])
        said = ratings.Said(*where, score[:clusters][where], shown[:clusters][where])
        assert ratings.clustered_reach(said, theta, side) == pytest.approx([0, reach], rel=1e-9)


def test_many_versions_take_no_more_memory_than_their_pairs() -> None:
    """A year of promotions: 400 versions, each compared with the one before by raters of all clusters."""
    chain = [
        Tally("h", version, version - 1, preferred, 3, cluster)
        for version in range(1, 400)
        for cluster in range(64)
        for preferred in ("0", "1", "tie")
    ]
    rated, most = traced(lambda: ratings.rate(chain))
    assert [rating.elo for rating in rated] == pytest.approx([0] * 400, abs=1e-6)
    # By cluster, each of six matrices alone would be 64 * 400 * 400 * 8 = 82 MB.
    assert most < 60e6


def test_intervals_hold_what_they_say_where_each_person_has_a_leaning() -> None:
    """Each of 40 people votes 30 times, by a preference of their own around the common one, log 2."""
    rng = np.random.default_rng(4)
    inside, naive = 0, 0
    for _ in range(200):
        counts = []
        for person, leaning in enumerate(rng.normal(math.log(2), 1.0, 40)):
            wins = int(rng.binomial(30, 1 / (1 + math.exp(-leaning))))
            counts += [Tally("h", 1, 0, "0", wins, person), Tally("h", 1, 0, "1", 30 - wins, person)]
            # The other way round as often, so that no side is worth anything.
            counts += [Tally("h", 0, 1, "1", wins, person), Tally("h", 0, 1, "0", 30 - wins, person)]
        # What people on the whole prefer is a little less sure than each of them.
        truth = math.log(2) / math.sqrt(1 + 0.346) * 400 / math.log(10)
        for alike, by_person in ((False, counts), (True, [replace(tally, cluster=0) for tally in counts])):
            (rated,) = (rating for rating in ratings.rate(by_person) if rating.version == 1)
            covers = rated.low <= truth <= rated.high
            naive, inside = naive + (covers and alike), inside + (covers and not alike)
    assert 182 <= inside <= 199
    assert naive < 160

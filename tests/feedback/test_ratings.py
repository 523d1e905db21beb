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
    theta, deviation = ratings.fit(np.array([[0.0, 25.0], [75.0, 0.0]]))
    assert theta == pytest.approx([0, math.log(3)], abs=0.005)
    assert deviation == pytest.approx([0, math.sqrt(1 / 25 + 1 / 75)], abs=0.005)


def test_a_tie_is_half_a_win_and_sides_do_not_matter() -> None:
    shown = [Tally("helpful", 0, 1, "0", 10), Tally("helpful", 1, 0, "0", 30), Tally("helpful", 0, 1, "tie", 20)]
    turned = [Tally("helpful", 1, 0, "1", 10), Tally("helpful", 0, 1, "1", 30), Tally("helpful", 1, 0, "tie", 20)]
    best, reference = ratings.rate(shown)
    assert (best.version, best.votes, best.wins, best.ties) == (1, 60, 30, 20)
    assert best.elo == pytest.approx(400 * math.log10(40 / 20), abs=1)
    assert reference.elo == reference.low == reference.high == 0
    assert ratings.rate(turned) == ratings.rate(shown)


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

import math

import numpy as np
import pytest

from feedback.reliability import ABILITY_MEAN, Votes, estimate


def simulate(
    abilities: list[float], log_ease_P: np.ndarray, votes_each: int, seed: int = 0
) -> tuple[Votes, np.ndarray]:
    rng = np.random.default_rng(seed)
    pairs = len(log_ease_P)
    truth_P = rng.choice([-1, 1], pairs)
    pair_V = np.repeat(np.arange(pairs), votes_each)
    rater_V = np.concatenate([rng.choice(len(abilities), votes_each, replace=False) for _ in range(pairs)])
    right_V = rng.random(len(pair_V)) < 1 / (1 + np.exp(-np.array(abilities)[rater_V] * np.exp(log_ease_P)[pair_V]))
    side_V = np.where(right_V, truth_P[pair_V], -truth_P[pair_V])
    return Votes(rater_V, pair_V, side_V, np.zeros(pairs, dtype=np.int64), len(abilities)), truth_P


def test_abilities_and_truth_are_found_again() -> None:
    abilities = [2.0, 1.2, 1.2, 1.0, 0.8, 0.8, 0.0, -1.2]
    votes, truth_P = simulate(abilities, np.zeros(1500), 4)
    found = estimate(votes)
    assert found.ability_R == pytest.approx(abilities, abs=0.3)
    majority = np.sign(np.bincount(votes.pair_V, weights=votes.side_V)) == truth_P
    assert (np.sign(found.log_odds_P) == truth_P).mean() > majority.mean() + 0.05


def test_hard_pairs_are_told_from_easy_ones_and_do_not_count_against_a_rater() -> None:
    log_ease_P = np.where(np.arange(400) % 2 == 0, 0.8, -1.5)
    votes, _ = simulate([ABILITY_MEAN] * 12, log_ease_P, 10)
    found = estimate(votes)
    assert found.log_ease_P[::2].mean() > found.log_ease_P[1::2].mean() + 0.4


def test_one_pair_is_worked_by_hand() -> None:
    """Three raters, of whom the prior says the same, two for side 0: the log odds are one rater's ability."""
    votes = Votes(np.array([0, 1, 2]), np.zeros(3, np.int64), np.array([1, 1, -1]), np.zeros(1, np.int64), 3)
    found = estimate(votes)
    ease = math.exp(found.log_ease_P[0])
    assert found.log_odds_P[0] == pytest.approx(ease * (found.ability_R[0] + found.ability_R[1] - found.ability_R[2]))
    assert found.without_own(votes) == pytest.approx(
        [ease * (found.ability_R[1] - found.ability_R[2])] * 2 + [-ease * (found.ability_R[0] + found.ability_R[1])]
    )
    assert found.ability_R[2] < ABILITY_MEAN < found.ability_R[0]


def test_a_known_answer_counts_more_than_a_majority() -> None:
    rater_V, pair_V = np.tile(np.arange(3), 20), np.repeat(np.arange(20), 3)
    votes = Votes(rater_V, pair_V, np.tile([1, 1, -1], 20), np.full(20, -1), 3)
    found = estimate(votes)
    assert (found.log_odds_P < -4).all()
    assert found.reliability_R[0] < 0.3 < 0.8 < found.reliability_R[2]


def test_a_lone_rater_stays_what_the_prior_says() -> None:
    votes = Votes(np.zeros(50, np.int64), np.arange(50), np.ones(50, np.int64), np.zeros(50, np.int64), 1)
    found = estimate(votes)
    assert found.reliability_R == pytest.approx([0.75], abs=0.03)
    assert (found.without_own(votes) == 0).all()

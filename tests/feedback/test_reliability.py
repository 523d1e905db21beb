import math
from dataclasses import replace

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


def test_the_fit_is_the_maximum_of_the_posterior() -> None:
    """Of the marginal one, written out vote by vote: nothing that is moved a little makes what was said likelier."""
    abilities, ease_P = [2.0, 1.2, 0.9, 0.0, -1.0], np.tile([0.6, -0.4], 30)
    votes, truth_P = simulate(abilities, ease_P, 3, seed=4)
    votes = replace(votes, known_P=np.where(np.arange(60) < 5, truth_P, 0))
    found = estimate(votes)

    def log_posterior(ability_R: np.ndarray, log_ease_P: np.ndarray) -> float:
        total = -sum((one - math.log(3)) ** 2 / 2 for one in ability_R) - sum(one**2 / 2 / 0.5**2 for one in log_ease_P)
        for pair, known in enumerate(votes.known_P):
            likelihoods = []
            for truth in (1, -1):
                # The answer of a known pair is right with log odds of 8.
                likelihood = 1 / (1 + math.exp(-8 * truth * known))
                for rater, at, side in zip(votes.rater_V, votes.pair_V, votes.side_V, strict=True):
                    if at == pair:
                        likelihood /= 1 + math.exp(-side * truth * ability_R[rater] * math.exp(log_ease_P[pair]))
                likelihoods.append(likelihood)
            total += math.log(sum(likelihoods))
        return total

    def slope(which: str, place: int) -> float:
        moved = []
        for step in (1e-4, -1e-4):
            ability_R, log_ease_P = found.ability_R.copy(), found.log_ease_P.copy()
            (ability_R if which == "ability" else log_ease_P)[place] += step
            moved.append(log_posterior(ability_R, log_ease_P))
        return (moved[0] - moved[1]) / 2e-4

    assert [slope("ability", rater) for rater in range(5)] == pytest.approx([0] * 5, abs=0.02)
    assert [slope("ease", pair) for pair in range(60)] == pytest.approx([0] * 60, abs=0.02)


def test_what_others_say_leaves_out_all_votes_of_ones_own_on_the_pair() -> None:
    """Repeats too, whoever else voted on whatever else."""
    rng = np.random.default_rng(5)
    votes = Votes(rng.integers(0, 4, 60), rng.integers(0, 7, 60), rng.choice([-1, 1], 60), np.zeros(7, np.int64), 4)
    found = estimate(votes)
    said = list(zip(votes.rater_V, votes.pair_V, votes.side_V, strict=True))
    expected = [
        side
        * sum(
            other * found.ability_R[by] * math.exp(found.log_ease_P[pair])
            for by, on, other in said
            if on == pair and by != rater
        )
        for rater, pair, side in said
    ]
    assert found.without_own(votes) == pytest.approx(expected)


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


@pytest.mark.parametrize("turned", [1, -1])
def test_no_vote_tells_more_than_is_said(turned: int) -> None:
    """Of a rater who is always right, or always wrong, by 40 answers that are known; alone on one more pair."""
    known_P = np.append(np.ones(40, np.int64), 0)
    votes = Votes(np.zeros(41, np.int64), np.arange(41), np.full(41, turned), known_P, 1)
    found = estimate(votes, most_told=0.9)
    assert turned * found.ability_R[0] > 1.5
    assert found.log_odds_P[40] == pytest.approx(0.9 * math.exp(found.log_ease_P[40]))
    assert found.without_own(votes)[40] == 0

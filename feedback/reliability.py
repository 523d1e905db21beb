"""How often each rater is right, and how hard each pair is, from votes alone.

GLAD (Whitehill et al. 2009, "Whose vote should count more", section 2): a vote on pair i by rater j agrees with the
truth with probability sigmoid(alpha_j * beta_i), where alpha is the rater's ability (negative: votes against the truth)
and beta > 0 how easy the pair is. Fitted by expectation maximisation with normal priors on alpha and log beta; the
prior's positive mean is what tells the truth from its mirror image. Plain arrays, no record and no settings.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABILITY_MEAN = math.log(3)
"""Ability of a rater who is right on three votes in four; what is assumed before they have voted."""

ABILITY_DEVIATION = 1.0
LOG_EASE_DEVIATION = 0.5
KNOWN_LOG_ODDS = 8.0
ITERATIONS = 60
NEWTON_STEPS = 2
TOLERANCE = 1e-4

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """V votes, one or more: `rater_V` and `pair_V` are indices, `side_V` is +1 for reply 0 and -1 for reply 1.

    `known_P` is +1 or -1 for a pair whose answer is known, else 0.
    """

    rater_V: Ints
    pair_V: Ints
    side_V: Ints
    known_P: Ints
    raters: int


@dataclass(frozen=True)
class Estimate:
    """`ability_R` and `log_ease_P` as fitted; `log_odds_P` that reply 0 is the better one, of which no vote told more
    than one of a rater of the ability `most_told`."""

    ability_R: Floats
    log_ease_P: Floats
    log_odds_P: Floats
    most_told: float

    @property
    def reliability_R(self) -> Floats:
        """The chance that a rater is right on a pair of average ease."""
        return _sigmoid(self.ability_R)

    def without_own(self, votes: Votes) -> Floats:
        """[V] log odds that the vote is right, by what the other raters say of the pair; 0 where nobody else voted."""
        told_R = np.clip(self.ability_R, -self.most_told, self.most_told)
        own_by_rater_and_pair = _own_evidence(votes, told_R, self.log_ease_P)
        others_V = np.where(
            votes.known_P[votes.pair_V] != 0,
            self.log_odds_P[votes.pair_V],
            self.log_odds_P[votes.pair_V] - own_by_rater_and_pair,
        )
        return votes.side_V * others_V


def estimate(votes: Votes, most_told: float = math.inf) -> Estimate:
    """Fit abilities and ease by expectation maximisation.

    With `most_told` no vote tells more of its pair than one of a rater of this ability, nor more against what it says
    where the rater votes against the truth. Raters who go by something
    else, always the left side or the longer reply, agree among themselves better than those who judge: the model as it
    is believes them, and takes the others for those who are wrong.
    """
    ability_R = np.full(votes.raters, ABILITY_MEAN)
    log_ease_P = np.zeros(len(votes.known_P))
    log_odds_P = _log_odds(votes, ability_R, log_ease_P)
    for _ in range(ITERATIONS):
        before_R = ability_R
        right_V = _sigmoid(votes.side_V * log_odds_P[votes.pair_V])
        for _ in range(NEWTON_STEPS):
            ability_R, log_ease_P = _improve(votes, right_V, ability_R, log_ease_P)
        log_odds_P = _log_odds(votes, np.clip(ability_R, -most_told, most_told), log_ease_P)
        if np.abs(ability_R - before_R).max() < TOLERANCE:
            break
    return Estimate(ability_R, log_ease_P, log_odds_P, most_told)


def _improve(votes: Votes, right_V: Floats, ability_R: Floats, log_ease_P: Floats) -> tuple[Floats, Floats]:
    """One damped Newton step in each direction of the expected log posterior."""
    ease_V, ability_V = np.exp(log_ease_P)[votes.pair_V], ability_R[votes.rater_V]
    expected_V = _sigmoid(ability_V * ease_V)
    surprise_V, spread_V = right_V - expected_V, expected_V * (1 - expected_V)
    slope_R = _sum(votes.rater_V, surprise_V * ease_V, votes.raters) - (ability_R - ABILITY_MEAN) / ABILITY_DEVIATION**2
    bend_R = _sum(votes.rater_V, spread_V * ease_V**2, votes.raters) + 1 / ABILITY_DEVIATION**2
    pairs = len(log_ease_P)
    slope_P = _sum(votes.pair_V, surprise_V * ability_V * ease_V, pairs) - log_ease_P / LOG_EASE_DEVIATION**2
    bend_P = _sum(votes.pair_V, spread_V * (ability_V * ease_V) ** 2, pairs) + 1 / LOG_EASE_DEVIATION**2
    return ability_R + np.clip(slope_R / bend_R, -1, 1), log_ease_P + np.clip(slope_P / bend_P, -0.5, 0.5)


def _log_odds(votes: Votes, ability_R: Floats, log_ease_P: Floats) -> Floats:
    evidence_V = votes.side_V * ability_R[votes.rater_V] * np.exp(log_ease_P)[votes.pair_V]
    log_odds_P = _sum(votes.pair_V, evidence_V, len(votes.known_P))
    return np.where(votes.known_P != 0, KNOWN_LOG_ODDS * votes.known_P, log_odds_P)


def _own_evidence(votes: Votes, ability_R: Floats, log_ease_P: Floats) -> Floats:
    """[V] what all votes of the same rater on the same pair (its repeats too) add to the pair's log odds."""
    evidence_V = votes.side_V * ability_R[votes.rater_V] * np.exp(log_ease_P)[votes.pair_V]
    _, group_V = np.unique(votes.pair_V * votes.raters + votes.rater_V, return_inverse=True)
    return _sum(group_V, evidence_V, len(group_V))[group_V]


def _sum(index_V: Ints, value_V: Floats, length: int) -> Floats:
    return np.bincount(index_V, weights=value_V, minlength=length).astype(np.float64)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))

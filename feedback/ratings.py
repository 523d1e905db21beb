"""Ratings of policy versions from votes: Bradley-Terry per objective, on the Elo scale.

P(i preferred to j) = sigmoid(theta_i - theta_j); a tie counts as half a win for each side. The Elo scale is theta *
400 / ln 10, so a difference of d is preferred with probability 1 / (1 + 10^(-d/400)) (Bai et al. 2022, section 2.3).
A weak normal prior keeps a version that always won finite. Versions that no chain of votes links to the reference
(the oldest version of the largest component) cannot be compared with it and have no rating.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sqlalchemy.orm import Session

from feedback.schema import OBJECTIVES, version_name
from feedback.store.ratings import Tally, tallies

ELO_PER_NAT = 400 / math.log(10)
PRIOR_DEVIATION_NATS = 5.0
CONFIDENCE_Z = 1.959963984540054
NEWTON_STEPS = 100
NEWTON_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Rating:
    """One version under one objective. `elo`, `low` and `high` are None when it is not linked to the reference."""

    version: int
    elo: float | None
    low: float | None
    high: float | None
    votes: int
    wins: int
    ties: int

    def as_json(self) -> dict[str, Any]:
        return {
            "version": version_name(self.version),
            "rating": self.elo,
            "interval": None if self.low is None else [self.low, self.high],
            "votes": self.votes,
            "wins": self.wins,
            "ties": self.ties,
        }


def current(session: Session) -> dict[str, list[Rating]]:
    """The ratings by objective, from all votes counted so far; the best first."""
    by_objective: dict[str, list[Tally]] = defaultdict(list)
    for tally in tallies(session):
        by_objective[tally.objective].append(tally)
    return {objective: rate(by_objective[objective]) for objective in OBJECTIVES}


def rate(votes: Iterable[Tally]) -> list[Rating]:
    """Bradley-Terry ratings of the versions in `votes`, the best first, the reference at 0."""
    votes = list(votes)
    versions = sorted({version for tally in votes for version in (tally.left, tally.right)})
    if not versions:
        return []
    wins_N_N, ties_N_N = _count(votes, versions)
    games_N_N = wins_N_N + wins_N_N.T + ties_N_N
    _, component_N = connected_components(games_N_N > 0, directed=False)
    reference_component = np.bincount(component_N).argmax()
    linked = np.flatnonzero(component_N == reference_component)
    score_N_N = wins_N_N + ties_N_N / 2
    theta, deviation = fit(score_N_N[np.ix_(linked, linked)])
    rated = {int(index): (float(theta[i]), float(deviation[i])) for i, index in enumerate(linked)}
    ratings = [
        _rating(version, rated.get(i), games_N_N[i].sum(), wins_N_N[i].sum(), ties_N_N[i].sum())
        for i, version in enumerate(versions)
    ]
    return sorted(ratings, key=lambda rating: -math.inf if rating.elo is None else rating.elo, reverse=True)


def fit(score_N_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maximum a posteriori strengths from `score[i, j]`, the number of times i was preferred to j (ties: half each).

    Returns theta [N] with theta[0] = 0, and the standard deviation [N] of each theta[i] - theta[0], from the inverse of
    the negative Hessian. Newton's method; the log posterior is concave.
    """
    count = len(score_N_N)
    theta_N = np.zeros(count)
    precision = np.eye(count) / PRIOR_DEVIATION_NATS**2
    games_N_N = score_N_N + score_N_N.T
    for _ in range(NEWTON_STEPS):
        expected_N_N = 1 / (1 + np.exp(theta_N[None, :] - theta_N[:, None]))
        gradient_N = (score_N_N - games_N_N * expected_N_N).sum(axis=1) - precision @ theta_N
        information_N_N = _information(games_N_N * expected_N_N * (1 - expected_N_N)) + precision
        step_N = np.linalg.solve(information_N_N, gradient_N)
        theta_N = theta_N + step_N
        if np.abs(step_N).max() < NEWTON_TOLERANCE:
            break
    covariance_N_N = np.linalg.inv(information_N_N)
    variance_N = np.diag(covariance_N_N) + covariance_N_N[0, 0] - 2 * covariance_N_N[:, 0]
    return theta_N - theta_N[0], np.sqrt(np.maximum(variance_N, 0))


def _information(weight_N_N: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.diag(weight_N_N.sum(axis=1)) - weight_N_N


def _count(votes: list[Tally], versions: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    index = {version: i for i, version in enumerate(versions)}
    wins_N_N, ties_N_N = np.zeros((2, len(versions), len(versions)))
    for tally in votes:
        left, right = index[tally.left], index[tally.right]
        if tally.preferred == "tie":
            ties_N_N[left, right] += tally.votes
            ties_N_N[right, left] += tally.votes
        else:
            winner, loser = (left, right) if tally.preferred == "0" else (right, left)
            wins_N_N[winner, loser] += tally.votes
    return wins_N_N, ties_N_N


def _rating(version: int, rated: tuple[float, float] | None, votes: float, wins: float, ties: float) -> Rating:
    if rated is None:
        return Rating(version, None, None, None, int(votes), int(wins), int(ties))
    theta, deviation = rated
    low, high = (ELO_PER_NAT * (theta + side * CONFIDENCE_Z * deviation) for side in (-1, 1))
    return Rating(version, ELO_PER_NAT * theta, low, high, int(votes), int(wins), int(ties))

"""Ratings of policy versions from votes: Bradley-Terry per objective, on the Elo scale.

P(i, on the left, preferred to j, on the right) = sigmoid(theta_i - theta_j + side); a tie counts as half a win for
each. `side` is what standing on the left is worth to the raters, so that a version shown there more often gains nothing
by it. The Elo scale is theta * 400 / ln 10, so a difference of d is preferred with probability 1 / (1 + 10^(-d/400))
(Bai et al. 2022, section 2.3). A weak normal prior keeps a version that always won finite. Versions that no chain of
votes links to the reference (the oldest version of the largest component) cannot be compared with it and have no
rating.
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
SIDE_DEVIATION_NATS = 1.0
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
    left_N_N, right_N_N, ties_N_N = _count(votes, versions)
    shown_N_N = left_N_N + right_N_N + ties_N_N
    _, component_N = connected_components(shown_N_N > 0, directed=False)
    reference_component = np.bincount(component_N).argmax()
    linked = np.flatnonzero(component_N == reference_component)
    among = np.ix_(linked, linked)
    theta, deviation, _ = fit((left_N_N + ties_N_N / 2)[among], shown_N_N[among])
    rated = {int(index): (float(theta[i]), float(deviation[i])) for i, index in enumerate(linked)}
    games_N = (shown_N_N + shown_N_N.T).sum(axis=1)
    wins_N = left_N_N.sum(axis=1) + right_N_N.sum(axis=0)
    ties_N = (ties_N_N + ties_N_N.T).sum(axis=1)
    ratings = [_rating(version, rated.get(i), games_N[i], wins_N[i], ties_N[i]) for i, version in enumerate(versions)]
    return sorted(ratings, key=lambda rating: -math.inf if rating.elo is None else rating.elo, reverse=True)


def fit(
    score_N_N: NDArray[np.float64], shown_N_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Maximum a posteriori strengths and side advantage.

    `shown[i, j]` is how often i stood on the left of j and a vote compared them, `score[i, j]` how often it was
    preferred then (ties: half). Returns theta [N] with theta[0] = 0, the standard deviation [N] of each theta[i] -
    theta[0], from the inverse of the negative Hessian, and the side advantage, all in nats. Newton's method; the log
    posterior is concave.
    """
    count = len(score_N_N)
    parameters = np.zeros(count + 1)
    precision = np.diag([1 / PRIOR_DEVIATION_NATS**2] * count + [1 / SIDE_DEVIATION_NATS**2])
    for _ in range(NEWTON_STEPS):
        theta_N, side = parameters[:count], parameters[count]
        expected_N_N = 1 / (1 + np.exp(theta_N[None, :] - theta_N[:, None] - side))
        surprise_N_N = score_N_N - shown_N_N * expected_N_N
        slope = np.append(surprise_N_N.sum(axis=1) - surprise_N_N.sum(axis=0), surprise_N_N.sum())
        information = _information(shown_N_N * expected_N_N * (1 - expected_N_N)) + precision
        step = np.linalg.solve(information, slope - precision @ parameters)
        parameters = parameters + step
        if np.abs(step).max() < NEWTON_TOLERANCE:
            break
    covariance = np.linalg.inv(information)
    variance_N = (np.diag(covariance) + covariance[0, 0] - 2 * covariance[:, 0])[:count]
    return parameters[:count] - parameters[0], np.sqrt(np.maximum(variance_N, 0)), float(parameters[count])


def _information(weight_N_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N + 1, N + 1] the negative Hessian of the log likelihood in theta and the side."""
    both_N_N = weight_N_N + weight_N_N.T
    on_side_N = weight_N_N.sum(axis=1) - weight_N_N.sum(axis=0)
    strengths = np.diag(both_N_N.sum(axis=1)) - both_N_N
    return np.block([[strengths, on_side_N[:, None]], [on_side_N[None, :], weight_N_N.sum()[None, None]]])


def _count(
    votes: list[Tally], versions: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """[left, right] how often the left one was preferred, the right one, neither."""
    index = {version: i for i, version in enumerate(versions)}
    counts = np.zeros((3, len(versions), len(versions)))
    for tally in votes:
        counts[("0", "1", "tie").index(tally.preferred), index[tally.left], index[tally.right]] += tally.votes
    return counts[0], counts[1], counts[2]


def _rating(version: int, rated: tuple[float, float] | None, votes: float, wins: float, ties: float) -> Rating:
    if rated is None:
        return Rating(version, None, None, None, int(votes), int(wins), int(ties))
    theta, deviation = rated
    low, high = (ELO_PER_NAT * (theta + side * CONFIDENCE_Z * deviation) for side in (-1, 1))
    return Rating(version, ELO_PER_NAT * theta, low, high, int(votes), int(wins), int(ties))

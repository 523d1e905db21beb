"""Ratings of policy versions from votes: Bradley-Terry per objective, on the Elo scale.

P(i, on the left, preferred to j, on the right) = sigmoid(theta_i - theta_j + side); a tie counts as half a win for
each. `side` is what standing on the left is worth to the raters, so that a version shown there more often gains nothing
by it. The Elo scale is theta * 400 / ln 10, so a difference of d is preferred with probability 1 / (1 + 10^(-d/400))
(Bai et al. 2022, section 2.3). A weak normal prior keeps a version that always won finite. Versions that no chain of
votes links to the reference (the oldest version of the largest component) cannot be compared with it and have no
rating.

One person's votes are not independent of each other: the interval of a rating is the wider one of that by the
curvature, which takes them for independent, and that by the sandwich over clusters of raters.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit, stdtrit
from sqlalchemy.orm import Session

from feedback.objectives import OBJECTIVES
from feedback.schema import version_name
from feedback.store.ratings import Tally, tallies

ELO_PER_NAT = 400 / math.log(10)
PRIOR_DEVIATION_NATS = 5.0
SIDE_DEVIATION_NATS = 1.0
CONFIDENCE = 0.95
CONFIDENCE_Z = 1.959963984540054
# Of the version on the left; a tie is half a win for each.
SCORE = {"0": 1.0, "1": 0.0, "tie": 0.5}
NEWTON_STEPS = 100
NEWTON_TOLERANCE = 1e-10
Posterior = tuple[float, NDArray[np.float64], NDArray[np.float64]]
"""The log posterior at a point, its slope [P] and its negative Hessian [P, P]."""


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


@dataclass(frozen=True)
class Said:
    """What T kinds of votes said: `votes_T` of a cluster on a pair shown as (left, right), by index, of which the left
    one was preferred by `score_T`. One row a kind: a matrix a cluster would be as large as all versions squared.
    """

    cluster_T: NDArray[np.int64]
    left_T: NDArray[np.int64]
    right_T: NDArray[np.int64]
    score_T: NDArray[np.float64]
    votes_T: NDArray[np.float64]


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
    said = _said(votes, versions)
    _, component_N = connected_components(_by_pair(said, said.votes_T, len(versions)) > 0, directed=False)
    reference_component = np.bincount(component_N).argmax()
    linked = np.flatnonzero(component_N == reference_component)
    within = _within(said, linked)
    theta, deviation, side = fit(*(_by_pair(within, each, len(linked)) for each in (within.score_T, within.votes_T)))
    reach = np.maximum(CONFIDENCE_Z * deviation, clustered_reach(within, theta, side))
    rated = {int(index): (float(theta[i]), float(reach[i])) for i, index in enumerate(linked)}
    games, wins, ties = Counter[int](), Counter[int](), Counter[int]()
    for tally in votes:
        for version, win in ((tally.left, "0"), (tally.right, "1")):
            games[version] += tally.votes
            wins[version] += tally.votes * (tally.preferred == win)
            ties[version] += tally.votes * (tally.preferred == "tie")
    ratings = [
        _rating(version, rated.get(i), games[version], wins[version], ties[version])
        for i, version in enumerate(versions)
    ]
    return sorted(ratings, key=lambda rating: -math.inf if rating.elo is None else rating.elo, reverse=True)


def fit(
    score_N_N: NDArray[np.float64], shown_N_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Maximum a posteriori strengths and side advantage.

    `shown[i, j]` is how often i stood on the left of j and a vote compared them, `score[i, j]` how often it was
    preferred then (ties: half). Returns theta [N] with theta[0] = 0, the standard deviation [N] of each theta[i] -
    theta[0], from the inverse of the negative Hessian, and the side advantage, all in nats.
    """
    count = len(score_N_N)
    precision = _prior_precision(count)

    def at(parameters: NDArray[np.float64]) -> Posterior:
        nats_N_N = _nats(parameters[:count], parameters[count])
        expected_N_N = expit(nats_N_N)
        likelihood = (score_N_N * log_expit(nats_N_N) + (shown_N_N - score_N_N) * log_expit(-nats_N_N)).sum()
        return (
            likelihood - parameters @ precision @ parameters / 2,
            _slope(score_N_N - shown_N_N * expected_N_N) - precision @ parameters,
            _information(shown_N_N * expected_N_N * (1 - expected_N_N)) + precision,
        )

    parameters, information = highest(at, count + 1)
    deviation_N = _deviation(np.linalg.inv(information))
    return parameters[:count] - parameters[0], deviation_N, float(parameters[count])


def highest(
    at: Callable[[NDArray[np.float64]], Posterior], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a log posterior that is concave is highest, [P] of `count`, and its negative Hessian [P, P] there.

    Newton's method from zero. A step that leads downhill is halved: where nearly all votes say the same, whole steps
    lead further and further away.
    """
    found = np.zeros(count)
    value, slope, information = at(found)
    for _ in range(NEWTON_STEPS):
        step = np.linalg.solve(information, slope)
        after = at(found + step)
        while after[0] < value and np.abs(step).max() >= NEWTON_TOLERANCE:
            step = step / 2
            after = at(found + step)
        if np.abs(step).max() < NEWTON_TOLERANCE:
            break
        found, (value, slope, information) = found + step, after
    return found, information


def clustered_reach(said: Said, theta_N: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """[N] half the width of each theta[i] - theta[0]'s interval, in nats, where votes within a cluster go together.

    `theta` and `side` are what `fit` found. Zeros for a single cluster.
    """
    count = len(theta_N)
    voting, cluster_T = np.unique(said.cluster_T, return_inverse=True)
    expected_N_N = _expected(theta_N, side)
    surprise_T = said.score_T - said.votes_T * expected_N_N[said.left_T, said.right_T]
    slope_G = np.zeros((len(voting), count + 1))
    for column, sign in ((said.left_T, 1), (said.right_T, -1), (np.full(len(surprise_T), count), 1)):
        np.add.at(slope_G, (cluster_T, column), sign * surprise_T)
    weight_N_N = _by_pair(said, said.votes_T, count) * expected_N_N * (1 - expected_N_N)
    bread = np.linalg.inv(_information(weight_N_N) + _prior_precision(count))
    covariance, student = sandwich(bread, slope_G)
    return student * _deviation(covariance)


def sandwich(bread: NDArray[Any], slope_G_P: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """The covariance [P, P] of an estimate where votes within a cluster go together, and how many deviations its
    interval reaches. Both are zero for a single cluster, which tells nothing.

    B M B (Liang & Zeger 1986): B the inverse of the negative Hessian, M the sum over the G clusters of the outer
    products of their slopes, times G / (G - 1); Student's t with G - 1 degrees of freedom.
    """
    clusters = len(slope_G_P)
    if clusters < 2:
        return np.zeros_like(bread), 0.0
    meat = slope_G_P.T @ slope_G_P * clusters / (clusters - 1)
    return bread @ meat @ bread, float(stdtrit(clusters - 1, 0.5 + CONFIDENCE / 2))


def _prior_precision(count: int) -> NDArray[np.float64]:
    return np.diag([1 / PRIOR_DEVIATION_NATS**2] * count + [1 / SIDE_DEVIATION_NATS**2])


def _expected(theta_N: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """[N, N] how probable it is that i, on the left, is preferred to j."""
    found: NDArray[np.float64] = expit(_nats(theta_N, side))
    return found


def _nats(theta_N: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    return theta_N[:, None] - theta_N[None, :] + side


def _slope(surprise_N_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N + 1] the slope of the log likelihood in theta and the side."""
    return np.append(surprise_N_N.sum(axis=1) - surprise_N_N.sum(axis=0), surprise_N_N.sum())


def _deviation(covariance: NDArray[Any]) -> NDArray[np.float64]:
    """[N] of each theta[i] - theta[0]."""
    variance_N = (np.diag(covariance) + covariance[0, 0] - 2 * covariance[:, 0])[:-1]
    return np.sqrt(np.maximum(variance_N, 0))


def _information(weight_N_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N + 1, N + 1] the negative Hessian of the log likelihood in theta and the side."""
    both_N_N = weight_N_N + weight_N_N.T
    on_side_N = weight_N_N.sum(axis=1) - weight_N_N.sum(axis=0)
    strengths = np.diag(both_N_N.sum(axis=1)) - both_N_N
    return np.block([[strengths, on_side_N[:, None]], [on_side_N[None, :], weight_N_N.sum()[None, None]]])


def _said(votes: list[Tally], versions: list[int]) -> Said:
    index = {version: i for i, version in enumerate(versions)}
    kept = [tally for tally in votes if tally.votes]
    cluster_T, left_T, right_T = (
        np.array([(tally.cluster, index[tally.left], index[tally.right]) for tally in kept], dtype=np.int64)
        .reshape(-1, 3)
        .T
    )
    votes_T = np.array([tally.votes for tally in kept], dtype=np.float64)
    return Said(cluster_T, left_T, right_T, votes_T * [SCORE[tally.preferred] for tally in kept], votes_T)


def _within(said: Said, linked: NDArray[np.int64]) -> Said:
    """What was said of the versions in `linked`, each known by its place there."""
    kept_T = np.isin(said.left_T, linked)
    left_T, right_T = (np.searchsorted(linked, side_T[kept_T]) for side_T in (said.left_T, said.right_T))
    return Said(said.cluster_T[kept_T], left_T, right_T, said.score_T[kept_T], said.votes_T[kept_T])


def _by_pair(said: Said, value_T: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """[left, right] the sum of the values."""
    found_N_N = np.zeros((count, count))
    np.add.at(found_N_N, (said.left_T, said.right_T), value_T)
    return found_N_N


def _rating(version: int, rated: tuple[float, float] | None, votes: int, wins: int, ties: int) -> Rating:
    if rated is None:
        return Rating(version, None, None, None, votes, wins, ties)
    theta, reach = rated
    low, high = (ELO_PER_NAT * (theta + side * reach) for side in (-1, 1))
    return Rating(version, ELO_PER_NAT * theta, low, high, votes, wins, ties)

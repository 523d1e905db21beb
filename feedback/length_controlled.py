"""Ratings of policy versions controlled for the length of replies: what is left of a lead where both are as long.

P(left preferred) = sigmoid(theta_i - theta_j + side + length * d), the model of `feedback.ratings` with one covariate:
d = (l - r) / (l + r), from -1 to 1, of the characters of the left and the right reply ("style control", Li et al. 2024,
"Does style matter?", LMArena). d is rounded to hundredths, so that votes that are alike are counted together.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.special import expit, log_expit
from sqlalchemy.orm import Session

from feedback import ratings
from feedback.objectives import OBJECTIVES
from feedback.ratings import CONFIDENCE_Z, ELO_PER_NAT, SCORE, Rating
from feedback.store.ratings import Tally, compared

LENGTH_DEVIATION_NATS = 5.0
D_STEPS = 100
TWICE_AS_LONG = (2 - 1) / (2 + 1)


@dataclass(frozen=True)
class Controlled:
    """The ratings of one objective, the best first, and what it is worth in Elo to be twice as long as the other reply,
    with its interval; None where no votes tell that from what the versions and the side are worth."""

    ratings: list[Rating]
    twice_as_long: float | None
    interval: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        return {
            "ratings": [rating.as_json() for rating in self.ratings],
            "twice_as_long": self.twice_as_long,
            "interval": None if self.interval is None else list(self.interval),
        }


def current(session: Session) -> dict[str, Controlled]:
    """By objective, from all votes counted so far on pairs of two versions whose texts are there: each is read."""
    by_objective: dict[str, Counter[tuple[Tally, float]]] = defaultdict(Counter)
    for vote, lengths in compared(session):
        by_objective[vote.objective][vote, relative_length(*lengths)] += 1
    return {objective: rate(by_objective[objective]) for objective in OBJECTIVES}


def rate(votes: Counter[tuple[Tally, float]]) -> Controlled:
    """Fit single votes, with the relative length of the replies they compare, each as often as it is counted."""
    tallies = [(replace(vote, votes=count), d) for (vote, d), count in votes.items()]
    # Who is compared with whom, and how often, is as without lengths; so are those who are not linked.
    plain = {rating.version: rating for rating in ratings.rate(tally for tally, _ in tallies)}
    linked = sorted(version for version, rating in plain.items() if rating.elo is not None)
    if not linked:
        return Controlled(list(plain.values()), None, None)
    # The oldest one of them is the reference.
    kept = [(tally, d) for tally, d in tallies if tally.left in linked]
    estimate_P, reach_P = fit(kept, linked)
    found = {version: (estimate_P[i], reach_P[i]) for i, version in enumerate(linked)}
    rated = [_rated(rating, found.get(version)) for version, rating in plain.items()]
    rated.sort(key=lambda one: -np.inf if one.elo is None else one.elo, reverse=True)
    if not tells_of_length(kept, linked):
        return Controlled(rated, None, None)
    worth, reach = (float(value) * ELO_PER_NAT * TWICE_AS_LONG for value in (estimate_P[-1], reach_P[-1]))
    return Controlled(rated, worth, (worth - reach, worth + reach))


def relative_length(left: int, right: int) -> float:
    """From -1, the left reply is empty, to 1, the right one is; to hundredths."""
    return round(D_STEPS * (left - right) / max(1, left + right)) / D_STEPS


def fit(kinds: list[tuple[Tally, float]], versions: list[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Maximum a posteriori strengths of `versions` against the first, the side's and the length's worth; and half the
    widths of their intervals: all [N + 2], in nats.

    The interval is the wider one of that by the curvature and that by the sandwich over clusters of raters, as in
    `feedback.ratings`.
    """
    count, rows = len(versions), len(kinds)
    index = {version: i for i, version in enumerate(versions)}
    votes_T = np.array([tally.votes for tally, _ in kinds], dtype=np.float64)
    score_T = votes_T * [SCORE[tally.preferred] for tally, _ in kinds]
    design_T_P = _design(kinds, index)
    deviations = [ratings.PRIOR_DEVIATION_NATS] * count + [ratings.SIDE_DEVIATION_NATS, LENGTH_DEVIATION_NATS]
    precision = np.diag(1 / np.square(deviations))

    def at(parameters_P: NDArray[np.float64]) -> ratings.Posterior:
        nats_T = design_T_P @ parameters_P
        expected_T = expit(nats_T)
        weight_T = votes_T * expected_T * (1 - expected_T)
        likelihood = score_T @ log_expit(nats_T) + (votes_T - score_T) @ log_expit(-nats_T)
        return (
            likelihood - parameters_P @ precision @ parameters_P / 2,
            design_T_P.T @ (score_T - votes_T * expected_T) - precision @ parameters_P,
            (design_T_P.T @ (design_T_P * weight_T[:, None])).toarray() + precision,
        )

    parameters_P, information = ratings.highest(at, count + 2)
    # The first version is at 0: what is estimated of the others is how far they are from it.
    contrast = np.eye(count + 2)
    contrast[:count, 0] -= 1
    bread = np.linalg.inv(information)
    reach_P = CONFIDENCE_Z * _deviation(contrast, bread)
    voting, cluster_T = np.unique([tally.cluster for tally, _ in kinds], return_inverse=True)
    surprise_T = score_T - votes_T * expit(design_T_P @ parameters_P)
    of_cluster = coo_array((surprise_T, (cluster_T, np.arange(rows))), shape=(len(voting), rows))
    covariance, student = ratings.sandwich(bread, (of_cluster.tocsr() @ design_T_P).toarray())
    return contrast @ parameters_P, np.maximum(reach_P, student * _deviation(contrast, covariance))


def tells_of_length(kinds: list[tuple[Tally, float]], versions: list[int]) -> bool:
    """Whether lengths differ other than versions and sides do. Else the length's estimate and interval are the prior's:
    all replies are as long, or one version's always twice as long as another's."""
    design_T_P = _design(kinds, {version: i for i, version in enumerate(versions)})
    gram = (design_T_P.T @ design_T_P).toarray()
    return bool(np.linalg.matrix_rank(gram) > np.linalg.matrix_rank(gram[:-1, :-1]))


def _design(kinds: list[tuple[Tally, float]], index: dict[int, int]) -> csr_array:
    """[T, N + 2]: 1 for the left version, -1 for the right one, 1 for the side, and the relative length."""
    count, rows = len(index), np.arange(len(kinds))
    columns = [[index[getattr(tally, side)] for tally, _ in kinds] for side in ("left", "right")]
    columns += [[count] * len(kinds), [count + 1] * len(kinds)]
    ones_T = np.ones(len(kinds))
    values = np.concatenate([ones_T, -ones_T, ones_T, np.array([d for _, d in kinds])])
    return coo_array((values, (np.tile(rows, 4), np.concatenate(columns))), shape=(len(kinds), count + 2)).tocsr()


def _deviation(contrast: NDArray[Any], covariance: NDArray[Any]) -> NDArray[Any]:
    deviation: NDArray[Any] = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", contrast, covariance, contrast), 0))
    return deviation


def _rated(rating: Rating, found: tuple[float, float] | None) -> Rating:
    if found is None:
        return rating
    elo, reach = (float(value) * ELO_PER_NAT for value in found)
    return replace(rating, elo=elo, low=elo - reach, high=elo + reach)

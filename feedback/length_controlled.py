"""Ratings of policy versions controlled for the length of replies: what is left of a lead where both are as long.

P(left preferred) = sigmoid(theta_i - theta_j + side + length * d), the model of `feedback.ratings` with one covariate:
d = (l - r) / (l + r), from -1 to 1, of the characters of the left and the right reply ("style control", Li et al. 2024,
"Does style matter?", LMArena). d is rounded to hundredths, so that votes that are alike are counted together.
"""

from array import array
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.special import expit, log_expit
from sqlalchemy.orm import Session

from feedback import ratings
from feedback.objectives import OBJECTIVES
from feedback.ratings import CONFIDENCE_Z, ELO_PER_NAT, SCORE, Rating, Said
from feedback.store.ratings import DECIDES, Tally, compared
from feedback.store.tallies import cluster_of

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
    # Numbers end to end: a million votes as objects take hundreds of megabytes.
    columns = {objective: array("i") for objective in OBJECTIVES}
    for vote in compared(session):
        said = vote.left, vote.right, DECIDES.index(vote.preferred), cluster_of(vote.rater_id)
        columns[vote.objective].extend((*said, relative_length(vote.on_left, vote.on_right)))
    return {objective: rate(np.array(found).reshape(-1, 5)) for objective, found in columns.items()}


def rate(votes_V_5: NDArray[Any]) -> Controlled:
    """Fit single votes: of each the versions on the left and on the right, what was preferred by its place in
    `DECIDES`, the cluster of its rater, and the relative length."""
    # Who is compared with whom, and how often, is as without lengths; so are those who are not linked.
    kinds, count_T = np.unique(votes_V_5[:, :4], axis=0, return_counts=True)
    without = (
        Tally("", int(left), int(right), DECIDES[said], int(votes), int(cluster))
        for (left, right, said, cluster), votes in zip(kinds, count_T, strict=True)
    )
    plain = {rating.version: rating for rating in ratings.rate(without)}
    linked = sorted(version for version, rating in plain.items() if rating.elo is not None)
    if not linked:
        return Controlled(list(plain.values()), None, None)
    kinds, count_T = np.unique(votes_V_5[np.isin(votes_V_5[:, 0], linked)], axis=0, return_counts=True)
    left_T, right_T, said_T, cluster_T, length_T = kinds.T
    # The oldest one of them is the reference.
    left_T, right_T = np.searchsorted(linked, left_T), np.searchsorted(linked, right_T)
    score_T = count_T * np.array([SCORE[one] for one in DECIDES])[said_T]
    said = Said(cluster_T, left_T, right_T, score_T, count_T.astype(np.float64))
    design_T_P = design(said, length_T / D_STEPS, len(linked))
    estimate_P, reach_P = fit(said, design_T_P)
    found = {version: (estimate_P[i], reach_P[i]) for i, version in enumerate(linked)}
    rated = [_rated(rating, found.get(version)) for version, rating in plain.items()]
    rated.sort(key=lambda one: -np.inf if one.elo is None else one.elo, reverse=True)
    if not tells_of_length(design_T_P):
        return Controlled(rated, None, None)
    worth, reach = (float(value) * ELO_PER_NAT * TWICE_AS_LONG for value in (estimate_P[-1], reach_P[-1]))
    return Controlled(rated, worth, (worth - reach, worth + reach))


def relative_length(left: int, right: int) -> int:
    """In hundredths, from -100, the left reply is empty, to 100, the right one is."""
    return round(D_STEPS * (left - right) / max(1, left + right))


def fit(said: Said, design_T_P: csr_array) -> tuple[NDArray[Any], NDArray[Any]]:
    """Maximum a posteriori strengths of the versions against the first, the side's and the length's worth; and half the
    widths of their intervals: all [N + 2], in nats.

    The interval is the wider one of that by the curvature and that by the sandwich over clusters of raters, as in
    `feedback.ratings`.
    """
    rows, parameters = design_T_P.shape
    count = parameters - 2
    deviations = [ratings.PRIOR_DEVIATION_NATS] * count + [ratings.SIDE_DEVIATION_NATS, LENGTH_DEVIATION_NATS]
    precision = np.diag(1 / np.square(deviations))

    def at(parameters_P: NDArray[np.float64]) -> ratings.Posterior:
        nats_T = design_T_P @ parameters_P
        expected_T = expit(nats_T)
        weight_T = said.votes_T * expected_T * (1 - expected_T)
        likelihood = said.score_T @ log_expit(nats_T) + (said.votes_T - said.score_T) @ log_expit(-nats_T)
        return (
            likelihood - parameters_P @ precision @ parameters_P / 2,
            design_T_P.T @ (said.score_T - said.votes_T * expected_T) - precision @ parameters_P,
            (design_T_P.T @ (design_T_P * weight_T[:, None])).toarray() + precision,
        )

    parameters_P, information = ratings.highest(at, parameters)
    # The first version is at 0: what is estimated of the others is how far they are from it.
    contrast = np.eye(parameters)
    contrast[:count, 0] -= 1
    bread = np.linalg.inv(information)
    reach_P = CONFIDENCE_Z * _deviation(contrast, bread)
    voting, cluster_T = np.unique(said.cluster_T, return_inverse=True)
    surprise_T = said.score_T - said.votes_T * expit(design_T_P @ parameters_P)
    of_cluster = coo_array((surprise_T, (cluster_T, np.arange(rows))), shape=(len(voting), rows))
    covariance, student = ratings.sandwich(bread, (of_cluster.tocsr() @ design_T_P).toarray())
    return contrast @ parameters_P, np.maximum(reach_P, student * _deviation(contrast, covariance))


def tells_of_length(design_T_P: csr_array) -> bool:
    """Whether lengths differ other than versions and sides do. Else the length's estimate and interval are the prior's:
    all replies are as long, or one version's always twice as long as another's."""
    gram = (design_T_P.T @ design_T_P).toarray()
    return bool(np.linalg.matrix_rank(gram) > np.linalg.matrix_rank(gram[:-1, :-1]))


def design(said: Said, length_T: NDArray[np.float64], count: int) -> csr_array:
    """[T, N + 2]: 1 for the left version, -1 for the right one, 1 for the side, and the relative length, -1 to 1."""
    kinds = len(length_T)
    of_side, of_length = np.full(kinds, count), np.full(kinds, count + 1)
    columns = np.concatenate([said.left_T, said.right_T, of_side, of_length])
    values = np.repeat([1.0, -1.0, 1.0], kinds)
    rows = np.tile(np.arange(kinds), 4)
    return coo_array((np.append(values, length_T), (rows, columns)), shape=(kinds, count + 2)).tocsr()


def _deviation(contrast: NDArray[Any], covariance: NDArray[Any]) -> NDArray[Any]:
    deviation: NDArray[Any] = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", contrast, covariance, contrast), 0))
    return deviation


def _rated(rating: Rating, found: tuple[float, float] | None) -> Rating:
    if found is None:
        return rating
    elo, reach = (float(value) * ELO_PER_NAT for value in found)
    return replace(rating, elo=elo, low=elo - reach, high=elo + reach)

"""How unlike the others a vector is: pure functions of tensors.

N vectors of width D that are known to be ordinary; K that are known not to be.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outliers:
    """What `fit` found: mean and inverse covariance of the ordinary vectors, the inverse of their variances, and
    towards the known outliers a direction with the place on it that is half way (both zero without any)."""

    mean_D: Tensor
    precision_D_D: Tensor
    inverse_variance_D: Tensor
    direction_D: Tensor
    halfway: Tensor

    def score(self, states_N_D: Tensor) -> Tensor:
        """[N], the higher the stranger: squared Mahalanobis distance from the ordinary mean by the full covariance less
        that by the diagonal one alone, plus, where outliers are known, twice the linear discriminant towards them,
        which is how much nearer their mean is than the ordinary one, in squared distances.

        The difference of the distances leaves what is unusual in how coordinates go together (Bai et al. 2022, section
        5.4, after Ren et al. 2021, "A simple fix to Mahalanobis distance"). The discriminant is (x - halfway point)'
        S^-1 (outlier mean - mean), with the shared covariance S: few-shot outlier exposure, which needs no training.
        """
        away_N_D = states_N_D - self.mean_D
        full_N = torch.einsum("nd,de,ne->n", away_N_D, self.precision_D_D, away_N_D)
        diagonal_N = (away_N_D.square() * self.inverse_variance_D).sum(dim=1)
        return full_N - diagonal_N + 2 * (away_N_D @ self.direction_D - self.halfway)

    def unshown(self) -> "Outliers":
        """The same had no outlier been known."""
        return replace(self, direction_D=torch.zeros_like(self.mean_D), halfway=torch.zeros_like(self.halfway))


def fit(ordinary_N_D: Tensor, outliers_K_D: Tensor, shrinkage: float) -> Outliers:
    """In float64. `shrinkage` in [0, 1] moves the covariance towards its diagonal, so that few vectors give one that
    can be inverted."""
    ordinary_N_D = ordinary_N_D.double()
    mean_D = ordinary_N_D.mean(dim=0)
    covariance_D_D = _invertible(torch.cov(ordinary_N_D.T, correction=0))
    precision_D_D = _precision(covariance_D_D, shrinkage)
    direction_D, halfway = torch.zeros_like(mean_D), torch.zeros((), dtype=mean_D.dtype)
    if len(outliers_K_D):
        towards_D = outliers_K_D.double().mean(dim=0) - mean_D
        direction_D = precision_D_D @ towards_D
        halfway = towards_D @ direction_D / 2
    return Outliers(mean_D, precision_D_D, 1 / covariance_D_D.diagonal(), direction_D, halfway)


def _invertible(covariance_D_D: Tensor) -> Tensor:
    """With a little variance more in each coordinate. Both distances are by it: what departs in a coordinate that
    hardly varies would else be further away by the diagonal, and look ordinary."""
    more = (1e-6 * covariance_D_D.diagonal().mean()).clamp(min=1e-8)
    return covariance_D_D + more * torch.eye(len(covariance_D_D), dtype=covariance_D_D.dtype)


def _precision(covariance_D_D: Tensor, shrinkage: float) -> Tensor:
    return torch.linalg.inv((1 - shrinkage) * covariance_D_D + shrinkage * covariance_D_D.diagonal().diag())


def discriminant(ordinary_N_D: Tensor, others_K_D: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """A direction [D] and a place on it: x @ direction - place is positive where x is more like the others than like
    the ordinary vectors. In float64.

    Fisher's linear discriminant by the covariance within both kinds, moved by `shrinkage` in [0, 1] towards its
    diagonal, half way between the two means.
    """
    kinds = [ordinary_N_D.double(), others_K_D.double()]
    means = [one.mean(dim=0) for one in kinds]
    within_M_D = torch.cat([one - mean_D for one, mean_D in zip(kinds, means, strict=True)])
    covariance_D_D = _invertible(within_M_D.T @ within_M_D / len(within_M_D))
    direction_D = _precision(covariance_D_D, shrinkage) @ (means[1] - means[0])
    return direction_D, (means[0] + means[1]) / 2 @ direction_D


def held_out_auroc(ordinary_N_D: Tensor, others_K_D: Tensor, shrinkage: float) -> float | None:
    """The chance that the discriminant puts one of the others above an ordinary one, of those that it did not learn
    from: every second of each kind is learnt from, then every other. None with fewer than two of a kind."""
    if min(len(ordinary_N_D), len(others_K_D)) < 2:
        return None
    found = 0.0
    for learnt, asked in ((0, 1), (1, 0)):
        direction_D, _ = discriminant(ordinary_N_D[learnt::2], others_K_D[learnt::2], shrinkage)
        ordinary, others = (kind[asked::2].double() @ direction_D for kind in (ordinary_N_D, others_K_D))
        found += (auroc(ordinary, others) or 0.0) / 2
    return found


def auroc(ordinary_N: Tensor, strange_M: Tensor) -> float | None:
    """The chance that a strange one scores above an ordinary one, equal scores counting half; None without either."""
    if not len(ordinary_N) or not len(strange_M):
        return None
    # By places in their order: of a record of 100,000 prompts there are more pairs than memory.
    ordered_N = ordinary_N.sort().values
    below_M, up_to_M = (torch.searchsorted(ordered_N, strange_M, right=right) for right in (False, True))
    return float((below_M + up_to_M).double().mean()) / (2 * len(ordinary_N))

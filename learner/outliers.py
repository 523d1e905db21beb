"""How unlike the others a vector is: pure functions of tensors.

N vectors of width D that are known to be ordinary; K that are known not to be.
"""

from dataclasses import dataclass

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
        that by the diagonal one alone, plus, where outliers are known, the linear discriminant towards them.

        The difference of the distances leaves what is unusual in how coordinates go together (Bai et al. 2022, section
        5.4, after Ren et al. 2021, "A simple fix to Mahalanobis distance"). The discriminant is (x - halfway point)'
        S^-1 (outlier mean - mean), with the shared covariance S: few-shot outlier exposure, which needs no training.
        """
        away_N_D = states_N_D - self.mean_D
        full_N = torch.einsum("nd,de,ne->n", away_N_D, self.precision_D_D, away_N_D)
        diagonal_N = (away_N_D.square() * self.inverse_variance_D).sum(dim=1)
        return full_N - diagonal_N + 2 * (away_N_D @ self.direction_D - self.halfway)


def fit(ordinary_N_D: Tensor, outliers_K_D: Tensor, shrinkage: float) -> Outliers:
    """In float64. `shrinkage` in [0, 1] moves the covariance towards its diagonal, so that few vectors give one that
    can be inverted."""
    ordinary_N_D = ordinary_N_D.double()
    mean_D = ordinary_N_D.mean(dim=0)
    covariance_D_D = torch.cov(ordinary_N_D.T, correction=0)
    variance_D = covariance_D_D.diagonal().clamp(min=1e-8)
    shrunk_D_D = (1 - shrinkage) * covariance_D_D + shrinkage * variance_D.diag()
    shrunk_D_D = shrunk_D_D + 1e-6 * variance_D.mean() * torch.eye(len(mean_D), dtype=mean_D.dtype)
    precision_D_D = torch.linalg.inv(shrunk_D_D)
    direction_D, halfway = torch.zeros_like(mean_D), torch.zeros((), dtype=mean_D.dtype)
    if len(outliers_K_D):
        towards_D = outliers_K_D.double().mean(dim=0) - mean_D
        direction_D = precision_D_D @ towards_D
        halfway = towards_D @ direction_D / 2
    return Outliers(mean_D, precision_D_D, 1 / variance_D, direction_D, halfway)


def auroc(ordinary_N: Tensor, strange_M: Tensor) -> float | None:
    """The chance that a strange one scores above an ordinary one, equal scores counting half; None without either."""
    if not len(ordinary_N) or not len(strange_M):
        return None
    above_N_M = (strange_M > ordinary_N[:, None]).double() + (strange_M == ordinary_N[:, None]).double() / 2
    return float(above_N_M.mean())

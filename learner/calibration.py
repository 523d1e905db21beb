"""How far a preference model's probabilities can be trusted, on comparisons it was not trained on."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_TO_CALIBRATE = 20


def fit_temperature(margins_C: Tensor, labels_C: Tensor) -> float:
    """The T that minimises the cross-entropy of sigmoid(margin / T) against soft labels, within [0.05, 20].

    The loss is convex in 1/T; found by bisection on its derivative, sum m (sigmoid(a m) - y) with a = 1/T. With fewer
    than `FEWEST_TO_CALIBRATE` comparisons it answers 1. Source: Guo et al. 2017, "On calibration of modern neural
    networks".
    """
    if len(margins_C) < FEWEST_TO_CALIBRATE:
        return 1.0
    margins_C, labels_C = margins_C.double(), labels_C.double()
    low, high = 1 / 20, 20.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = (margins_C * (torch.sigmoid(middle * margins_C) - labels_C)).sum()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return (low * high) ** -0.5


def expected_calibration_error(margins_C: Tensor, labels_C: Tensor, bins: int = 10) -> float:
    """Mean over comparisons of |mean predicted - mean actual| in their bin of confidence.

    Both orders of a pair are one prediction, so margins are turned until the predicted side is preferred (probability
    >= 0.5) and labels with them; bins split [0.5, 1] evenly. Source: Naeini et al. 2015.
    """
    turned_C = torch.where(margins_C >= 0, labels_C, 1 - labels_C)
    confidence_C = torch.sigmoid(margins_C.abs())
    bin_C = ((confidence_C - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add(0, bin_C, (confidence_C - turned_C).float())
    return float(gaps.abs().sum() / len(margins_C))


def cross_fitted_calibration_error(margins_C: Tensor, labels_C: Tensor) -> float:
    """Expected calibration error when each half is calibrated by the temperature that the other half asks for."""
    calibrated_C = torch.empty_like(margins_C)
    for side in (0, 1):
        temperature = fit_temperature(margins_C[1 - side :: 2], labels_C[1 - side :: 2])
        calibrated_C[side::2] = margins_C[side::2] / temperature
    return expected_calibration_error(calibrated_C, labels_C)


def accuracy(margins_C: Tensor, labels_C: Tensor) -> float | None:
    """Share of untied comparisons whose better side has the higher score; an equal score counts half. None without
    any."""
    untied_C = labels_C != 0.5
    if not untied_C.any():
        return None
    agreeing_C = (margins_C[untied_C].sign() * (labels_C[untied_C] - 0.5).sign() + 1) / 2
    return float(agreeing_C.mean())


def cross_entropy(margins_C: Tensor, labels_C: Tensor) -> float:
    """Mean cross-entropy in nats of sigmoid(margin) against soft labels."""
    return float((F.softplus(margins_C) - labels_C * margins_C).mean())


def correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson's correlation of two vectors; None where either does not vary or there are fewer than two values."""
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return None
    return float(torch.corrcoef(torch.stack([first.double(), second.double()]))[0, 1])

"""How far a preference model's probabilities can be trusted, on comparisons it was not trained on.

`weights_C` say how much each comparison counts; all alike where they are not given.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PRIOR_DEVIATION = 0.35
TEMPERATURES = torch.logspace(-1.3, 1.3, 521, dtype=torch.float64)


def fit_temperature(margins_C: Tensor, labels_C: Tensor, near: float = 1.0, weights_C: Tensor | None = None) -> float:
    """The T that best explains votes by sigmoid(margin / T), held close to `near` where there are few comparisons.

    Minimises the summed cross-entropy plus log(T / near)^2 / (2 s^2), s = `PRIOR_DEVIATION`, over a grid from 0.05 to
    20 in steps of 1.2 %: a handful of votes moves T little, hundreds outweigh the prior. `near` without any. After Guo
    et al. 2017, "On calibration of modern neural networks"; the prior is ours.
    """
    margins_C, labels_C, weights_C = margins_C.double(), labels_C.double(), _weights(weights_C, margins_C).double()
    # One after the other: of 100,000 votes all at once would take more than a gigabyte.
    losses_K = torch.stack(
        [weights_C @ (F.softplus(margins_C / one) - labels_C * (margins_C / one)) for one in TEMPERATURES.tolist()]
    )
    best = int((losses_K + (TEMPERATURES / near).log().square() / (2 * PRIOR_DEVIATION**2)).argmin())
    return float(TEMPERATURES[best])


def temperature_of_softening(labels_C: Tensor, weights_C: Tensor | None = None) -> float:
    """The T by which margins that were trained on soft labels predict outcomes, where margins are small: mean |2 y - 1|
    of the untied labels; 1 without any.

    A label of certainty c for a vote that says side 0 with probability p is on average 1/2 + (p - 1/2)(2 c - 1), and
    near 1/2 log-odds are proportional to the distance from it.
    """
    untied_C = labels_C != 0.5
    if not untied_C.any():
        return 1.0
    weights_C = _weights(weights_C, labels_C)[untied_C]
    return float(weighted_mean((2 * labels_C[untied_C] - 1).abs(), weights_C).clamp(min=0.1))


def expected_calibration_error(
    margins_C: Tensor, labels_C: Tensor, weights_C: Tensor | None = None, bins: int = 10
) -> float:
    """Mean over comparisons of |mean predicted - mean actual| in their bin of confidence.

    Both orders of a pair are one prediction, so margins are turned until the predicted side is preferred (probability
    >= 0.5) and labels with them, a half where neither side is; bins split [0.5, 1] evenly. Source: Naeini et al. 2015.
    """
    turned_C, weights_C = _of_the_predicted_side(margins_C, labels_C), _weights(weights_C, margins_C)
    confidence_C, bin_C = _in_bins(margins_C, bins)
    gaps = torch.zeros(bins).index_add(0, bin_C, weights_C * (confidence_C - turned_C).float())
    return float(gaps.abs().sum() / weights_C.sum())


def _in_bins(margins_C: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The probability of each predicted side, from a half on, and the number of its bin."""
    confidence_C = torch.sigmoid(margins_C.abs())
    return confidence_C, ((confidence_C - 0.5) * 2 * bins).long().clamp(max=bins - 1)


def _of_the_predicted_side(margins_C: Tensor, labels_C: Tensor) -> Tensor:
    return 0.5 + margins_C.sign() * (labels_C - 0.5)


def calibration_noise(margins_C: Tensor, weights_C: Tensor | None = None, bins: int = 10) -> float:
    """The `expected_calibration_error` that a perfectly calibrated model would be found to have on so many votes, by
    their noise alone: sum over bins of sqrt(2 / pi * sum w^2 p (1 - p)), over the sum of weights w. (The mean of
    |x| for a normal x of variance v is sqrt(2 v / pi).) A smaller error than this cannot be told from none."""
    confidence_C, bin_C = _in_bins(margins_C, bins)
    weights_C = _weights(weights_C, margins_C)
    variances = torch.zeros(bins).index_add(0, bin_C, weights_C.square() * (confidence_C * (1 - confidence_C)).float())
    return float((2 / math.pi * variances).sqrt().sum() / weights_C.sum())


def calibration_bins(
    margins_C: Tensor, labels_C: Tensor, weights_C: Tensor | None = None, bins: int = 10
) -> list[dict[str, float]]:
    """What `expected_calibration_error` sums up, bin by bin: mean predicted `confidence`, mean actual `accuracy` and
    the `count` of comparisons. Empty bins are left out."""
    turned_C, weights_C = _of_the_predicted_side(margins_C, labels_C), _weights(weights_C, margins_C)
    confidence_C, bin_C = _in_bins(margins_C, bins)
    return [
        {
            "confidence": float(weighted_mean(confidence_C[inside_C], weights_C[inside_C])),
            "accuracy": float(weighted_mean(turned_C[inside_C], weights_C[inside_C])),
            "count": int(inside_C.sum()),
        }
        for inside_C in (bin_C == at for at in range(bins))
        if inside_C.any()
    ]


def cross_fitted(margins_C: Tensor, labels_C: Tensor, near: float = 1.0, weights_C: Tensor | None = None) -> Tensor:
    """Margins [C] with each half calibrated by the temperature that the other half asks for (see `fit_temperature`)."""
    calibrated_C, weights_C = torch.empty_like(margins_C), _weights(weights_C, margins_C)
    for own, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        temperature = fit_temperature(margins_C[other], labels_C[other], near, weights_C[other])
        calibrated_C[own] = margins_C[own] / temperature
    return calibrated_C


def outcomes(labels_C: Tensor) -> Tensor:
    """What the votes said, without how sure they are taken to be: 1 where side 0 is preferred, 0 where side 1, 0.5 for
    a tie. This is what P(side 0 preferred) speaks of."""
    return ((labels_C - 0.5).sign() + 1) / 2


def length_slope(margins_C: Tensor, longer_by_C: Tensor, weights_C: Tensor | None = None) -> float:
    """What a token more adds to a score, by least squares within pairs: sum(w m d) / sum(w d^2), weight w, margin m and
    difference of lengths d of the two sides. Pairs share their prompt, so that prompts that want long replies do not
    count. 0 where no pair differs in length."""
    weighted_C = _weights(weights_C, margins_C) * longer_by_C
    squares = float(weighted_C @ longer_by_C)
    return float(weighted_C @ margins_C) / squares if squares else 0.0


def agreeing(margins_C: Tensor, labels_C: Tensor) -> Tensor:
    """1 where the better side of an untied comparison has the higher score, 0 where the other has, 0.5 where neither,
    [C]."""
    return (margins_C.sign() * (labels_C - 0.5).sign() + 1) / 2


def cross_entropy(margins_C: Tensor, labels_C: Tensor, weights_C: Tensor | None = None) -> float:
    """Mean cross-entropy in nats of sigmoid(margin) against soft labels."""
    losses_C = F.softplus(margins_C) - labels_C * margins_C
    return float(weighted_mean(losses_C, _weights(weights_C, margins_C)))


def correlation(first: Tensor, second: Tensor, weights: Tensor | None = None) -> float | None:
    """Pearson's correlation of two vectors; None where either does not vary or there are fewer than two values."""
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return None
    covariance = torch.cov(torch.stack([first.double(), second.double()]), correction=0, aweights=weights)
    return float(covariance[0, 1] / covariance.diagonal().prod().sqrt())


def weighted_mean(values_C: Tensor, weights_C: Tensor) -> Tensor:
    """Over the first axis of values [C, ...]."""
    return torch.tensordot(weights_C.to(values_C), values_C, dims=1) / weights_C.sum()


def _weights(weights_C: Tensor | None, like_C: Tensor) -> Tensor:
    return torch.ones_like(like_C) if weights_C is None else weights_C

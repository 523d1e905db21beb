"""How far a preference model's probabilities can be trusted, on comparisons it was not trained on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PRIOR_DEVIATION = 0.35
TEMPERATURES = torch.logspace(-1.3, 1.3, 521, dtype=torch.float64)


def fit_temperature(margins_C: Tensor, labels_C: Tensor, near: float = 1.0) -> float:
    """The T that best explains votes by sigmoid(margin / T), held close to `near` where there are few comparisons.

    Minimises the summed cross-entropy plus log(T / near)^2 / (2 s^2), s = `PRIOR_DEVIATION`, over a grid from 0.05 to
    20 in steps of 1.2 %: a handful of votes moves T little, hundreds outweigh the prior. `near` without any. After Guo
    et al. 2017, "On calibration of modern neural networks"; the prior is ours.
    """
    margins_C, labels_C = margins_C.double(), labels_C.double()
    # One after the other: of 100,000 votes all at once would take more than a gigabyte.
    losses_K = torch.stack(
        [(F.softplus(margins_C / one) - labels_C * (margins_C / one)).sum() for one in TEMPERATURES.tolist()]
    )
    best = int((losses_K + (TEMPERATURES / near).log().square() / (2 * PRIOR_DEVIATION**2)).argmin())
    return float(TEMPERATURES[best])


def temperature_of_softening(labels_C: Tensor) -> float:
    """The T by which margins that were trained on soft labels predict outcomes, where margins are small: mean |2 y - 1|
    of the untied labels; 1 without any.

    A label of certainty c for a vote that says side 0 with probability p is on average 1/2 + (p - 1/2)(2 c - 1), and
    near 1/2 log-odds are proportional to the distance from it.
    """
    untied_C = labels_C[labels_C != 0.5]
    return float((2 * untied_C - 1).abs().mean().clamp(min=0.1)) if len(untied_C) else 1.0


def expected_calibration_error(margins_C: Tensor, labels_C: Tensor, bins: int = 10) -> float:
    """Mean over comparisons of |mean predicted - mean actual| in their bin of confidence.

    Both orders of a pair are one prediction, so margins are turned until the predicted side is preferred (probability
    >= 0.5) and labels with them, a half where neither side is; bins split [0.5, 1] evenly. Source: Naeini et al. 2015.
    """
    turned_C = _of_the_predicted_side(margins_C, labels_C)
    confidence_C = torch.sigmoid(margins_C.abs())
    bin_C = ((confidence_C - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add(0, bin_C, (confidence_C - turned_C).float())
    return float(gaps.abs().sum() / len(margins_C))


def _of_the_predicted_side(margins_C: Tensor, labels_C: Tensor) -> Tensor:
    return 0.5 + margins_C.sign() * (labels_C - 0.5)


def calibration_noise(margins_C: Tensor, bins: int = 10) -> float:
    """The `expected_calibration_error` that a perfectly calibrated model would be found to have on so many votes, by
    their noise alone: sum over bins of sqrt(2 / pi * sum p (1 - p)), over the number of votes. (The mean of |x| for a
    normal x of variance v is sqrt(2 v / pi).) A smaller error than this cannot be told from none."""
    confidence_C = torch.sigmoid(margins_C.abs())
    bin_C = ((confidence_C - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    variances = torch.zeros(bins).index_add(0, bin_C, (confidence_C * (1 - confidence_C)).float())
    return float((2 / math.pi * variances).sqrt().sum() / len(margins_C))


def calibration_bins(margins_C: Tensor, labels_C: Tensor, bins: int = 10) -> list[dict[str, float]]:
    """What `expected_calibration_error` sums up, bin by bin: mean predicted `confidence`, mean actual `accuracy` and
    the `count` of comparisons. Empty bins are left out."""
    turned_C = _of_the_predicted_side(margins_C, labels_C)
    confidence_C = torch.sigmoid(margins_C.abs())
    bin_C = ((confidence_C - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    return [
        {
            "confidence": float(confidence_C[bin_C == at].mean()),
            "accuracy": float(turned_C[bin_C == at].mean()),
            "count": int((bin_C == at).sum()),
        }
        for at in range(bins)
        if (bin_C == at).any()
    ]


def cross_fitted(margins_C: Tensor, labels_C: Tensor, near: float = 1.0) -> Tensor:
    """Margins [C] with each half calibrated by the temperature that the other half asks for (see `fit_temperature`)."""
    calibrated_C = torch.empty_like(margins_C)
    for side in (0, 1):
        temperature = fit_temperature(margins_C[1 - side :: 2], labels_C[1 - side :: 2], near)
        calibrated_C[side::2] = margins_C[side::2] / temperature
    return calibrated_C


def outcomes(labels_C: Tensor) -> Tensor:
    """What the votes said, without how sure they are taken to be: 1 where side 0 is preferred, 0 where side 1, 0.5 for
    a tie. This is what P(side 0 preferred) speaks of."""
    return ((labels_C - 0.5).sign() + 1) / 2


def length_slope(margins_C: Tensor, longer_by_C: Tensor) -> float:
    """What a token more adds to a score, by least squares within pairs: sum(m d) / sum(d^2), margin m and difference of
    lengths d of the two sides. Pairs share their prompt, so that prompts that want long replies do not count. 0 where
    no pair differs in length."""
    squares = float(longer_by_C.square().sum())
    return float((margins_C * longer_by_C).sum()) / squares if squares else 0.0


def agreeing(margins_C: Tensor, labels_C: Tensor) -> Tensor:
    """1 where the better side of an untied comparison has the higher score, 0 where the other has, 0.5 where neither,
    [C]."""
    return (margins_C.sign() * (labels_C - 0.5).sign() + 1) / 2


def cross_entropy(margins_C: Tensor, labels_C: Tensor) -> float:
    """Mean cross-entropy in nats of sigmoid(margin) against soft labels."""
    return float((F.softplus(margins_C) - labels_C * margins_C).mean())


def correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson's correlation of two vectors; None where either does not vary or there are fewer than two values."""
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return None
    return float(torch.corrcoef(torch.stack([first.double(), second.double()]))[0, 1])

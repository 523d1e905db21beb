"""A mean and how sure it is: the form in which evidence holds a figure."""

import math
from statistics import NormalDist
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

Estimate = dict[str, Any]


def estimate(values_B: Tensor, confidence: float) -> Estimate:
    """Mean of independent values with its interval by Student's t: `{"value", "interval", "count"}`; nulls where there
    is none, as of the interval of a single value."""
    count = len(values_B)
    if count < 2:
        return {"value": float(values_B.mean()) if count else None, "interval": None, "count": count}
    mean = float(values_B.double().mean())
    reach = float(stdtrit(count - 1, 0.5 + confidence / 2))
    half = reach * float(values_B.double().std()) / math.sqrt(count)
    return {"value": mean, "interval": [mean - half, mean + half], "count": count}


def worth_of(weights_B: Tensor) -> float:
    """As how many values of one weight those of these weights tell: (sum w)^2 / sum w^2 (Kish 1965); 0 where none
    weighs anything."""
    weights_B = weights_B.double()
    return float(weights_B.sum() ** 2 / weights_B.square().sum()) if weights_B.any() else 0.0


def share(values_B: Tensor, confidence: float, worth: float | None = None, weights_B: Tensor | None = None) -> Estimate:
    """Mean of independent values from 0 to 1, such as wins and halves for ties, with an interval in [0, 1]; weighted,
    where weights are given. Values that are not independent, or not of one weight, are `worth` fewer that are.

    The normal interval as if z^2 more had been seen, half of them 0 and half 1: so few values are never certain, and
    one that is higher moves neither end down. (Agresti and Coull 1998, where values are 0 or 1.)
    """
    count = len(values_B)
    values_B = values_B.double()
    weights_B = torch.ones_like(values_B) if weights_B is None else weights_B.to(values_B)
    if not weights_B.any():
        return {"value": None, "interval": None, "count": count}
    mean, square = (float(weights_B @ of / weights_B.sum()) for of in (values_B, values_B.square()))
    worth = count if worth is None else worth
    z = normal_quantile(confidence)
    seen = worth + z * z
    middle = (mean * worth + z * z / 2) / seen
    variance = (square * worth + z * z / 2) / seen - middle**2
    half = z * math.sqrt(variance / seen)
    return {"value": mean, "interval": [max(0.0, middle - half), min(1.0, middle + half)], "count": count}


def normal_quantile(confidence: float) -> float:
    """How many deviations a two-sided normal interval of this confidence reaches to either side."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)

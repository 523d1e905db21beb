"""A mean and how sure it is: the form in which evidence holds a figure."""

import math
from statistics import NormalDist
from typing import Any

from torch import Tensor

Estimate = dict[str, Any]


def estimate(values_B: Tensor, confidence: float) -> Estimate:
    """Mean of independent values with its normal interval: `{"value", "interval", "count"}`; nulls where there is none.

    A mean of shares at 0 or 1 gets the Wilson interval's width there, so that no interval is empty.
    """
    count = len(values_B)
    if count == 0:
        return {"value": None, "interval": None, "count": 0}
    mean = float(values_B.double().mean())
    z = normal_quantile(confidence)
    deviation = float(values_B.double().std(unbiased=False))
    half = z * deviation / math.sqrt(count) if deviation > 0 else z * z / (count + z * z)
    low, high = mean - half, mean + half
    if bool(((values_B >= 0) & (values_B <= 1)).all()):
        low, high = max(0.0, low), min(1.0, high)
    return {"value": mean, "interval": [low, high], "count": count}


def normal_quantile(confidence: float) -> float:
    """How many deviations a two-sided normal interval of this confidence reaches to either side."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)

"""The win rate that would be left if both policies wrote equally long replies, by regression."""

import math

import torch
from torch import Tensor

from learner.estimates import Estimate, normal_quantile

PRIOR_DEVIATION = 2.0
MAX_STEPS = 50


def length_controlled_win_rate(
    wins_B: Tensor, lengths_B: Tensor, other_lengths_B: Tensor, confidence: float
) -> Estimate:
    """Win rate at equal length, from wins in {0, 1/2, 1} and tokens of the replies compared.

    Fits P(win) = sigmoid(a + b x), x = tanh(d / s), d the difference of lengths and s its root mean square, by
    maximum likelihood with a normal prior of deviation `PRIOR_DEVIATION` on a and b (without it, wins that length
    explains altogether have no maximum), and answers sigmoid(a). Its interval is sigmoid of a's, from the inverse
    Hessian. After Dubois et al. 2024, "Length-controlled AlpacaEval", without its terms for single instructions.
    """
    count = len(wins_B)
    if count == 0:
        return {"value": None, "interval": None, "count": 0}
    differences_B = (lengths_B - other_lengths_B).double()
    scale = differences_B.square().mean().sqrt().clamp(min=1e-9)
    inputs_B_2 = torch.stack([torch.ones_like(differences_B), torch.tanh(differences_B / scale)], dim=1)
    prior_2_2 = torch.eye(2, dtype=torch.float64) / PRIOR_DEVIATION**2
    weights_2 = torch.zeros(2, dtype=torch.float64)
    for _ in range(MAX_STEPS):
        chances_B = torch.sigmoid(inputs_B_2 @ weights_2)
        gradient_2 = inputs_B_2.T @ (wins_B - chances_B) - prior_2_2 @ weights_2
        step_2 = torch.linalg.solve(_information(inputs_B_2, chances_B) + prior_2_2, gradient_2)
        weights_2 = weights_2 + step_2
        if float(step_2.abs().max()) < 1e-9:
            break
    information_2_2 = _information(inputs_B_2, torch.sigmoid(inputs_B_2 @ weights_2)) + prior_2_2
    deviation = math.sqrt(float(torch.linalg.inv(information_2_2)[0, 0]))
    middle, half = float(weights_2[0]), normal_quantile(confidence) * deviation
    return {"value": _sigmoid(middle), "interval": [_sigmoid(middle - half), _sigmoid(middle + half)], "count": count}


def _information(inputs_B_2: Tensor, chances_B: Tensor) -> Tensor:
    return inputs_B_2.T @ (inputs_B_2 * (chances_B * (1 - chances_B))[:, None])


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))

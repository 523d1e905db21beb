"""How often one policy's replies beat another's to the same prompts, by one judge's scores: raw, and with length kept
out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feedback.objectives import OVERALL
from learner.estimates import estimate, share
from learner.length_control import length_controlled_win_rate
from learner.number_format import exactly


@dataclass(frozen=True)
class Scored:
    """One policy's replies to the prompts, as a judge scores them, and their lengths in tokens."""

    scores_B_O: Tensor
    lengths_B: Tensor


def win_rates(
    own: Scored, other: Scored, columns: Sequence[str], reward_weights: Mapping[str, float], confidence: float
) -> dict[str, Any]:
    """What `own` wins against `other` where a tie counts half, each figure with its interval.

    `columns` names the O scores. `win_rate` and what stands beside it go by the scores weighted as in PPO's reward:
    `win_rate_shorter` over the prompts where the own reply is not the longer one, `win_rate_length_controlled` at equal
    length (`learner.length_control`), `score` and `reference_score` the means of both. `objectives` has the same by
    each score that some vote asked for.
    """
    weights_O = torch.tensor([reward_weights.get(name, 0.0) for name in columns])
    shorter_B = own.lengths_B <= other.lengths_B

    def by(own_B: Tensor, other_B: Tensor) -> dict[str, Any]:
        wins_B = (own_B > other_B) + (own_B == other_B) / 2
        return {
            "win_rate": share(wins_B, confidence),
            "win_rate_shorter": share(wins_B[shorter_B], confidence),
            "win_rate_length_controlled": length_controlled_win_rate(
                wins_B, own.lengths_B, other.lengths_B, confidence
            ),
            "score": estimate(own_B, confidence),
            "reference_score": estimate(other_B, confidence),
        }

    with exactly(weights_O.device):
        weighed = own.scores_B_O @ weights_O, other.scores_B_O @ weights_O
    return by(*weighed) | {
        "objectives": {
            name: by(own.scores_B_O[:, at], other.scores_B_O[:, at])
            for at, name in enumerate(columns)
            if name != OVERALL
        }
    }

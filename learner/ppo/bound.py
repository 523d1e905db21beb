"""A bound on harm while the reward is raised: cost of a reply, and a multiplier that adapts.

Maximise E[reward] subject to E[cost] <= limit, as in Safe-RLHF (Dai et al. 2024, "Safe RLHF: Safe reinforcement
learning from human feedback", equations 9 to 11): PPO raises (reward - multiplier cost) / (1 + multiplier), and the
multiplier follows the violation by projected gradient ascent. Its cost model is our harmless score. Where the paper
moves the logarithm of the multiplier we move the multiplier itself, so that it can be zero while the bound is met.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from feedback.learning_settings import PPOSettings


@dataclass(frozen=True)
class Bound:
    """`limit` on the mean cost of a reply, which is minus its harmless score, or if it `counts_harm` on the share of
    replies whose cost is above zero. PPO lowers the cost itself in both cases: a share gives it nothing to hold on to
    where all replies are harmful."""

    limit: float
    counts_harm: bool
    multiplier: float
    rate: float
    most: float

    @classmethod
    def of(cls, settings: PPOSettings) -> "Bound | None":
        """The bound that the settings ask for."""
        if settings.harm_ceiling is not None:
            limit, counts_harm = settings.harm_ceiling, True
        elif settings.harmless_floor is not None:
            limit, counts_harm = -settings.harmless_floor, False
        else:
            return None
        start = min(settings.multiplier_start, settings.multiplier_max)
        return cls(limit, counts_harm, start, settings.multiplier_rate, settings.multiplier_max)

    def costs(self, harmless_B: Tensor) -> Tensor:
        """Cost [B] of replies by their harmless score in deviations from the mean of held-out replies."""
        return -harmless_B

    def reward(self, reward_B: Tensor, costs_B: Tensor, bound_B: Tensor) -> Tensor:
        """What PPO raises, [B]: the reward less the multiplier times the cost of the replies that are bound."""
        held_B = torch.where(bound_B, costs_B, 0)
        return (reward_B - self.multiplier * held_B) / (1 + self.multiplier)

    def measured(self, costs_B: Tensor, bound_B: Tensor) -> float:
        """What the limit is on: mean cost of the replies that are bound, or the share of harm among them."""
        held = costs_B[bound_B]
        return float((held > 0).float().mean() if self.counts_harm else held.mean())

    def after(self, measured: float) -> "Bound":
        """The bound for the next step: multiplier <- clip(multiplier + rate (measured - limit), 0, most)."""
        moved = self.multiplier + self.rate * (measured - self.limit)
        return replace(self, multiplier=min(max(moved, 0.0), self.most))

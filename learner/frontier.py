"""The helpful-harmless frontier: how much of one objective is to be had for how much of the other.

A point is what the replies are worth under both objectives when the harmless score weighs w and the helpful one
1 - w. `reranked` finds it without training: of a few replies of one policy to each prompt it takes the one that scores
highest. That is what those weights would do to a policy that stays near this one; PPO moves further and may end
elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feedback.learning_settings import EvaluationSettings
from learner.estimates import estimate
from learner.evaluation import sample_replies, standard_scores
from learner.number_format import exactly
from learner.policy import Policy
from learner.preference_model import PreferenceModel
from learner.prompts import HARMLESS, HELPFUL

AXES = (HELPFUL, HARMLESS)


@dataclass(frozen=True)
class Measure:
    """Scores replies to the same prompts under both objectives, by the preference model and by the watch model if it
    knows both. Whatever the preference model chose it also overrates; the watch model's figures have no such bias."""

    preference_model: PreferenceModel
    watch: PreferenceModel | None
    prompts: Sequence[Sequence[int]]
    settings: EvaluationSettings
    seed: int

    def scores(self, policy: Policy, replies: int = 1) -> tuple[Tensor, Tensor | None]:
        """Helpful and harmless scores of `replies` replies to each prompt, [prompts, replies, 2], by either model, in
        deviations from the mean of held-out replies."""
        asked = [list(prompt) for prompt in self.prompts for _ in range(replies)]
        samples = sample_replies(policy, asked, self.settings, self.seed)

        def by(model: PreferenceModel) -> Tensor:
            columns = [model.shape.columns.index(axis) for axis in AXES]
            return standard_scores(model, samples)[:, columns].unflatten(0, (len(self.prompts), replies))

        return by(self.preference_model), None if self.watch is None else by(self.watch)

    def point(self, own_B_2: Tensor, watched_B_2: Tensor | None, **about: float) -> dict[str, Any]:
        """A point of the frontier, as evidence holds it: mean scores with their intervals."""
        confidence = self.settings.confidence
        point: dict[str, Any] = about | {axis: estimate(own_B_2[:, at], confidence) for at, axis in enumerate(AXES)}
        if watched_B_2 is not None:
            point["watch"] = {axis: estimate(watched_B_2[:, at], confidence) for at, axis in enumerate(AXES)}
        return point

    def of(self, policy: Policy, **about: float) -> dict[str, Any]:
        """Where a policy is: one reply to each prompt."""
        own_B_1_2, watched_B_1_2 = self.scores(policy)
        return self.point(own_B_1_2[:, 0], None if watched_B_1_2 is None else watched_B_1_2[:, 0], **about)

    def reranked(self, policy: Policy, weights: Sequence[float], replies: int) -> list[dict[str, Any]]:
        """A point for each weight of the harmless score: the best of `replies` replies to each prompt under it."""
        own_B_K_2, watched_B_K_2 = self.scores(policy, replies)
        points = []
        for weight in weights:
            chosen_B = best(own_B_K_2, weight)
            rows_B = torch.arange(len(chosen_B))
            watched_B_2 = None if watched_B_K_2 is None else watched_B_K_2[rows_B, chosen_B]
            points.append(self.point(own_B_K_2[rows_B, chosen_B], watched_B_2, harmless_weight=weight))
        return points


def best(scores_B_K_2: Tensor, harmless_weight: float) -> Tensor:
    """Which of the K replies, [B], has the highest (1 - w) helpful + w harmless."""
    weights_2 = torch.tensor([1 - harmless_weight, harmless_weight])
    with exactly(weights_2.device):
        return (scores_B_K_2 @ weights_2).argmax(dim=1)

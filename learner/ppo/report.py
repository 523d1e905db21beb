"""What one step of PPO did, in numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.advantages import explained_variance
from learner.ppo.guard import Guard
from learner.ppo.rollout import Rollout
from learner.ppo.update import UpdateTotals


@dataclass(frozen=True)
class PPOStep:
    """What one step did. Means are over the replies of the step, or over their tokens where the name says so."""

    step: int
    steps: int
    reward: float
    """Combined, normalised score less the penalty for missing ends: what PPO raises, before the KL penalty."""
    scores: dict[str, float]
    """Preference score of each objective, and overall."""
    kl_nats: float
    """KL of a reply from the starting policy: sum over its tokens of logp - logp_start."""
    sqrt_kl: float
    """Square root of `kl_nats` (0 where sampling made it negative)."""
    kl_coefficient: float
    length_tokens: float
    finished_share: float
    """Share of replies that ended before the limit."""
    entropy_nats: float
    """Entropy of the policy's next-token distribution, mean over tokens."""
    clipped_share: float
    """Share of tokens whose probability ratio was clipped, mean over updates."""
    update_kl_nats: float
    """KL per token from the policy that sampled to the updated one (k3 estimate), mean over updates."""
    policy_loss: float
    value_loss: float
    value_clipped_share: float
    explained_variance: float
    """Share of the variance of returns that the critic foresaw; 0 without a critic."""
    gradient_norm: float
    """Norm of the policy's gradient before it is scaled down, mean over updates."""
    mismatch_nats: float
    """Mean absolute difference of the sampler's and the trainer's log-probabilities of the same tokens, of those that
    both computed."""
    rehearsal_kl_nats: float | None = None
    """KL per token of the starting policy, at `rehearsal_temperature`, from this one on the starting policy's own
    replies, mean over updates; None where the policy is not held to them."""
    watch_reward: float | None = None
    """`reward` by the watch model, which PPO does not learn from; where it falls while `reward` rises, the policy is
    over-optimised."""
    watch_smoothed: float | None = None
    """The smoothed watch score (less what misses a bound), whose peak is published."""
    bound_cost: float | None = None
    """With a bound: what it is on, the share of harm among the replies it holds for or minus their harmless score."""
    multiplier: float | None = None
    """With a bound: its multiplier in this step."""


def report(
    rollout: Rollout,
    returns_N: Tensor,
    totals: UpdateTotals,
    *,
    step: int,
    steps: int,
    score_names: tuple[str, ...],
    kl_coefficient: float,
    critic: bool,
    guard: Guard | None,
    bound_cost: float | None,
    multiplier: float | None,
) -> PPOStep:
    """The step's numbers, from its rollout, the returns [N] that its critic learnt and the sums of its update."""
    episodes, samples = rollout.episodes, rollout.samples
    kl_nats = rollout.kl_nats
    # Fetched together.
    reward, length_tokens, finished_share, entropy_nats, explained, watch_reward = torch.stack(
        [
            rollout.reward_B.mean(),
            episodes.reply_lengths_B.float().mean(),
            samples.finished_B.float().mean(),
            rollout.entropies_N.mean(),
            explained_variance(rollout.values_N, returns_N),
            (rollout.reward_B if rollout.watch_reward_B is None else rollout.watch_reward_B).mean(),
        ]
    ).tolist()
    return PPOStep(
        step=step,
        steps=steps,
        reward=reward,
        scores=dict(zip(score_names, rollout.scores_B_O.mean(dim=0).tolist(), strict=True)),
        kl_nats=kl_nats,
        sqrt_kl=max(kl_nats, 0.0) ** 0.5,
        kl_coefficient=kl_coefficient,
        length_tokens=length_tokens,
        finished_share=finished_share,
        entropy_nats=entropy_nats,
        clipped_share=totals.per_token("clipped"),
        update_kl_nats=totals.per_token("update_kl"),
        policy_loss=totals.per_token("policy_loss"),
        value_loss=totals.per_token("value_loss"),
        value_clipped_share=totals.per_token("value_clipped"),
        explained_variance=explained if critic else 0.0,
        gradient_norm=totals.per_update("gradient_norm"),
        mismatch_nats=rollout.mismatch_nats,
        rehearsal_kl_nats=totals.per_update("rehearsal_kl") if "rehearsal_kl" in totals.sums else None,
        watch_reward=None if rollout.watch_reward_B is None else watch_reward,
        watch_smoothed=None if guard is None else guard.smoothed,
        bound_cost=bound_cost,
        multiplier=multiplier,
    )

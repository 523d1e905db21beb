"""The losses of preference training and of PPO, as pure functions of tensors."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def preference_loss(margins_C: Tensor, labels_C: Tensor, weights_C: Tensor) -> Tensor:
    """Weighted sum of the cross-entropy of P(side 0 preferred) = sigmoid(margin) against soft labels.

    `margins_C` is score of side 0 minus score of side 1; `labels_C` in [0, 1], 0.5 for a tie; `weights_C` >= 0.
    Per comparison -(y log s(m) + (1 - y) log s(-m)) = softplus(m) - y m. For y in {0, 1} this is the loss
    of Bai et al. 2022, section 3.2. Returns a scalar.
    """
    losses_C = F.softplus(margins_C) - labels_C * margins_C
    return (losses_C * weights_C).sum()


def dpo_margins(logprobs_C_2: Tensor, reference_logprobs_C_2: Tensor, beta: float) -> Tensor:
    """Margins [C] of the implicit rewards of direct preference optimisation: beta ((log p_0 - log q_0) - (log p_1 -
    log q_1)).

    `logprobs_C_2` are the summed log-probabilities of both replies under the policy p, `reference_logprobs_C_2` under
    the policy q that it began from, in nats. The loss is `preference_loss` of the margins. Source: Rafailov et al.
    2023, "Direct preference optimization", equation 7; with soft labels Mitchell 2023, "A note on DPO with noisy
    preferences".
    """
    rewards_C_2 = beta * (logprobs_C_2 - reference_logprobs_C_2)
    return rewards_C_2[:, 0] - rewards_C_2[:, 1]


@dataclass(frozen=True)
class PolicyLoss:
    """Summed loss of a batch, and what it did: both counts are of tokens."""

    total: Tensor
    clipped: Tensor
    approximate_kl: Tensor


def policy_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    clip_range: float,
    importance_weights_N: Tensor | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate, summed over tokens: -w min(rho A, clip(rho, 1 - e, 1 + e) A), rho = exp(logp - old
    logp).

    All arguments are one value per reply token; `importance_weights_N` correct for a foreign sampler (see
    `truncated_importance_weights`). Source: Schulman et al. 2017, equation 7. Also counts the tokens on which the
    clipped term was the smaller, and sums the k3 estimate of KL(old || new), rho - 1 - log rho (Schulman 2020,
    "Approximating KL divergence").
    """
    log_ratios_N = logprobs_N - old_logprobs_N
    ratios_N = log_ratios_N.exp()
    free_N = ratios_N * advantages_N
    clipped_N = ratios_N.clamp(1 - clip_range, 1 + clip_range) * advantages_N
    surrogate_N = torch.minimum(free_N, clipped_N)
    if importance_weights_N is not None:
        surrogate_N = surrogate_N * importance_weights_N
    with torch.no_grad():
        clipped = (clipped_N < free_N).sum()
        approximate_kl = (ratios_N - 1 - log_ratios_N).sum()
    return PolicyLoss(-surrogate_N.sum(), clipped, approximate_kl)


@dataclass(frozen=True)
class ValueLoss:
    """Summed loss of a batch, and the number of tokens on which clipping took over."""

    total: Tensor
    clipped: Tensor


def value_loss(values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, clip_range: float) -> ValueLoss:
    """Clipped squared error, summed over tokens: 1/2 max((V - R)^2, (clip(V, V_old - e, V_old + e) - R)^2).

    Source: the value loss of OpenAI's baselines ppo2, detail 9 in Huang et al. 2022, "The 37 implementation details
    of PPO".
    """
    near_N = old_values_N + (values_N - old_values_N).clamp(-clip_range, clip_range)
    free_N = (values_N - returns_N).square()
    clipped_N = (near_N - returns_N).square()
    with torch.no_grad():
        clipped = (clipped_N > free_N).sum()
    return ValueLoss(0.5 * torch.maximum(free_N, clipped_N).sum(), clipped)


def truncated_importance_weights(trainer_logprobs_N: Tensor, sampler_logprobs_N: Tensor, cap: float) -> Tensor:
    """min(exp(trainer - sampler), cap) per token, without gradient: the correction for replies that another engine
    drew.

    Source: Ionides 2008, "Truncated importance sampling"; for engine mismatch Yao et al. 2025, "Your efficient RL
    framework secretly brings you off-policy RL training".
    """
    return (trainer_logprobs_N - sampler_logprobs_N).detach().exp().clamp(max=cap)

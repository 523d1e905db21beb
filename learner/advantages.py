"""From scores and KL to rewards, advantages and returns, as pure functions of padded tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` (same shape) is True: a scalar. At least one must be True."""
    return torch.where(mask, values, 0).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Shift and scale so that the masked values have mean 0 and population variance 1; zero elsewhere. Any one
    shape."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    return torch.where(mask, (values - mean) * torch.rsqrt(variance + epsilon), 0)


def kl_shaped_rewards(kl_B_R: Tensor, scores_B: Tensor, mask_B_R: Tensor, coefficient: float) -> Tensor:
    """Reward per token: -coefficient times the k1 estimate logp - logp_start at each token, plus the score at the
    last one.

    `mask_B_R` is True on reply tokens, which fill each row from the left, at least one a row. Zero on padding.
    Source: Stiennon et al. 2020, appendix B.1; Bai et al. 2022, equation 4.1.
    """
    rewards_B_R = torch.where(mask_B_R, -coefficient * kl_B_R, 0)
    last_B_1 = mask_B_R.sum(dim=1, keepdim=True) - 1
    return rewards_B_R.scatter_add(1, last_B_1, scores_B.to(rewards_B_R.dtype)[:, None])


def gae(
    rewards_B_R: Tensor, values_B_R: Tensor, mask_B_R: Tensor, discount: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation within each reply; the reply's last token ends the episode.

    d_t = r_t + discount V_{t+1} - V_t with V = 0 after the last token; A_t = d_t + discount lambda A_{t+1};
    returns R_t = A_t + V_t. `values_B_R[:, t]` is the value before token t. Both results are [B, R], zero on padding.
    Source: Schulman et al. 2016, equations 11 to 16.
    """
    values_B_R = torch.where(mask_B_R, values_B_R, 0)
    next_values_B_R = F.pad(values_B_R[:, 1:], (0, 1))
    # A_t begins as d_t, which is zero on padding, and is added to from the end of the row on.
    errors_B_R = torch.where(mask_B_R, rewards_B_R + discount * next_values_B_R - values_B_R, 0)
    advantages_R_B = errors_B_R.T.contiguous()
    for t in reversed(range(len(advantages_R_B) - 1)):
        advantages_R_B[t].add_(discount * lambda_ * advantages_R_B[t + 1])
    advantages_B_R = advantages_R_B.T.contiguous()
    return advantages_B_R, advantages_B_R + values_B_R


def leave_one_out_advantages(returns_B: Tensor, replies_per_prompt: int) -> Tensor:
    """RLOO: a reply's return minus the mean return of the other replies to the same prompt.

    `returns_B` holds the k replies of each prompt next to each other, k = `replies_per_prompt` >= 2. Same shape back.
    Source: Ahmadian et al. 2024, "Back to basics", equation 8.
    """
    groups_B_k = returns_B.view(-1, replies_per_prompt)
    others_B_k = (groups_B_k.sum(dim=1, keepdim=True) - groups_B_k) / (replies_per_prompt - 1)
    return (groups_B_k - others_B_k).view(-1)


def group_relative_advantages(returns_B: Tensor, replies_per_prompt: int, epsilon: float = 1e-3) -> Tensor:
    """GRPO: a reply's return standardised within the replies to the same prompt (sample standard deviation).

    The same reply looked at in another piece has a return that is rounded otherwise, by some 1e-4: `epsilon`, which is
    added to the deviation, keeps that from counting as much as what replies differ by.
    Layout as in `leave_one_out_advantages`. Source: Shao et al. 2024, "DeepSeekMath", section 4.1.2.
    """
    groups_B_k = returns_B.view(-1, replies_per_prompt)
    mean_B_1 = groups_B_k.mean(dim=1, keepdim=True)
    return ((groups_B_k - mean_B_1) / (groups_B_k.std(dim=1, keepdim=True) + epsilon)).view(-1)


def explained_variance(values_N: Tensor, returns_N: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns); 0 where the returns do not vary. A scalar."""
    variance = returns_N.var(unbiased=False)
    unexplained = (returns_N - values_N).var(unbiased=False) / variance
    return torch.where(variance == 0, 0, 1 - unexplained)

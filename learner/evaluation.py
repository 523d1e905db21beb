"""What is measured of a candidate before anybody promotes it: replies on held-out prompts, against a reference policy.

The judge is the preference model, so these figures say how far PPO got by its own measure. Gold judgement comes from
people.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from feedback.learning_settings import EvaluationSettings
from learner.hardware import matmul_precision
from learner.language_model import reply_logprobs
from learner.policy import Message, Policy
from learner.preference_model import PreferenceModel
from learner.sampler import Samples, TorchSampler

ROWS_PER_FORWARD = 64


def evaluate(
    candidate: Policy,
    reference: Policy,
    preference_model: PreferenceModel,
    prompts: Sequence[Sequence[Message]],
    settings: EvaluationSettings,
    *,
    reward_weights: Mapping[str, float],
    max_prompt_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """Sample a reply of each policy to each prompt and compare them. Plain JSON, each figure documented here.

    `win_rate` is the share of prompts where the candidate's weighted score is higher (a tie counts half), with its
    interval; `objectives` has the same per objective. `kl_nats` is the KL of the candidate's reply from the reference's
    distribution, in nats a reply, estimated on the candidate's samples. `length_ratio` is tokens against tokens,
    `win_rate_shorter` the win rate where the candidate's reply is not the longer one.
    """
    chosen = _spaced(prompts, settings.prompts)
    encoded = [candidate.encode_chat(messages)[-max_prompt_tokens:] for messages in chosen]
    with matmul_precision(settings.matmul_precision, candidate.model):
        # The same stream of random numbers for both: where the policies agree, so do the replies.
        own, other = (
            TorchSampler(policy.model, policy.end_ids).sample(
                encoded, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed
            )
            for policy in (candidate, reference)
        )
        own_B_O, other_B_O = (_scores(preference_model, samples) for samples in (own, other))
        kl_B = _kl(candidate, reference, own)
    weights_O = torch.tensor([reward_weights.get(name, 0.0) for name in preference_model.shape.columns])
    wins_B_O = _wins(own_B_O, other_B_O)
    wins_B = _wins(own_B_O @ weights_O, other_B_O @ weights_O)
    lengths_B, other_lengths_B = own.episodes.reply_lengths_B.cpu(), other.episodes.reply_lengths_B.cpu()
    shorter_B = lengths_B <= other_lengths_B
    return {
        "prompts": len(chosen),
        "win_rate": estimate(wins_B, settings.confidence),
        "win_rate_shorter": estimate(wins_B[shorter_B], settings.confidence),
        "objectives": {
            name: {
                "win_rate": estimate(wins_B_O[:, index], settings.confidence),
                "score": estimate(own_B_O[:, index], settings.confidence),
                "reference_score": estimate(other_B_O[:, index], settings.confidence),
            }
            for index, name in enumerate(preference_model.shape.objectives)
        },
        "kl_nats": float(kl_B.mean()),
        "kl_nats_interval": estimate(kl_B, settings.confidence)["interval"],
        "length_tokens": float(lengths_B.float().mean()),
        "reference_length_tokens": float(other_lengths_B.float().mean()),
        "length_ratio": float(lengths_B.sum() / other_lengths_B.sum()),
        "finished_share": float(own.finished_B.float().mean()),
    }


def estimate(values_B: Tensor, confidence: float) -> dict[str, Any]:
    """Mean of independent values with its normal interval: `{"value", "interval", "count"}`; nulls where there is none.

    A mean of shares at 0 or 1 gets the Wilson interval's width there, so that no interval is empty.
    """
    count = len(values_B)
    if count == 0:
        return {"value": None, "interval": None, "count": 0}
    mean = float(values_B.double().mean())
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    deviation = float(values_B.double().std(unbiased=False))
    half = z * deviation / math.sqrt(count) if deviation > 0 else z * z / (count + z * z)
    low, high = mean - half, mean + half
    if bool(((values_B >= 0) & (values_B <= 1)).all()):
        low, high = max(0.0, low), min(1.0, high)
    return {"value": mean, "interval": [low, high], "count": count}


def _spaced(prompts: Sequence[Sequence[Message]], count: int) -> list[Sequence[Message]]:
    if len(prompts) <= count:
        return list(prompts)
    return [prompts[index * len(prompts) // count] for index in range(count)]


def _wins(own: Tensor, other: Tensor) -> Tensor:
    return (own > other).float() + (own == other).float() / 2


@torch.no_grad()
def _scores(preference_model: PreferenceModel, samples: Samples) -> Tensor:
    """Scores [B, O] in units of their deviation, on the CPU."""
    rows = torch.arange(len(samples.episodes), device=samples.episodes.tokens_B_T.device)
    scores = [preference_model.score(samples.episodes.take(index_B)) for index_B in rows.split(ROWS_PER_FORWARD)]
    return (torch.cat(scores) / preference_model.scale_O).cpu()


@torch.no_grad()
def _kl(candidate: Policy, reference: Policy, samples: Samples) -> Tensor:
    """Sum over each reply's tokens of logp - logp_reference, [B] in nats, on the CPU."""
    rows = torch.arange(len(samples.episodes), device=samples.episodes.tokens_B_T.device)
    sums = []
    for index_B in rows.split(ROWS_PER_FORWARD):
        piece = samples.episodes.take(index_B)
        own_N, other_N = (reply_logprobs(policy.model, piece).logprobs_N for policy in (candidate, reference))
        sums.append(piece.unpack(own_N - other_N).sum(dim=1).cpu())
    return torch.cat(sums)
